//! One call of a session: what it works with, and how much work it may do before others have their turn.

use crate::clock::Now;
use crate::engine::Found;
use crate::server::output::Output;
use crate::stats::Counters;

/// What a session works with during one call.
pub struct Turn<'t, 'e> {
    /// Where replies go.
    pub output: &'t mut Output<Found<'e>>,
    /// Where it counts.
    pub counters: &'e Counters,
    /// The time of all commands of this call.
    pub now: Now,
    /// Work that may still be done before others have their turn; see [`Turn::work_for`].
    pub work_left: &'t mut u32,
}

/// What a command counts for.
pub(super) const COMMAND_WORK: u32 = 16;

/// What an ordinary look-up counts for that finds nothing or a short value, in a multiget or not: a batch of them goes
/// out in one send. A longer value counts more.
pub(super) const KEY_WORK: u32 = 1;

impl Turn<'_, '_> {
    /// The work of this many commands. A multiget is one command, but a long one is worth several,
    /// so that a line of thousands of keys does not keep others waiting.
    pub fn work_for(commands: u32) -> u32 {
        commands.saturating_mul(COMMAND_WORK)
    }

    /// Notes work that was done.
    pub(super) fn spend(&mut self, work: u32) {
        *self.work_left = self.work_left.saturating_sub(work);
    }
}
