//! Which unit of the API serves a request: what haproxy does in front of the units.
//!
//! Invariant: the units of a trace are the same for every cache that is compared.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::tool::Error;
use crate::tool::random::mix;
use crate::tool::trace::Trace;

/// Units that a cloud can have.
pub const UNITS_MAX: u32 = 255;

/// How long a request keeps its connection, in milliseconds, on average; for `leastconn`.
const REQUEST_MILLIS: f64 = 100.0;

/// haproxy's `balance`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// Each in turn.
    RoundRobin,
    /// The one with the fewest requests under way; of those, each in turn.
    LeastConn,
    /// By the client's address.
    Source,
}

impl Balance {
    /// Its name, as haproxy has it.
    pub fn name(self) -> &'static str {
        match self {
            Balance::RoundRobin => "roundrobin",
            Balance::LeastConn => "leastconn",
            Balance::Source => "source",
        }
    }

    /// The one of this name.
    ///
    /// # Errors
    /// [`Error::Options`] if there is none.
    pub fn named(name: &str) -> Result<Balance, Error> {
        [Balance::RoundRobin, Balance::LeastConn, Balance::Source]
            .into_iter()
            .find(|balance| balance.name() == name)
            .ok_or_else(|| {
                Error::Options(format!(
                    "there is no balance {name:?}: roundrobin, leastconn and source are known"
                ))
            })
    }

    /// The unit of each request of a trace, in its order.
    pub fn share_out(self, trace: &Trace, units: u32) -> Vec<u8> {
        let numbers = 0..trace.requests.len() as u64;
        match self {
            _ if units <= 1 => vec![0; trace.requests.len()],
            Balance::RoundRobin => numbers
                .map(|number| (number % u64::from(units)) as u8)
                .collect(),
            Balance::LeastConn => {
                let mut connections = Connections::new(units);
                let requests = trace.requests.iter().zip(numbers);
                requests
                    .map(|(request, number)| connections.take(request.millis, number))
                    .collect()
            }
            Balance::Source => {
                let unit = |source: u32| (mix(u64::from(source)) % u64::from(units)) as u8;
                let sources = trace
                    .requests
                    .iter()
                    .map(|request| trace.tokens[request.token as usize].source);
                sources.map(unit).collect()
            }
        }
    }
}

/// Requests under way.
struct Connections {
    ends: BinaryHeap<Reverse<(u32, u8)>>,
    open: Vec<u32>,
    last: usize,
}

impl Connections {
    fn new(units: u32) -> Connections {
        Connections {
            ends: BinaryHeap::new(),
            open: vec![0; units as usize],
            last: 0,
        }
    }

    fn take(&mut self, millis: u32, number: u64) -> u8 {
        while let Some(&Reverse((end, unit))) = self.ends.peek()
            && end <= millis
        {
            self.ends.pop();
            self.open[usize::from(unit)] -= 1;
        }
        let units = self.open.len();
        let in_turn = (1..=units).map(|step| (self.last + step) % units);
        let unit = in_turn.min_by_key(|&unit| self.open[unit]).unwrap_or(0);
        self.last = unit;
        self.open[unit] += 1;
        let fraction = (mix(number) >> 11) as f64 / (1u64 << 53) as f64;
        let lasts = -REQUEST_MILLIS * (1.0 - fraction).ln();
        self.ends
            .push(Reverse((millis.saturating_add(lasts as u32), unit as u8)));
        unit as u8
    }
}
