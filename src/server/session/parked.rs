//! A conversation between two calls, parked for another process to resume.
//!
//! `connection` parks a [`Session`] when its server hands over, `handover::state` carries what it gives,
//! and the successor's `connection` resumes it. A request of which not all has arrived has had no effect, so
//! it is handed on as the bytes that came, to be decoded anew, a large value's among them.
//! What is left is what no bytes say any more ([`Parked`]).
//!
//! The exception is a large value that goes by, since its put has an outcome already: its bytes
//! have not been kept, and deciding anew could store what is not there. So its header is handed on, and
//! beside it the outcome and how much is to go by yet.
//!
//! Invariants:
//! - a conversation that was parked and resumed gives the same replies to the same bytes;
//! - who need not say who it was, and has to now, has not said it;
//! - what does not fit together is refused, whatever it is: nothing here is trusted.

use serde::{Deserialize, Serialize};

use super::incoming::Incoming;
use super::{Codec, Rules, Session};
use crate::engine::Engine;
use crate::protocol::command::Decoded;
use crate::protocol::meta::KeyRoom;
use crate::store::{Arriving, Cause, Outcome};

/// What a session is, but for the bytes that it goes on with; nothing in it is a client's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Parked {
    codec: Codec,
    /// The client has said who it is, where it had to.
    authenticated: bool,
    sasl_begun: bool,
    refusals: u32,
    skip: u64,
    passing: Option<Passing>,
}

/// A large value that goes by.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Passing {
    /// Bytes that have not gone by yet.
    pub(super) missing: usize,
    #[serde(with = "OutcomeForm")]
    pub(super) outcome: Outcome,
}

/// The written form of the store's [`Outcome`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "Outcome")]
enum OutcomeForm {
    Stored {
        cas_unique: u64,
        #[serde(skip)]
        left: Option<Cause>,
    },
    NotStored,
    Exists,
    NotFound,
}

impl Parked {
    /// Whether a new session on the same listener would go on as this one, given the bytes that it goes
    /// on with: nothing is begun, and nothing is known of the client.
    pub fn is_as_new(&self) -> bool {
        let begun = self.skip > 0 || self.passing.is_some() || self.codec.in_run();
        let known = self.authenticated || self.sasl_begun || self.refusals > 0;
        !begun && !known
    }
}

impl<'e> Session<'e> {
    /// Ends the session so that another can go on where it stands. `input` is what its caller has kept
    /// for it; what the session has taken of a request that is not complete is put in front of it.
    /// Copies a large value that is arriving out of the store.
    pub fn park(self, input: &mut Vec<u8>) -> Parked {
        let passing = self.incoming.and_then(|incoming| incoming.park(input));
        Parked {
            codec: self.codec,
            authenticated: self.admitted && self.rules.users.is_some(),
            sasl_begun: self.sasl_begun,
            refusals: self.refusals,
            skip: self.skip,
            passing,
        }
    }

    /// Goes on where another session has been parked, under rules that may be others: what has been
    /// decided stays so. `input` is what it is to be called with first; what it need not be called with
    /// is taken off. `None` if the two do not fit together.
    pub fn resume(
        engine: &'e Engine,
        rules: Rules<'e>,
        parked: Parked,
        input: &mut Vec<u8>,
    ) -> Option<Session<'e>> {
        let mut session = Session::new(engine, rules);
        if !matches!(parked.codec, Codec::Undecided) {
            session.codec = parked.codec;
        }
        if !session.codec.goes_on_with(input) {
            return None;
        }
        session.admitted |= parked.authenticated;
        session.sasl_begun = parked.sasl_begun;
        session.refusals = parked.refusals;
        session.skip = parked.skip;
        if let Some(passing) = parked.passing {
            session.let_pass(passing, input)?;
        }
        Some(session)
    }

    /// Goes on with a large value that goes by, whose header is at the front of `input`.
    fn let_pass(&mut self, passing: Passing, input: &mut Vec<u8>) -> Option<()> {
        let Passing { missing, outcome } = passing;
        if input.is_empty() {
            return None;
        }
        let room = KeyRoom::default();
        let header = self.codec.decode(input, &room, self.rules.binary_strict);
        let Decoded::NeedBody(upload) = header else {
            return None;
        };
        let is_stored = matches!(outcome, Outcome::Stored { .. });
        if is_stored || missing > upload.value_bytes as usize {
            return None;
        }
        let value = Arriving::Past { missing, outcome };
        let incoming = Incoming::new(value, input, &upload);
        let header_bytes = upload.header_bytes;
        input.drain(..header_bytes);
        self.incoming = Some(Box::new(incoming));
        Some(())
    }
}
