//! An open loop: requests come when they come, whether the server has answered the ones before or not.
//!
//! Arrival `k` is due `k / rate` seconds after the beginning, on connection `k` modulo their number. A [`Clock`] hands
//! each out when it is due; it waits in its connection's queue while that is busy, and its latency is counted from when
//! it was due. So a server that stalls is charged for all who would have come meanwhile (no coordinated omission:
//! Tene, "How NOT to Measure Latency").
//!
//! Invariant: an arrival is sent once or counted as not sent. One that still waits at the end is not sent, and counts
//! with the time for which it has waited, so that the percentiles have it.

use super::plan::Plan;
use crate::tool::Error;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Where a connection takes its arrivals from: when each was due.
pub type Queue = UnboundedReceiver<Instant>;

/// The thread that hands arrivals out: the runtime's timers know milliseconds only.
#[derive(Debug)]
pub struct Clock(JoinHandle<()>);

impl Clock {
    /// Begins to hand out the arrivals of a plan to so many connections, until its time is over or nobody takes them
    /// any more.
    ///
    /// # Errors
    /// [`Error::System`] without a thread.
    pub fn start(
        plan: Arc<Plan>,
        rate: f64,
        connections: usize,
    ) -> Result<(Clock, Vec<Queue>), Error> {
        let (senders, queues): (Vec<_>, Vec<_>) =
            (0..connections).map(|_| unbounded_channel()).unzip();
        let thread = std::thread::Builder::new().name("arrivals".to_owned());
        let clock = thread.spawn(move || hand_out(&plan, rate, &senders));
        let clock = clock.map_err(|why: io::Error| Error::System("start a thread", why))?;
        Ok((Clock(clock), queues))
    }

    /// Waits until it has ended.
    pub fn join(self) {
        // A panic in it has been reported already.
        let _ = self.0.join();
    }
}

fn hand_out(plan: &Plan, rate: f64, queues: &[UnboundedSender<Instant>]) {
    // The kernel would wake it fifty microseconds late, to save wake-ups.
    let _ = nix::sys::prctl::set_timerslack(1);
    for (number, queue) in queues.iter().cycle().enumerate() {
        let due = due(plan.begun, rate, number as u64);
        if plan.is_over(due) {
            return;
        }
        if let Some(early) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(early);
        }
        if queue.send(due).is_err() {
            return;
        }
    }
}

/// When the arrival of this number is due.
fn due(begun: Instant, rate: f64, number: u64) -> Instant {
    begun + Duration::from_secs_f64(number as f64 / rate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::load::Options;

    #[test]
    fn each_arrival_is_due_at_its_time_on_the_next_connection() {
        let options = Options::new("127.0.0.1:1".parse().unwrap());
        let tenth = Duration::from_millis(100);
        let plan = Arc::new(Plan::new(&options, Some(tenth)).unwrap());
        let begun = plan.begun;
        let (clock, mut queues) = Clock::start(plan, 1_000.0, 3).unwrap();
        clock.join();
        let mut taken = Vec::new();
        for (number, queue) in queues.iter_mut().enumerate() {
            while let Ok(due) = queue.try_recv() {
                taken.push((due, number));
            }
        }
        taken.sort();
        assert_eq!(taken.len(), 100);
        for (number, taken) in taken.into_iter().enumerate() {
            let millis = Duration::from_millis(number as u64);
            assert_eq!(taken, (begun + millis, number % 3));
        }
    }
}
