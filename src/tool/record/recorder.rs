//! Events of a running server become a trace.
//!
//! Invariant: a key is a number here from its first event on; its hash goes no further.

use std::collections::HashMap;

use crate::stats::events::{self, Event, KeyHash, Outcome};
use crate::tool::trace::{
    About, Change, Kind, Op, Recorded, Request, SERVICES_MAX, Token, TokenId, Trace,
};
use crate::tool::units::harmless;

/// The most that a key takes in a file, and an access.
const KEY_BYTES: u64 = 21;
const ACCESS_BYTES: u64 = 12;

/// Characters of a service's name that are kept.
const LABEL_CHARS_MAX: usize = 24;

/// How long a validation is taken to last where none was seen.
const VALIDATION_MILLIS: u32 = 100;

/// What `token_cache_time` is taken for where no event tells.
const TTL_SECONDS: u32 = 300;

/// What is known of a key.
#[derive(Debug, Default)]
struct Key {
    service: u8,
    /// Lengths of its value as it came and as it is kept, once it was there.
    bytes: Option<(u32, u32)>,
    /// For how long it was to be held when it was last stored, or else when it was last seen; 0 for ever.
    ttl_seconds: u32,
    /// It does not expire.
    is_lasting: bool,
    /// When it was missed and has not been stored since.
    missed_at: Option<u32>,
}

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    numbers: HashMap<KeyHash, TokenId>,
    keys: Vec<Key>,
    services: Vec<String>,
    requests: Vec<(Request, bool)>,
    changes: Vec<Change>,
    /// Milliseconds that the server's second had lasted when the recording began.
    second_millis: u32,
    /// Keys that were cached before, and when they were stored: milliseconds before that second, whole seconds.
    warm: Vec<(u32, TokenId)>,
    /// For how long values were to be held, and how many; the second where no set was seen.
    held_seconds: [HashMap<u32, u64>; 2],
    /// Milliseconds from a miss to the set that followed it.
    validations: Vec<u32>,
    lost: u64,
}

impl Recorder {
    /// Begins when the server's second had lasted for so long.
    pub(super) fn begin(&mut self, second_millis: u32) {
        self.second_millis = second_millis;
    }

    /// Notes that so many events were lost.
    pub(super) fn lose(&mut self, events: u64) {
        self.lost = self.lost.saturating_add(events);
    }

    /// Notes an event.
    pub(super) fn note(&mut self, event: &Event<String>) {
        let millis = u32::try_from(event.at_ms).unwrap_or(u32::MAX);
        let service = self.service(&event.service);
        let token = self.number(event.key, service);
        let was_known = self.keys[token as usize].bytes.is_some();
        self.learn(token, &event.outcome);
        if let (Outcome::Hit { age_seconds, .. }, false) = (&event.outcome, was_known) {
            let seconds = self.second_millis.saturating_add(millis) / 1_000;
            let before = age_seconds.saturating_sub(seconds);
            self.warm.push((before.saturating_mul(1_000), token));
        }
        let request = Request {
            millis,
            token,
            service,
        };
        let changed = match event.op {
            events::Op::Get | events::Op::Gat => {
                if let Outcome::Miss { .. } = event.outcome {
                    let key = &mut self.keys[token as usize];
                    key.missed_at.get_or_insert(millis);
                }
                let is_hit = matches!(event.outcome, Outcome::Hit { .. });
                self.requests.push((request, is_hit));
                return;
            }
            events::Op::Touch => Op::Touch,
            events::Op::Delete | events::Op::Invalidate => Op::Delete,
            _ => Op::Set,
        };
        let is_change = !matches!(
            event.outcome,
            Outcome::Miss { .. } | Outcome::NotStored { .. } | Outcome::NotFound
        );
        if is_change {
            if changed == Op::Set
                && let Some(missed_at) = self.keys[token as usize].missed_at.take()
            {
                self.validations.push(millis.saturating_sub(missed_at));
            }
            self.changes.push(Change {
                request,
                op: changed,
            });
        }
    }

    fn service(&mut self, label: &str) -> u8 {
        let label: String = harmless(label).chars().take(LABEL_CHARS_MAX).collect();
        let known = self.services.iter().position(|known| *known == label);
        let place = known.unwrap_or_else(|| {
            if self.services.len() < SERVICES_MAX {
                self.services.push(label);
            }
            self.services.len() - 1
        });
        place as u8
    }

    /// The number of a key, a new one if it is new.
    fn number(&mut self, key: KeyHash, service: u8) -> TokenId {
        let next = self.keys.len() as TokenId;
        let number = *self.numbers.entry(key).or_insert(next);
        if number == next {
            self.keys.push(Key {
                service,
                ..Key::default()
            });
        }
        number
    }

    /// Notes what an event tells of a value.
    fn learn(&mut self, token: TokenId, outcome: &Outcome) {
        let (ttl_seconds, value_bytes, stored_bytes, which) = match *outcome {
            Outcome::Hit {
                age_seconds,
                ttl_seconds,
                value_bytes,
                stored_bytes,
            } => {
                let held = ttl_seconds.map(|left| left.saturating_add(age_seconds));
                (held, value_bytes, stored_bytes, 1)
            }
            Outcome::Stored {
                ttl_seconds,
                value_bytes,
                stored_bytes,
            } => (ttl_seconds, value_bytes, stored_bytes, 0),
            _ => return,
        };
        let key = &mut self.keys[token as usize];
        let short = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        key.bytes = Some((short(value_bytes), short(stored_bytes)));
        key.is_lasting = ttl_seconds.is_none();
        if which == 0 || key.ttl_seconds == 0 {
            key.ttl_seconds = ttl_seconds.unwrap_or(0);
        }
        if let Some(seconds) = ttl_seconds {
            *self.held_seconds[which].entry(seconds).or_default() += 1;
        }
    }

    /// What a file of it takes, at most.
    pub(super) fn bytes(&self) -> u64 {
        let accesses = self.requests.len() + self.changes.len() + self.warm.len();
        accesses as u64 * ACCESS_BYTES + self.keys.len() as u64 * KEY_BYTES
    }

    /// Look-ups of keys that were never there.
    fn left_out(&self) -> u64 {
        let unknown =
            |(request, _): &&(Request, bool)| self.keys[request.token as usize].bytes.is_none();
        self.requests.iter().filter(unknown).count() as u64
    }

    fn ttl_seconds(&self) -> u32 {
        let most = |held: &HashMap<u32, u64>| {
            let usual = held
                .iter()
                .max_by_key(|&(&seconds, &times)| (times, seconds));
            usual.map(|(&seconds, _)| seconds)
        };
        let found = self.held_seconds.iter().find_map(most);
        found.unwrap_or(TTL_SECONDS)
    }

    /// The median.
    fn validation_millis(&mut self) -> u32 {
        let middle = self.validations.len() / 2;
        match self.validations.is_empty() {
            true => VALIDATION_MILLIS,
            false => *self.validations.select_nth_unstable(middle).1,
        }
    }

    /// The trace of what was recorded in so long.
    pub(super) fn trace(mut self, millis: u32, memory_bytes: u64) -> Trace {
        let ttl_seconds = self.ttl_seconds();
        let validation_millis = self.validation_millis();
        let begins_at = self.begins_at();
        let (tokens, number) = self.tokens();
        let renumbered = |request: &Request| {
            Some(Request {
                millis: request.millis.saturating_add(begins_at),
                token: number[request.token as usize]?,
                ..*request
            })
        };
        let counted = |(request, _): &&(Request, bool)| {
            let key = &self.keys[request.token as usize];
            key.bytes.is_some() && !key.is_lasting
        };
        let look_ups = self.requests.iter().filter(counted);
        let hits = look_ups.clone().filter(|(_, is_hit)| *is_hit).count();
        let recorded = Recorded {
            warm_up_millis: begins_at,
            ttl_seconds,
            validation_millis,
            memory_bytes,
            look_ups: look_ups.count() as u64,
            hits: hits as u64,
            left_out: self.left_out(),
            lost: self.lost,
        };
        let mut requests: Vec<Request> = self.warm_up(begins_at, &number);
        let heard = self.requests.iter();
        requests.extend(heard.filter_map(|(request, _)| renumbered(request)));
        let changes = self.changes.iter().filter_map(|change| {
            Some(Change {
                request: renumbered(&change.request)?,
                op: change.op,
            })
        });
        let last = requests.last().map_or(0, |request| request.millis);
        let mut changes: Vec<Change> = changes.collect();
        // Workers tell side by side.
        requests.sort_by_key(|request| request.millis);
        changes.sort_by_key(|change| change.request.millis);
        let last_change = changes.last().map_or(0, |change| change.request.millis);
        Trace {
            about: About {
                name: "recorded".to_owned(),
                seed: 0,
                parameters: Vec::new(),
                millis: millis.saturating_add(begins_at).max(last).max(last_change),
                recorded: Some(recorded),
            },
            tokens,
            requests,
            services: self.services,
            changes,
        }
    }

    /// How long before the recording the oldest of what was cached is put. Seconds begin in the trace when the server's
    /// did, so that what is replayed expires at the same moments.
    fn begins_at(&self) -> u32 {
        let of_tokens = self.warm.iter().filter(|(_, token)| {
            // What lasts may be weeks old, and is as good at the very beginning.
            !self.keys[*token as usize].is_lasting
        });
        let oldest = of_tokens.map(|&(before, _)| before).max().unwrap_or(0);
        oldest.saturating_add(self.second_millis)
    }

    fn warm_up(&self, begins_at: u32, number: &[Option<TokenId>]) -> Vec<Request> {
        let of_warm = |&(before, token): &(u32, TokenId)| {
            Some(Request {
                millis: begins_at.saturating_sub(before.saturating_add(self.second_millis)),
                token: number[token as usize]?,
                service: self.keys[token as usize].service,
            })
        };
        let mut requests: Vec<Request> = self.warm.iter().filter_map(of_warm).collect();
        requests.sort_by_key(|request| request.millis);
        requests
    }

    /// The keys that were ever there, and the number of each among those.
    fn tokens(&self) -> (Vec<Token>, Vec<Option<TokenId>>) {
        let mut tokens = Vec::new();
        let number = self.keys.iter().map(|key| {
            let (value_bytes, packed_bytes) = key.bytes?;
            tokens.push(Token {
                kind: match key.is_lasting {
                    true => Kind::Lasting,
                    false => Kind::Legitimate,
                },
                source: key.service.into(),
                value_bytes,
                packed_bytes,
                ttl_seconds: key.ttl_seconds,
            });
            Some(tokens.len() as TokenId - 1)
        });
        let number = number.collect();
        (tokens, number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::by_class::MissCause;
    use crate::token::class::Class;
    use crate::tool::trace::file;

    fn event(
        at_ms: u64,
        op: events::Op,
        (key, service): (u64, &str),
        outcome: Outcome,
    ) -> Event<String> {
        Event {
            at_ms,
            op,
            key: KeyHash(key),
            service: service.to_owned(),
            class: Class::Token,
            outcome,
        }
    }

    fn hit(age_seconds: u32, ttl_seconds: Option<u32>) -> Outcome {
        Outcome::Hit {
            age_seconds,
            ttl_seconds,
            value_bytes: 13_000,
            stored_bytes: 450,
        }
    }

    fn stored(ttl_seconds: Option<u32>) -> Outcome {
        Outcome::Stored {
            ttl_seconds,
            value_bytes: 9_000,
            stored_bytes: 400,
        }
    }

    const MISS: Outcome = Outcome::Miss {
        cause: MissCause::NeverSeen,
    };

    /// What is made of these events in a recording of ten seconds that began 400 ms after a second did.
    fn recorded(events: &[Event<String>]) -> Trace {
        let mut recorder = Recorder {
            second_millis: 400,
            lost: 7,
            ..Recorder::default()
        };
        events.iter().for_each(|event| recorder.note(event));
        recorder.trace(10_000, 64 << 20)
    }

    #[test]
    fn what_was_cached_before_is_put_as_long_ago_as_it_is_old() {
        use events::Op::{Get, Touch};
        let trace = recorded(&[
            // In the server's third second, so that it was stored eight seconds before the first.
            event(1_700, Get, (1, "nova"), hit(10, Some(290))),
            event(1_800, Touch, (2, "glance"), hit(3, Some(297))),
            event(1_900, Get, (1, "glance"), hit(10, Some(290))),
        ]);
        let told = trace.about.recorded.unwrap();
        assert_eq!(told.warm_up_millis, 8_400);
        let requests: Vec<_> = trace.requests.iter().map(|r| (r.millis, r.token)).collect();
        assert_eq!(
            requests,
            [(0, 0), (7_000, 1), (8_400 + 1_700, 0), (8_400 + 1_900, 0)]
        );
        let services: Vec<_> = trace.requests.iter().map(|r| r.service).collect();
        assert_eq!(
            (services, trace.services),
            (vec![0, 1, 0, 1], vec!["nova".into(), "glance".into()])
        );
        assert_eq!((told.look_ups, told.hits, told.lost), (2, 2, 7));
        assert_eq!((told.ttl_seconds, told.memory_bytes), (300, 64 << 20));
        let touch = trace.changes[0];
        assert_eq!((touch.op, touch.request.millis), (Op::Touch, 8_400 + 1_800));
        assert_eq!(trace.about.millis, 18_400);
    }

    #[test]
    fn lengths_times_and_what_was_done_are_those_of_the_server() {
        use events::Op::{Delete, Get, Set};
        let key = (5, "nova");
        let trace = recorded(&[
            event(100, Get, key, MISS),
            event(130, Set, key, stored(Some(60))),
            event(200, Get, key, MISS),
            event(280, Set, key, stored(Some(60))),
            event(300, Get, key, MISS),
            event(370, Set, key, stored(Some(90))),
            event(400, Delete, key, Outcome::Deleted),
            event(401, Delete, key, Outcome::NotFound),
            event(402, Set, key, Outcome::NotStored { value_bytes: 1 }),
        ]);
        let told = trace.about.recorded.unwrap();
        assert_eq!(
            (told.ttl_seconds, told.validation_millis),
            (60, 70),
            "the usual ones"
        );
        assert_eq!((told.look_ups, told.hits, told.warm_up_millis), (3, 0, 400));
        let [token] = trace.tokens[..] else {
            panic!("{:?}", trace.tokens);
        };
        assert_eq!((token.value_bytes, token.packed_bytes), (9_000, 400));
        assert_eq!(token.ttl_seconds, 90, "the latest");
        let ops: Vec<Op> = trace.changes.iter().map(|change| change.op).collect();
        assert_eq!(ops, [Op::Set, Op::Set, Op::Set, Op::Delete]);
    }

    #[test]
    fn what_was_never_there_is_left_out_and_what_lasts_is_counted_apart() {
        use events::Op::Get;
        let trace = recorded(&[
            event(0, Get, (1, "nova"), MISS),
            event(1, Get, (2, "nova"), hit(1_000_000, None)),
            event(2, Get, (3, "nova"), hit(0, Some(300))),
            event(3, Get, (1, "nova"), MISS),
        ]);
        let told = trace.about.recorded.unwrap();
        assert_eq!((told.look_ups, told.hits, told.left_out), (1, 1, 2));
        assert_eq!(
            told.warm_up_millis, 400,
            "what lasts is no older than the rest"
        );
        let kinds: Vec<Kind> = trace.tokens.iter().map(|token| token.kind).collect();
        assert_eq!(kinds, [Kind::Lasting, Kind::Legitimate]);
    }

    #[test]
    fn a_name_that_would_harm_a_file_is_made_harmless() {
        let name = format!("\u{1b}[2J\n{}", "x".repeat(500));
        let trace = recorded(&[event(0, events::Op::Get, (1, &name), hit(0, None))]);
        let [service] = &trace.services[..] else {
            panic!("{:?}", trace.services);
        };
        assert!(
            service.len() <= 100 && !service.contains(char::is_control),
            "{service:?}"
        );
    }

    #[test]
    fn a_file_takes_no_more_than_was_reckoned() {
        let mut recorder = Recorder::default();
        let file = tempfile::NamedTempFile::new().unwrap();
        for at in 0..2_000 {
            let key = (at * 7_919, "nova");
            recorder.note(&event(at * 1_000_000, events::Op::Get, key, MISS));
            recorder.note(&event(
                at * 1_000_000,
                events::Op::Set,
                key,
                stored(Some(300)),
            ));
        }
        let reckoned = recorder.bytes();
        file::write(file.path(), &recorder.trace(u32::MAX, 0)).unwrap();
        let bytes = file.as_file().metadata().unwrap().len();
        assert!(bytes <= reckoned + 1_000, "{bytes} of {reckoned}");
    }
}
