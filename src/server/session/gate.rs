//! The gate before authentication: what is answered to a client that has not said who it is.
//!
//! Part of [`Session`], which comes here before the engine is asked.
//!
//! Invariants:
//! - of such a client nothing reaches the engine but VERSION, in no protocol and in no pieces;
//! - a refused `SET` of keystonemiddleware's changes nothing, though it is told otherwise.

use super::{
    Bad, COMMAND_WORK, Command, Envelope, Error, Failure, Form, NOTHING_STORED, Next, Pause,
    Recovery, Reply, Request, Session, Step, Turn, failure_of,
};
use crate::engine::Found;
use crate::protocol::auth::{self, Attempt, Credentials};
use crate::protocol::command::Sasl;
use crate::server::auth::Verdict;

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
                let welcome = (Reply::Stored(NOTHING_STORED), Envelope::default());
                return self.judge(Some(credentials), welcome, bytes, turn);
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
        if sasl == Sasl::ListMechanisms {
            self.answer(&envelope, Reply::Mechanisms(auth::PLAIN), turn);
            return Next::Consumed(consumed);
        }
        let begun = std::mem::take(&mut self.sasl_begun);
        let message = match sasl {
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
            Sasl::ListMechanisms | Sasl::Start { .. } | Sasl::Step { .. } => None,
        };
        let credentials = message.and_then(|message| auth::plain(message.0));
        self.judge(
            credentials,
            (Reply::Authenticated, envelope),
            consumed,
            turn,
        )
    }

    /// Answers a user and a password, or what is none: a wrong one later than a right one.
    fn judge(
        &mut self,
        credentials: Option<Credentials<'_>>,
        (welcome, envelope): (Reply<'_, Found<'e>>, Envelope<'_>),
        consumed: usize,
        turn: &mut Turn<'_, 'e>,
    ) -> Next {
        let judged = self
            .rules
            .users
            .map(|users| users.judge(credentials.as_ref(), self.refusals, turn.now.seconds));
        // Without users, nobody comes here.
        let Some(Verdict { admitted, pause }) = judged else {
            return Next::Stop(Step::Close);
        };
        turn.counters.auth_cmds.add(1);
        self.admitted = admitted;
        let reply = if admitted {
            welcome
        } else {
            turn.counters.auth_errors.add(1);
            self.refusals = self.refusals.saturating_add(1);
            Reply::Error(Error::AuthenticationFailure)
        };
        self.answer(&envelope, reply, turn);
        if pause.is_zero() {
            return Next::Consumed(consumed);
        }
        Next::Pause(
            consumed,
            Pause {
                pause,
                wrong: !admitted,
            },
        )
    }
}

/// Bad input of a client that may speak: a step of SASL is unknown where that is off, however bad.
pub(super) fn admitted(bad: Bad, sasl: bool) -> Bad {
    match bad.recovery {
        Recovery::Skip(_) if !sasl && is_sasl(&bad) => Bad {
            reply: Some(Error::UnknownCommand),
            ..bad
        },
        _ => bad,
    }
}

fn is_sasl(bad: &Bad) -> bool {
    matches!(bad.form, Form::Binary(frame) if SASL_OPCODES.contains(&frame.opcode))
}

/// Bad input of a binary client that has not said who it is: it is told that first, as in memcached, but
/// for what cannot be a request, and for a step of SASL.
pub(super) fn unadmitted(bad: Bad) -> Bad {
    let is_request =
        matches!(bad.recovery, Recovery::Skip(_)) || bad.reply == Some(Error::BadFormat);
    if is_sasl(&bad) || !is_request {
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
