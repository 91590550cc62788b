//! Token workloads made up: what clients of an OpenStack API would ask, by scenario and seed.
//!
//! It keeps everyone who asks in a queue by the time of their next request (`actors`), as
//! a [`Scenario`] describes them. The result is a [`Trace`] of one API of the whole cloud.
//! No public trace of tokens exists: the scenarios say what is plausible, and every number in them can
//! be set.

mod actors;
mod draw;
pub mod scenario;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::trace::{About, Request, Trace};
use actors::{Actor, World};
pub use scenario::Scenario;

/// Makes the trace of a scenario. The same scenario and seed give the same trace.
///
/// `tick` is told of the requests made so far, now and then.
pub fn generate(scenario: &Scenario, seed: u64, tick: impl Fn(u64)) -> Trace {
    let mut generator = Generator::new(scenario.clone(), seed);
    let mut requests = Vec::with_capacity(scenario.requests_about() as usize);
    for request in generator.by_ref() {
        requests.push(request);
        if requests.len() % (1 << 16) == 0 {
            tick(requests.len() as u64);
        }
    }
    let about = About {
        name: scenario.name.clone(),
        seed,
        parameters: scenario.changes(),
        millis: scenario.millis(),
        recorded: None,
    };
    Trace {
        about,
        tokens: generator.world.tokens,
        requests,
        services: vec!["api".to_owned()],
        changes: Vec::new(),
    }
}

/// Gives the requests of a scenario in the order of their time.
#[derive(Debug)]
struct Generator {
    world: World,
    waiting: BinaryHeap<Reverse<Waiting>>,
    queued: u64,
    ends_at: u32,
}

impl Generator {
    fn new(scenario: Scenario, seed: u64) -> Generator {
        let mut generator = Generator {
            ends_at: scenario.millis(),
            world: World::new(scenario, seed),
            waiting: BinaryHeap::new(),
            queued: 0,
        };
        for (millis, actor) in generator.world.first() {
            generator.queue(millis, actor);
        }
        generator
    }

    fn queue(&mut self, millis: u32, actor: Actor) {
        self.queued += 1;
        let order = (u64::from(millis) << 32) | (self.queued & u64::from(u32::MAX));
        if millis < self.ends_at {
            self.waiting.push(Reverse(Waiting { order, actor }));
        }
    }
}

impl Iterator for Generator {
    type Item = Request;

    fn next(&mut self) -> Option<Request> {
        loop {
            let Reverse(Waiting { order, mut actor }) = self.waiting.pop()?;
            let millis = (order >> 32) as u32;
            let act = self.world.act(&mut actor, millis);
            if let Some(next) = act.next_millis {
                self.queue(next, actor);
            }
            if let Some(newcomer) = act.comes {
                self.queue(millis, newcomer);
            }
            if let Some(token) = act.request {
                return Some(Request {
                    millis,
                    token,
                    service: 0,
                });
            }
        }
    }
}

/// An actor and when it wakes up: milliseconds, then the order in which they were queued.
#[derive(Debug)]
struct Waiting {
    order: u64,
    actor: Actor,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order.cmp(&other.order)
    }
}
