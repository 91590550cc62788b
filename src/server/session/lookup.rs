//! Ordinary look-ups, answered without a detour by a command and its reply, as many in a row as there are.
//!
//! [`Session::advance`] comes here before it decodes anything. The loop is a function of its own, and small: with
//! that it runs from the processor's registers, which is a quarter of its cost.

use super::{COMMAND_WORK, KEY_WORK, Session, Turn};
use crate::engine::{Answer, Found};
use crate::protocol::classic::{encode_end, encode_lent, encode_value};
use crate::protocol::reply::{Hit, Unreadable};
use crate::server::output::Output;

/// Bytes of a value that count as much as a short look-up: one of 16 KiB counts as a command.
const BYTES_A_WORK: u32 = 1 << 10;

/// Writes values into a connection's output.
struct Values<'o, 'e> {
    output: &'o mut Output<Found<'e>>,
    with_cas: bool,
    /// What answering has cost, as [`Turn::work_left`] counts it.
    work: u32,
}

impl<'e> Answer<'e> for Values<'_, 'e> {
    #[inline(always)]
    fn lent(&mut self, hit: Hit<'_, &[u8]>) {
        self.work += hit.value.len() as u32 / BYTES_A_WORK;
        encode_lent(hit, self.with_cas, self.output);
    }

    fn found(&mut self, hit: Hit<'_, Found<'e>>) -> Result<(), Unreadable> {
        self.work = COMMAND_WORK;
        encode_value(hit, self.with_cas, self.output)
    }
}

impl<'e> Session<'e> {
    /// Answers the ordinary look-ups at the front of `input`, as far as the output and the work that may be done go;
    /// gives how many bytes of the input that was.
    #[inline(never)]
    pub(super) fn look_up(&mut self, input: &[u8], turn: &mut Turn<'_, 'e>) -> usize {
        // Who may have to be turned away, and what others watch, is looked at closer.
        if !self.admitted || self.rules.sasl || self.engine.is_watched() {
            return 0;
        }
        let engine = self.engine;
        let mut consumed = 0;
        let mut work_left = *turn.work_left;
        while work_left > 0
            && !turn.output.is_full()
            && let Some(lookup) = self.codec.lookup(&input[consumed..])
        {
            let mut values = Values {
                output: turn.output,
                with_cas: lookup.with_cas,
                work: KEY_WORK,
            };
            engine.look_up(lookup.key, turn.counters, turn.now, &mut values);
            work_left = work_left.saturating_sub(values.work);
            if lookup.ends_run {
                encode_end(turn.output);
            }
            consumed += lookup.consumed;
        }
        *turn.work_left = work_left;
        consumed
    }
}
