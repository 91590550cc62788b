//! The last hours as columns of a chart.
//!
//! Pure: minutes in, columns out. A column is one or more minutes, so that what there is of the day fits; the minute
//! that is not over is left out, as it would look like a lull.

use crate::stats::status::Minutes;

/// Minutes of a column, of which the least that shows all is taken.
const STEPS: [usize; 9] = [1, 2, 3, 5, 10, 15, 30, 60, 120];

/// A chart's columns, the newest first; the time that they cover.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Columns {
    /// Look-ups that found a value, of a thousand; none if there were no look-ups.
    pub hits_of_thousand: Vec<Option<u64>>,
    /// Look-ups in a minute.
    pub gets_a_minute: Vec<u64>,
    /// What all of them cover.
    pub minutes: usize,
}

/// As many columns as have room, at most.
pub(super) fn columns(history: &Minutes, room: usize) -> Columns {
    let pairs = history.hits.iter().zip(&history.misses).rev();
    let all: Vec<(u64, u64)> = pairs.map(|(hits, misses)| (*hits, *misses)).collect();
    let whole = if all.len() > 1 { &all[1..] } else { &all[..] };
    let fits = |step: &&usize| whole.len() <= **step * room;
    let step = *STEPS.iter().find(fits).unwrap_or(&STEPS[STEPS.len() - 1]);
    let whole = &whole[..whole.len().min(step * room)];
    let (mut hits_of_thousand, mut gets_a_minute) = (Vec::new(), Vec::new());
    for column in whole.chunks(step) {
        let hits = sum(column.iter().map(|(hits, _)| *hits));
        let gets = hits.saturating_add(sum(column.iter().map(|(_, misses)| *misses)));
        hits_of_thousand.push((gets > 0).then(|| of_thousand(hits, gets)));
        gets_a_minute.push(gets / column.len() as u64);
    }
    Columns {
        hits_of_thousand,
        gets_a_minute,
        minutes: whole.len(),
    }
}

fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

fn of_thousand(part: u64, whole: u64) -> u64 {
    (part as f64 * 1_000.0 / whole as f64).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(minutes: &[(u64, u64)]) -> Minutes {
        Minutes {
            hits: minutes.iter().map(|(hits, _)| *hits).collect(),
            misses: minutes.iter().map(|(_, misses)| *misses).collect(),
            evicted: Vec::new(),
        }
    }

    #[test]
    fn whole_minutes_are_shown_newest_first() {
        let columns = columns(&history(&[(9, 1), (0, 0), (1, 1), (5, 0)]), 10);
        assert_eq!(columns.hits_of_thousand, [Some(500), None, Some(900)]);
        assert_eq!(columns.gets_a_minute, [2, 0, 10]);
        assert_eq!(columns.minutes, 3);
    }

    #[test]
    fn the_first_minute_is_shown_as_it_grows() {
        let columns = columns(&history(&[(3, 1)]), 10);
        assert_eq!(columns.hits_of_thousand, [Some(750)]);
        assert_eq!(columns.gets_a_minute, [4]);
    }

    #[test]
    fn what_does_not_fit_is_drawn_together() {
        let columns = columns(&history(&[(6, 4); 8]), 3);
        assert_eq!(columns.hits_of_thousand, [Some(600); 3]);
        assert_eq!(
            columns.gets_a_minute, [10; 3],
            "means, also of a column that is not full"
        );
        assert_eq!(columns.minutes, 7);
    }

    #[test]
    fn without_a_history_or_room_there_are_no_columns() {
        assert_eq!(columns(&Minutes::default(), 10).minutes, 0);
        assert_eq!(columns(&history(&[(1, 1); 1440]), 0).minutes, 0);
        let whole_day = columns(&history(&[(1, 1); 1440]), 40);
        assert_eq!(whole_day.minutes, 1439);
    }
}
