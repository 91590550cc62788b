//! When the crawler takes what has expired out of a queue.
//!
//! A crawl counts in how many minutes the items that it leaves will expire. If more than a hundredth
//! of them will within the time that it waits now, the next wait is a minute shorter; if they will
//! later, or none will, a minute longer; an hour at most. An empty queue is waited for ever longer.
//!
//! Source: memcached 1.6.18, `items.c`, `lru_maintainer_crawler_check`, and `crawler.c`,
//! `crawler_expired_eval`. A crawl there takes so little of a second that it takes none here.

use crate::tool::simulate::policy::{NEVER, Seconds};

const MINUTE: Seconds = 60;
const WAIT_MAX: Seconds = 60 * MINUTE;

/// Seconds between two crawls that wait for nothing.
const PAUSE: Seconds = 5;

/// When a queue is crawled next.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// It is crawled after this second.
    after: Seconds,
    wait: Seconds,
    /// Whether a crawl's counts have not been looked at.
    counted: bool,
    /// Items seen that expire at all.
    expiring: u32,
    /// Of those, how many in this minute, the next, and so on for an hour.
    minutes: [u32; 60],
}

impl Default for Schedule {
    fn default() -> Schedule {
        Schedule {
            after: 0,
            wait: 0,
            counted: false,
            expiring: 0,
            minutes: [0; 60],
        }
    }
}

impl Schedule {
    /// Whether the queue is to be crawled in this second. Asked once a second; each item that the
    /// crawl leaves is to be [noted](Schedule::note).
    pub fn begin(&mut self, now: Seconds) -> bool {
        if self.counted {
            self.plan(now);
        }
        let due = now > self.after;
        if due {
            self.counted = true;
            self.expiring = 0;
            self.minutes = [0; 60];
        }
        due
    }

    /// Counts an item that the crawl has seen and left.
    pub fn note(&mut self, expiry: Seconds, now: Seconds) {
        if expiry == NEVER {
            return;
        }
        self.expiring += 1;
        if let Some(minute) = self.minutes.get_mut(((expiry - now) / MINUTE) as usize) {
            *minute += 1;
        }
    }

    /// Draws the conclusion from the last crawl's counts.
    fn plan(&mut self, now: Seconds) {
        let worth = self.expiring / 100 + 1;
        let mut seen = 0;
        let enough = self.minutes.iter().position(|count| {
            seen += count;
            seen > worth
        });
        match enough {
            Some(minute) if self.wait < minute as Seconds * MINUTE => self.wait += MINUTE,
            Some(_) => self.wait = self.wait.saturating_sub(MINUTE),
            None if seen == 0 => self.wait += MINUTE,
            None => {}
        }
        self.wait = self.wait.min(WAIT_MAX);
        self.after = now + self.wait + PAUSE;
        self.counted = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seconds up to `end` in which a queue is crawled, of which every crawl sees items that
    /// expire so many seconds later.
    fn crawls(expire_in: &[Seconds], end: Seconds) -> Vec<Seconds> {
        let mut schedule = Schedule::default();
        let crawled = (2..end).filter(|now| {
            let due = schedule.begin(*now);
            if due {
                expire_in
                    .iter()
                    .for_each(|in_seconds| schedule.note(now + in_seconds, *now));
            }
            due
        });
        crawled.collect()
    }

    #[test]
    fn a_queue_in_which_much_expires_is_crawled_every_seven_seconds() {
        assert_eq!(crawls(&[10; 100], 30), [2, 9, 16, 23]);
    }

    #[test]
    fn an_empty_queue_is_waited_for_a_minute_longer_each_time() {
        assert_eq!(crawls(&[], 430), [2, 69, 196, 383]);
        let many = crawls(&[], 200_000);
        assert_eq!(many[many.len() - 1] - many[many.len() - 2], 3600 + 7);
    }

    #[test]
    fn the_wait_comes_to_when_the_first_expire() {
        let many = crawls(&[130; 100], 5000);
        assert_eq!(many[..3], [2, 69, 196]);
        let last = many[many.len() - 1] - many[many.len() - 2];
        assert!((67..=127).contains(&last), "{last}");
    }
}
