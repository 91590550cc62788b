//! One trace through one cache, in virtual time.
//!
//! What an API does with each request: it looks the token up, and if it misses asks Keystone, which
//! takes a while, and puts what Keystone said. Requests with the same token in that while miss and put as
//! well, as keystonemiddleware's do.

use std::collections::VecDeque;
use std::fmt;

use super::policy::{Entry, NEVER, Policy, Seconds};
use super::report::Tally;
use crate::tool::trace::{Kind, Token, TokenId, Trace};

/// What second a trace begins at: keeps the seconds free that mean something special.
pub const FIRST_SECOND: Seconds = 1_000;

/// Requests between two calls of `tick`.
const TICK_REQUESTS: usize = 1 << 16;

/// The lengths that values have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// As keystonemiddleware writes them.
    Plain,
    /// As tokencached packs them.
    Packed,
    /// All of one length.
    Bytes(u32),
}

impl Values {
    /// The length of this token's value.
    pub fn bytes(self, token: &Token) -> u32 {
        match self {
            Values::Plain => token.value_bytes,
            Values::Packed => token.packed_bytes,
            Values::Bytes(bytes) => bytes,
        }
    }
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Values::Plain => f.write_str("plain"),
            Values::Packed => f.write_str("packed"),
            Values::Bytes(bytes) => write!(f, "{bytes}"),
        }
    }
}

/// How a trace is replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conditions {
    /// The lengths of values.
    pub values: Values,
    /// keystonemiddleware's `token_cache_time`.
    pub ttl_seconds: Seconds,
    /// That is what the trace was recorded with, so that each value has the time that it really had.
    pub is_recorded_ttl: bool,
    /// How long Keystone takes for a validation.
    pub validation_millis: u32,
    /// Requests before this are replayed and not counted.
    pub warm_up_millis: u32,
}

/// Replays the requests that go to `unit`.
pub fn replay<P: Policy + ?Sized>(
    trace: &Trace,
    (of_unit, unit): (&[u8], u8),
    conditions: &Conditions,
    policy: &mut P,
    mut tick: impl FnMut(u64),
) -> Tally {
    let mut api = Api::new(trace, conditions, policy);
    let mut tally = Tally::default();
    let parts = trace
        .requests
        .chunks(TICK_REQUESTS)
        .zip(of_unit.chunks(TICK_REQUESTS));
    for (requests, units) in parts {
        let of_this = requests
            .iter()
            .zip(units)
            .filter(|(_, of_unit)| **of_unit == unit);
        for (request, _) in of_this {
            let hit = api.serve(request.token, request.millis);
            if request.millis >= conditions.warm_up_millis {
                tally.count(trace.tokens[request.token as usize].kind, hit);
            }
        }
        tick(requests.len() as u64);
    }
    tally
}

impl Tally {
    fn count(&mut self, kind: Kind, hit: bool) {
        let (requests, hits) = match kind {
            Kind::Legitimate => (&mut self.requests, &mut self.hits),
            Kind::Attack => (&mut self.attack_requests, &mut self.attack_hits),
            Kind::Lasting => (&mut self.lasting_requests, &mut self.lasting_hits),
        };
        *requests += 1;
        *hits += u64::from(hit);
    }

    /// The sum with another cache's.
    pub fn add(&mut self, other: &Tally) {
        self.requests += other.requests;
        self.hits += other.hits;
        self.attack_requests += other.attack_requests;
        self.attack_hits += other.attack_hits;
        self.lasting_requests += other.lasting_requests;
        self.lasting_hits += other.lasting_hits;
    }
}

/// A unit of the API with its cache.
struct Api<'a, P: ?Sized> {
    tokens: &'a [Token],
    conditions: &'a Conditions,
    policy: &'a mut P,
    /// Validations under way, in the order in which they end.
    validations: VecDeque<(u32, TokenId)>,
    second: Seconds,
}

impl<'a, P: Policy + ?Sized> Api<'a, P> {
    fn new(trace: &'a Trace, conditions: &'a Conditions, policy: &'a mut P) -> Api<'a, P> {
        Api {
            tokens: &trace.tokens,
            conditions,
            policy,
            validations: VecDeque::new(),
            second: FIRST_SECOND,
        }
    }

    fn serve(&mut self, token: TokenId, millis: u32) -> bool {
        self.validate_until(millis);
        let now = self.second_at(millis);
        let hit = self.policy.get(token, now);
        if !hit {
            let ends = millis.saturating_add(self.conditions.validation_millis);
            self.validations.push_back((ends, token));
        }
        hit
    }

    fn validate_until(&mut self, millis: u32) {
        while let Some(&(ends, token)) = self.validations.front()
            && ends <= millis
        {
            self.validations.pop_front();
            let now = self.second_at(ends);
            self.policy.put(token, self.entry(token, now), now);
        }
    }

    fn entry(&self, token: TokenId, now: Seconds) -> Entry {
        let token = &self.tokens[token as usize];
        Entry {
            value_bytes: self.conditions.values.bytes(token),
            expiry: match token.kind {
                Kind::Lasting => NEVER,
                Kind::Legitimate | Kind::Attack => now.saturating_add(self.ttl_seconds(token)),
            },
        }
    }

    fn ttl_seconds(&self, token: &Token) -> Seconds {
        match token.ttl_seconds {
            own if own > 0 && self.conditions.is_recorded_ttl => own,
            _ => self.conditions.ttl_seconds,
        }
    }

    /// The second of this moment; what caches do once a second is done on the way.
    fn second_at(&mut self, millis: u32) -> Seconds {
        let now = FIRST_SECOND + millis / 1000;
        while self.second < now {
            self.second += 1;
            self.policy.second(self.second);
        }
        now
    }
}
