//! The gate before authentication: what is answered to a client that has not said who it is.
//!
//! Part of [`Session`], which comes here before the engine is asked.
//!
//! Invariants:
//! - of such a client nothing reaches the engine but VERSION, in no protocol and in no pieces;
//! - a refused `SET` of keystonemiddleware's changes nothing, though it is told otherwise.

use super::{
    Bad, COMMAND_WORK, Command, Envelope, Error, Failure, Form, NOTHING_STORED, Next, Recovery,
    Reply, Request, Session, Step, Turn, failure_of,
};
use crate::protocol::auth::{self, Attempt, Credentials};
use crate::protocol::command::Sasl;
use crate::server::auth::delay;

/// The opcodes that a client may use to say who it is.
const SASL_OPCODES: [u8; 3] = [0x20, 0x21, 0x22];

impl<'e> Session<'e> {
    /// Reads the `set` with which a text client says who it is.
    pub(super) fn authenticate(&mut self, input: &[u8], turn: &mut Turn<'_, 'e>) -> Next {
        let (answer, bytes) = match auth::decode(input) {
            Attempt::NeedMore => return Next::Stop(Step::Read { wanted: 0 }),
            Attempt::Close => return Next::Stop(Step::Close),
            Attempt::Refused(error, bytes) => (Reply::Error(error), bytes),
            Attempt::Given(credentials, bytes) => {
                if !self.admit(&credentials, turn) {
                    return self.refuse_password(Envelope::default(), bytes, turn);
                }
                (Reply::Stored(NOTHING_STORED), bytes)
            }
        };
        turn.spend(COMMAND_WORK);
        self.answer(&Envelope::default(), answer, turn);
        Next::Consumed(bytes)
    }

    /// Answers a binary request that the engine is not to see: a step of SASL, and all else before that
    /// has succeeded. `None` for one that goes on to the engine.
    #[cold]
    pub(super) fn turn_away(
        &mut self,
        request: &Request<'_>,
        turn: &mut Turn<'_, 'e>,
    ) -> Option<Next> {
        let envelope = request.envelope;
        match request.command {
            Command::Sasl(sasl) if self.rules.sasl => {
                Some(self.sasl(sasl, envelope, request.consumed, turn))
            }
            Command::Version => None,
            _ if self.admitted => None,
            _ => {
                self.answer(&envelope, Reply::Error(Error::AuthenticationFailure), turn);
                Some(after_refusal(&envelope.form, request.consumed))
            }
        }
    }

    /// One step of SASL, of which PLAIN has one; a client may leave its message to a second.
    fn sasl(
        &mut self,
        sasl: Sasl<'_>,
        envelope: Envelope<'_>,
        consumed: usize,
        turn: &mut Turn<'_, 'e>,
    ) -> Next {
        let begun = std::mem::take(&mut self.sasl_begun);
        let message = match sasl {
            Sasl::ListMechanisms => {
                self.answer(&envelope, Reply::Mechanisms(auth::PLAIN), turn);
                return Next::Consumed(consumed);
            }
            Sasl::Start { mechanism, message }
                if mechanism.eq_ignore_ascii_case(auth::PLAIN.as_bytes()) =>
            {
                if message.0.is_empty() {
                    self.sasl_begun = true;
                    self.answer(&envelope, Reply::Continue, turn);
                    return Next::Consumed(consumed);
                }
                Some(message)
            }
            Sasl::Step { message } if begun => Some(message),
            Sasl::Start { .. } | Sasl::Step { .. } => None,
        };
        let credentials = message.and_then(|message| auth::plain(message.0));
        let admitted = credentials.is_some_and(|credentials| self.admit(&credentials, turn));
        if !admitted {
            return self.refuse_password(envelope, consumed, turn);
        }
        self.answer(&envelope, Reply::Authenticated, turn);
        Next::Consumed(consumed)
    }

    fn admit(&mut self, credentials: &Credentials<'_>, turn: &Turn<'_, 'e>) -> bool {
        let admitted = self
            .rules
            .users
            .is_some_and(|users| users.admit(credentials));
        if admitted {
            turn.counters.auth_cmds.add(1);
            self.admitted = true;
        }
        admitted
    }

    /// Answers a wrong password, or what is none, later than a right one.
    fn refuse_password(
        &mut self,
        envelope: Envelope<'_>,
        consumed: usize,
        turn: &mut Turn<'_, 'e>,
    ) -> Next {
        turn.counters.auth_cmds.add(1);
        turn.counters.auth_errors.add(1);
        self.admitted = false;
        self.refusals = self.refusals.saturating_add(1);
        self.answer(&envelope, Reply::Error(Error::AuthenticationFailure), turn);
        Next::Pause(consumed, delay(self.refusals))
    }
}

/// Bad input of a binary client that has not said who it is: it is told that first, as in memcached, but
/// for what cannot be a request, and for a step of SASL.
pub(super) fn unadmitted(bad: Bad) -> Bad {
    let is_sasl = matches!(bad.form, Form::Binary(frame) if SASL_OPCODES.contains(&frame.opcode));
    let is_request =
        matches!(bad.recovery, Recovery::Skip(_)) || bad.reply == Some(Error::BadFormat);
    if is_sasl || !is_request {
        return bad;
    }
    Bad {
        reply: Some(Error::AuthenticationFailure),
        recovery: Recovery::Close,
        ..bad
    }
}

/// A client that is told that it may not speak is hung up on, as in memcached; one that is not told goes
/// on.
pub(super) fn after_refusal(form: &Form<'_>, consumed: usize) -> Next {
    match failure_of(form) {
        Failure::Told => Next::Stop(Step::Close),
        Failure::AsStored | Failure::AsMiss => Next::Consumed(consumed),
    }
}
