//! Who sends requests, one at a time: an [`Actor`] wakes up, may send a request, and says when it
//! wakes up next.
//!
//! Invariant: what an actor does depends on what was drawn for it and those before it alone, so a
//! scenario and a seed give the same trace every time.

use super::draw::{exponential, geometric, spread, uniform};
use super::scenario::Scenario;
use crate::tool::random::Random;
use crate::tool::trace::{Kind, Token, TokenId};

/// Milliseconds between the requests of one page or round, on average.
const TOGETHER_MILLIS: f64 = 120.0;

/// How unequal services are in their rates, and controllers in their intervals.
const SERVICES_SPREAD: f64 = 0.8;
const CONTROLLERS_SPREAD: f64 = 0.5;

const DAY_MILLIS: f64 = 86_400_000.0;

/// Traces begin at nine in the morning.
const STARTS_AT: f64 = 9.0 / 24.0;

/// Whoever comes anew, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// People who open a dashboard.
    Person,
    /// Commands.
    Command,
    /// People of a crowd.
    Crowd,
    /// An attacker's tokens.
    Attack,
    /// Entries that never expire.
    Lasting,
}

impl Arrival {
    /// All of them.
    pub const ALL: [Arrival; 5] = [
        Arrival::Person,
        Arrival::Command,
        Arrival::Crowd,
        Arrival::Attack,
        Arrival::Lasting,
    ];
}

/// One who acts.
#[derive(Debug, Clone, Copy)]
pub enum Actor {
    /// New actors come.
    Arrivals(Arrival),
    /// Asks at random times, with a token it renews.
    Service {
        source: u32,
        token: TokenId,
        renews_at: u32,
        pause_millis: f32,
    },
    /// Asks several times together at intervals; a token of 0 life is renewed every round.
    Rounds {
        source: u32,
        token: TokenId,
        renews_at: u32,
        left: u32,
        begins_at: u32,
        period: Period,
    },
    /// Opens pages until it goes.
    Visit {
        token: TokenId,
        left: u32,
        ends_at: u32,
    },
    /// Uses a token some times and never again.
    Burst {
        token: TokenId,
        left: u32,
        pause_millis: f32,
    },
}

/// How an actor of rounds goes about them.
#[derive(Debug, Clone, Copy)]
pub struct Period {
    millis: f32,
    requests: u32,
    renews_each_round: bool,
}

/// What an actor did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Act {
    /// The token of the request that it sent.
    pub request: Option<TokenId>,
    /// When it wakes up next; `None` when it is gone.
    pub next_millis: Option<u32>,
    /// Who came.
    pub comes: Option<Actor>,
}

/// What actors share.
#[derive(Debug)]
pub struct World {
    /// What they are like.
    pub scenario: Scenario,
    /// All tokens so far.
    pub tokens: Vec<Token>,
    random: Random,
    sources: u32,
}

impl World {
    /// A world without actors.
    pub fn new(scenario: Scenario, seed: u64) -> World {
        World {
            scenario,
            tokens: Vec::new(),
            random: Random::new(seed),
            sources: 0,
        }
    }

    /// Everyone who is there from the start, with the time at which each wakes up first.
    pub fn first(&mut self) -> Vec<(u32, Actor)> {
        let mut actors = Vec::new();
        for _ in 0..self.scenario.services as u64 {
            actors.push(self.service());
        }
        for _ in 0..self.scenario.controllers as u64 {
            let share = spread(&mut self.random, CONTROLLERS_SPREAD);
            let period = Period {
                millis: (self.scenario.controller_interval_seconds * 1000.0 * share).max(1.0)
                    as f32,
                requests: self.scenario.controller_requests as u32,
                renews_each_round: false,
            };
            actors.push(self.rounds(period));
        }
        for _ in 0..self.scenario.monitors as u64 {
            let period = Period {
                millis: (self.scenario.monitor_interval_seconds * 1000.0) as f32,
                requests: self.scenario.monitor_requests as u32,
                renews_each_round: true,
            };
            actors.push(self.rounds(period));
        }
        for arrival in Arrival::ALL {
            let pause = self.arrival_pause(arrival, 0);
            actors.extend(pause.map(|pause| (pause, Actor::Arrivals(arrival))));
        }
        actors
    }

    /// Has one act.
    pub fn act(&mut self, actor: &mut Actor, now: u32) -> Act {
        match *actor {
            Actor::Arrivals(arrival) => self.arrive(arrival, now),
            Actor::Service { .. } => self.serve(actor, now),
            Actor::Rounds { .. } => self.go_round(actor, now),
            Actor::Visit { .. } => self.visit(actor, now),
            Actor::Burst { .. } => self.burst(actor, now),
        }
    }

    fn token(&mut self, kind: Kind, source: u32) -> TokenId {
        let (value_bytes, packed_bytes) = self.lengths();
        self.tokens.push(Token {
            kind,
            source,
            value_bytes,
            packed_bytes,
            ttl_seconds: 0,
        });
        (self.tokens.len() - 1) as TokenId
    }

    /// As measured of keystonemiddleware's values, and of what packing makes of them.
    fn lengths(&mut self) -> (u32, u32) {
        let of_user = self.random.below(440) as u32;
        if uniform(&mut self.random) * 100.0 < self.scenario.unscoped_percent {
            // Without a catalogue, packing saves too little to be done.
            let bytes = 530 + of_user / 10;
            return (bytes, bytes);
        }
        let catalogue = self.scenario.catalogue_bytes as u32;
        (
            catalogue + 884 + of_user,
            385 + catalogue / 450 + of_user / 20,
        )
    }

    fn source(&mut self) -> u32 {
        self.sources += 1;
        self.sources
    }

    /// When a token taken at `now` is renewed: a little before its time, each at its own.
    fn renewal(&mut self, now: u32) -> u32 {
        let life = self.scenario.token_seconds * 1000.0 * (0.9 + 0.1 * uniform(&mut self.random));
        now.saturating_add(life as u32)
    }

    /// A first renewal: at any time of a token's life.
    fn first_renewal(&mut self) -> u32 {
        (self.scenario.token_seconds * 1000.0 * uniform(&mut self.random)) as u32
    }

    fn service(&mut self) -> (u32, Actor) {
        let source = self.source();
        let rate =
            self.scenario.service_requests_per_second * spread(&mut self.random, SERVICES_SPREAD);
        let pause_millis = 1000.0 / rate.max(1e-6);
        let actor = Actor::Service {
            source,
            token: self.token(Kind::Legitimate, source),
            renews_at: self.first_renewal(),
            pause_millis: pause_millis as f32,
        };
        (exponential(&mut self.random, pause_millis) as u32, actor)
    }

    fn rounds(&mut self, period: Period) -> (u32, Actor) {
        let source = self.source();
        let begins_at = (f64::from(period.millis) * uniform(&mut self.random)) as u32;
        let actor = Actor::Rounds {
            source,
            token: self.token(Kind::Legitimate, source),
            renews_at: self.first_renewal(),
            left: period.requests,
            begins_at,
            period,
        };
        (begins_at, actor)
    }

    fn serve(&mut self, actor: &mut Actor, now: u32) -> Act {
        let Actor::Service {
            source,
            token,
            renews_at,
            pause_millis,
        } = actor
        else {
            return Act::default();
        };
        if now >= *renews_at {
            *token = self.token(Kind::Legitimate, *source);
            *renews_at = self.renewal(now);
        }
        let pause = exponential(&mut self.random, f64::from(*pause_millis));
        sends(*token, now, pause)
    }

    fn go_round(&mut self, actor: &mut Actor, now: u32) -> Act {
        let Actor::Rounds {
            source,
            token,
            renews_at,
            left,
            begins_at,
            period,
        } = actor
        else {
            return Act::default();
        };
        let first_of_round = *left == period.requests;
        if first_of_round && (period.renews_each_round || now >= *renews_at) {
            *token = self.token(Kind::Legitimate, *source);
            *renews_at = self.renewal(now);
        }
        *left -= 1;
        let mut pause = exponential(&mut self.random, TOGETHER_MILLIS);
        if *left == 0 {
            *left = period.requests;
            *begins_at = begins_at.saturating_add(period.millis as u32).max(now);
            pause = f64::from(*begins_at - now);
        }
        sends(*token, now, pause)
    }

    fn visit(&mut self, actor: &mut Actor, now: u32) -> Act {
        let Actor::Visit {
            token,
            left,
            ends_at,
        } = actor
        else {
            return Act::default();
        };
        let mut pause = exponential(&mut self.random, TOGETHER_MILLIS);
        *left -= 1;
        if *left == 0 {
            *left = geometric(&mut self.random, self.scenario.dashboard_requests);
            pause = exponential(
                &mut self.random,
                self.scenario.dashboard_pause_seconds * 1000.0,
            );
        }
        let mut act = sends(*token, now, pause);
        act.next_millis = act.next_millis.filter(|next| next < ends_at);
        act
    }

    fn burst(&mut self, actor: &mut Actor, now: u32) -> Act {
        let Actor::Burst {
            token,
            left,
            pause_millis,
        } = actor
        else {
            return Act::default();
        };
        *left -= 1;
        let pause = exponential(&mut self.random, f64::from(*pause_millis));
        let mut act = sends(*token, now, pause);
        act.next_millis = act.next_millis.filter(|_| *left > 0);
        act
    }

    fn arrive(&mut self, arrival: Arrival, now: u32) -> Act {
        let comes = self
            .is_there(arrival, now)
            .then(|| self.newcomer(arrival, now));
        let next_millis = self
            .arrival_pause(arrival, now)
            .map(|pause| now.saturating_add(pause));
        Act {
            request: None,
            next_millis,
            comes,
        }
    }

    /// Whether one of those who could come at the busiest time comes at this one.
    fn is_there(&mut self, arrival: Arrival, now: u32) -> bool {
        match arrival {
            Arrival::Person | Arrival::Command => {
                let swing = self.scenario.day_swing;
                let time_of_day = f64::from(now) / DAY_MILLIS + STARTS_AT;
                let busy = 1.0 - swing * (std::f64::consts::TAU * time_of_day).cos();
                uniform(&mut self.random) * (1.0 + swing) < busy
            }
            Arrival::Crowd | Arrival::Attack | Arrival::Lasting => true,
        }
    }

    fn newcomer(&mut self, arrival: Arrival, now: u32) -> Actor {
        let source = self.source();
        let scenario = &self.scenario;
        let (kind, uses, pause_seconds) = match arrival {
            Arrival::Person | Arrival::Crowd => return self.visitor(source, now),
            Arrival::Command => (
                Kind::Legitimate,
                scenario.command_requests,
                scenario.command_pause_seconds,
            ),
            Arrival::Attack => (
                Kind::Attack,
                scenario.attack_uses,
                scenario.attack_pause_seconds,
            ),
            Arrival::Lasting => (
                Kind::Lasting,
                scenario.lasting_uses,
                scenario.lasting_pause_seconds,
            ),
        };
        let left = match arrival {
            Arrival::Attack => uses as u32,
            _ => geometric(&mut self.random, uses),
        };
        Actor::Burst {
            // An attacker is one client with many tokens.
            token: self.token(kind, if kind == Kind::Attack { 0 } else { source }),
            left,
            pause_millis: (pause_seconds * 1000.0) as f32,
        }
    }

    fn visitor(&mut self, source: u32, now: u32) -> Actor {
        let stay = exponential(&mut self.random, self.scenario.dashboard_seconds * 1000.0);
        Actor::Visit {
            token: self.token(Kind::Legitimate, source),
            left: geometric(&mut self.random, self.scenario.dashboard_requests),
            ends_at: now.saturating_add(stay as u32),
        }
    }

    /// How long until the next one comes; `None` if none ever does.
    fn arrival_pause(&mut self, arrival: Arrival, now: u32) -> Option<u32> {
        let scenario = &self.scenario;
        let busiest = 1.0 + scenario.day_swing;
        let per_second = match arrival {
            Arrival::Person => scenario.dashboards / scenario.dashboard_seconds * busiest,
            Arrival::Command => scenario.commands_per_second * busiest,
            Arrival::Crowd if scenario.crowd_hours == 0.0 => 0.0,
            Arrival::Crowd => scenario.crowd_people_per_second,
            Arrival::Attack => scenario.attack_tokens_per_second,
            Arrival::Lasting => scenario.lasting_per_second,
        };
        if per_second == 0.0 {
            return None;
        }
        let mut pause = exponential(&mut self.random, 1000.0 / per_second);
        if arrival == Arrival::Crowd {
            pause += self.until_crowd(f64::from(now) + pause);
        }
        Some(pause.round() as u32)
    }

    /// From this moment to the next in which a crowd comes; 0 while one does. The last part of
    /// each period is a crowd's.
    fn until_crowd(&self, millis: f64) -> f64 {
        let period = self.scenario.crowd_hours * 3_600_000.0;
        let quiet = (period - self.scenario.crowd_seconds * 1000.0).max(0.0);
        (quiet - millis % period).max(0.0)
    }
}

fn sends(token: TokenId, now: u32, pause_millis: f64) -> Act {
    Act {
        request: Some(token),
        next_millis: Some(now.saturating_add(pause_millis.round() as u32)),
        comes: None,
    }
}
