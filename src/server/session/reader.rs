//! What a client that may only read is answered to what would write.
//!
//! Part of [`Session`], which comes here before the engine is asked; `server::access` says who such a
//! client is, and may change its mind between two turns.
//!
//! Invariants:
//! - of such a client nothing that [`Command::writes`] reaches the engine, in no protocol and in no
//!   pieces: the data block is passed over, and the old value stays, also where memcached would drop it;
//! - a look-up that finds an item stale leaves making it anew to somebody who can;
//! - a refused `SET` of keystonemiddleware's is told as stored, as all its failures are.

use super::{
    COMMAND_WORK, Command, Envelope, Error, Form, Next, Reply, Request, Session, Turn, Upload,
};

impl<'e> Session<'e> {
    /// Carries a request out if it only reads.
    #[cold]
    pub(super) fn read(&mut self, request: &Request<'_>, turn: &mut Turn<'_, 'e>) -> Next {
        if request.command.writes() {
            let envelope = &request.envelope;
            let is_key_of_line = matches!(request.command, Command::Get { terms: None, .. })
                && envelope.form == Form::Classic;
            // A line of several keys is one command, and told once.
            if !is_key_of_line || envelope.ends_run {
                self.refuse_write(&request.envelope, turn);
            }
            return Next::Consumed(request.consumed);
        }
        match request.command {
            Command::Get {
                key,
                touch,
                terms: Some(mut terms),
            } => {
                terms.only_reads = true;
                let terms = Some(terms);
                self.carry_out(&Command::Get { key, touch, terms }, request, turn)
            }
            ref command => self.carry_out(command, request, turn),
        }
    }

    /// Refuses a storage command whose value is still to come; gives its header's length.
    #[cold]
    pub(super) fn refuse_upload(&mut self, upload: &Upload<'_>, turn: &mut Turn<'_, 'e>) -> usize {
        turn.spend(COMMAND_WORK);
        turn.counters.access_write_refused.add(1);
        self.refuse(upload, Error::WritingNotAllowed, turn)
    }

    /// Refuses a large value that has arrived meanwhile.
    #[cold]
    pub(super) fn refuse_incoming(&self, envelope: &Envelope<'_>, turn: &mut Turn<'_, 'e>) {
        self.refuse_write(envelope, turn);
    }

    fn refuse_write(&self, envelope: &Envelope<'_>, turn: &mut Turn<'_, 'e>) {
        turn.counters.access_write_refused.add(1);
        self.answer(envelope, Reply::Error(Error::WritingNotAllowed), turn);
    }
}
