//! Values that arrive in pieces: begun, taken in as they come, answered once complete.
//!
//! Part of [`Session`], which comes here with a storage command whose data block is not there yet. A
//! value that is large is written into the store as it arrives ([`Incoming`]); any other is waited
//! for in the connection's buffer, and one that is refused is passed over.
//!
//! Invariant: of a value that has not arrived in full nobody sees anything, and its header can be read
//! again as it came.

use super::parked::Passing;
use super::{COMMAND_WORK, Next, Reply, Session, Step, Turn, Upload, after_refusal, store};
use crate::engine::Begin;
use crate::protocol::command::Decoded;
use crate::protocol::error::Error;
use crate::protocol::meta::KeyRoom;

/// A large value that is being written as it arrives.
pub(super) struct Incoming<'e> {
    pub(super) value: store::Arriving<'e>,
    /// All before the value, as it came: a command line at most, or a frame's beginning.
    header: Box<[u8]>,
    line_end_bytes: usize,
}

impl<'e> Incoming<'e> {
    /// One of which `header` has been read as `upload`.
    pub(super) fn new(
        value: store::Arriving<'e>,
        header: &[u8],
        upload: &Upload<'_>,
    ) -> Incoming<'e> {
        Incoming {
            value,
            header: header[..upload.header_bytes].into(),
            line_end_bytes: upload.line_end_bytes,
        }
    }

    /// Puts the bytes that begin it anew in front of `input`. The value goes with them, unless its put
    /// has an outcome already: of such a one nothing has been kept.
    pub(super) fn park(self, input: &mut Vec<u8>) -> Option<Passing> {
        let mut front = Vec::from(self.header);
        let passing = match self.value {
            store::Arriving::Into(upload) => {
                upload.append_to(&mut front);
                None
            }
            store::Arriving::Past { missing, outcome } => Some(Passing { missing, outcome }),
        };
        front.append(input);
        *input = front;
        passing
    }
}

impl<'e> Session<'e> {
    /// Begins with the storage command at the front of `input`, whose value is still to come.
    pub(super) fn begin(
        &mut self,
        input: &[u8],
        upload: &Upload<'_>,
        turn: &mut Turn<'_, 'e>,
    ) -> Next {
        if !self.admitted {
            let bytes = self.refuse(upload, Error::AuthenticationFailure, turn);
            return after_refusal(&upload.envelope.form, bytes);
        }
        if self.read_only {
            return Next::Consumed(self.refuse_upload(upload, turn));
        }
        let value_bytes = upload.value_bytes as usize;
        match self
            .engine
            .begin_store(&upload.store, value_bytes, turn.counters, turn.now)
        {
            Begin::Buffer => Next::Stop(Step::Read {
                wanted: upload.header_bytes + value_bytes + upload.line_end_bytes,
            }),
            Begin::Stream(value) => {
                turn.spend(COMMAND_WORK);
                self.incoming = Some(Box::new(Incoming::new(value, input, upload)));
                Next::Consumed(upload.header_bytes)
            }
            Begin::Refuse(error) => Next::Consumed(self.refuse(upload, error, turn)),
        }
    }

    /// A data block without its end: a value that is too large is told so first, as in memcached,
    /// which never looks at the end of what it skips.
    pub(super) fn reject(&mut self, upload: &Upload<'_>, turn: &mut Turn<'_, 'e>) -> Next {
        turn.spend(COMMAND_WORK);
        if self.read_only {
            return Next::Consumed(self.refuse_upload(upload, turn));
        }
        let value_bytes = upload.value_bytes as usize;
        let too_large =
            self.engine
                .refuse_if_too_large(&upload.store, value_bytes, turn.counters, turn.now);
        let error = too_large.unwrap_or(Error::BadDataChunk);
        Next::Consumed(self.refuse(upload, error, turn))
    }

    /// Answers a storage command with an error and skips its data block; gives its line's length.
    pub(super) fn refuse(
        &mut self,
        upload: &Upload<'_>,
        error: Error,
        turn: &mut Turn<'_, 'e>,
    ) -> usize {
        self.answer(&upload.envelope, Reply::Error(error), turn);
        self.skip = u64::from(upload.value_bytes) + upload.line_end_bytes as u64;
        upload.header_bytes
    }

    /// Writes what has arrived of a large value, and answers once its line end is there too. Gives
    /// the bytes that are done with.
    pub(super) fn take_in(&mut self, input: &[u8], turn: &mut Turn<'_, 'e>) -> usize {
        let Some(mut incoming) = self.incoming.take() else {
            return 0;
        };
        let taken = incoming.value.missing().min(input.len());
        incoming.value.write(&input[..taken]);
        let line_end_bytes = incoming.line_end_bytes;
        let end = input.get(taken..taken + line_end_bytes);
        let Some(end) = end.filter(|_| incoming.value.missing() == 0) else {
            self.incoming = Some(incoming);
            return taken;
        };
        self.finish(*incoming, end, turn);
        taken + line_end_bytes
    }

    /// Answers a large value that is complete up to its line end, whatever that is.
    fn finish(&mut self, incoming: Incoming<'e>, end: &[u8], turn: &mut Turn<'_, 'e>) {
        let room = KeyRoom::default();
        let header = self
            .codec
            .decode(&incoming.header, &room, self.rules.binary_strict);
        let Decoded::NeedBody(Upload {
            store, envelope, ..
        }) = header
        else {
            debug_assert!(false, "a header is read as it was when it came");
            return;
        };
        let reply = if self.read_only {
            // Since it began.
            return self.refuse_incoming(&envelope, turn);
        } else if matches!(end, b"\r\n" | b"") {
            self.engine
                .finish_store(incoming.value, &store, turn.counters, turn.now)
        } else {
            Reply::Error(Error::BadDataChunk)
        };
        self.answer(&envelope, reply, turn);
    }
}
