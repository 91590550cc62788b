//! Counters by service and class: which OpenStack service asks, what for, and what it got.
//!
//! A service is the user at the other end of a connection. The server asks [`Services::of`] for its number
//! when it accepts one, and looks the user's name up where [`Services::wants_name`] says so; the engine
//! counts into the [`ByClass`] of that worker and service, and every view reads the sums
//! ([`Stats::services`](super::Stats::services)).
//!
//! Invariants:
//! - bounded: at most [`SERVICES_MAX`] users, whoever comes later counts as `other`; who is not known, as
//!   `unknown`. A user keeps its number for as long as the process lasts;
//! - a name is shown once: users of one name are one service;
//! - counting takes no lock: a counter has one writer.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::by_class::{ByClass, ClassSums, SumsByClass};
use crate::token::class::Class;

/// Users that are told apart.
pub const SERVICES_MAX: usize = 32;

/// All numbers of services, those of `other` and `unknown` too.
pub const SERVICES: usize = SERVICES_MAX + 2;

/// How long the name of a user holds, in seconds.
const NAME_SECONDS: u32 = 3_600;

/// When a user is looked up again whose name was not found.
const NAMELESS_SECONDS: u32 = 60;

/// The number of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service(u8);

impl Default for Service {
    fn default() -> Service {
        Service::UNKNOWN
    }
}

impl Service {
    /// All users beyond [`SERVICES_MAX`].
    pub const OTHER: Service = Service(SERVICES_MAX as u8);

    /// Whoever the kernel does not name.
    pub const UNKNOWN: Service = Service(SERVICES_MAX as u8 + 1);

    /// All numbers.
    pub fn all() -> impl Iterator<Item = Service> {
        (0..SERVICES as u8).map(Service)
    }

    /// Below [`SERVICES`].
    pub fn index(self) -> usize {
        self.0.into()
    }
}

/// Which users are services, and what they are called.
#[derive(Debug)]
pub struct Services {
    users: Mutex<Vec<User>>,
    /// Connections accepted, by service.
    accepted: [AtomicU64; SERVICES],
}

impl Default for Services {
    fn default() -> Services {
        Services {
            users: Mutex::default(),
            accepted: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

#[derive(Debug)]
struct User {
    uid: u32,
    name: Option<String>,
    /// When its name was last asked for.
    asked_at: Option<u32>,
    /// Whether that has not been answered.
    is_asked: bool,
}

impl Services {
    /// The number of a user's service, given out when it first comes. Takes a short lock.
    pub fn of(&self, uid: Option<u32>) -> Service {
        let Some(uid) = uid else {
            return Service::UNKNOWN;
        };
        let mut users = self.users.lock();
        if let Some(at) = users.iter().position(|user| user.uid == uid) {
            return Service(at as u8);
        }
        if users.len() >= SERVICES_MAX {
            return Service::OTHER;
        }
        users.push(User {
            uid,
            name: None,
            asked_at: None,
            is_asked: false,
        });
        Service(users.len() as u8 - 1)
    }

    /// The user whose name has to be looked up, if that is not known or no longer holds. Says so once for each
    /// look-up, and not again before [`Services::set_name`] has its answer. Takes a short lock.
    pub fn wants_name(&self, service: Service, now_seconds: u32) -> Option<u32> {
        let mut users = self.users.lock();
        let user = users.get_mut(service.index())?;
        let holds_seconds = match user.name {
            Some(_) => NAME_SECONDS,
            None => NAMELESS_SECONDS,
        };
        let holds = |asked_at| now_seconds.saturating_sub(asked_at) < holds_seconds;
        if user.is_asked || user.asked_at.is_some_and(holds) {
            return None;
        }
        user.is_asked = true;
        user.asked_at = Some(now_seconds);
        Some(user.uid)
    }

    /// Notes the name of a user; one that was not found leaves what is known.
    pub fn set_name(&self, uid: u32, name: Option<String>) {
        let mut users = self.users.lock();
        if let Some(user) = users.iter_mut().find(|user| user.uid == uid) {
            user.name = name.or_else(|| user.name.take());
            user.is_asked = false;
        }
    }

    /// Counts a connection that was accepted.
    pub fn count_accepted(&self, service: Service) {
        self.accepted[service.index()].fetch_add(1, Relaxed);
    }

    /// Connections of a service that were accepted by this process.
    pub(super) fn accepted(&self, service: Service) -> u64 {
        self.accepted[service.index()].load(Relaxed)
    }

    /// What a service is called: the name of its user, or the uid while that has none; `other`, `unknown`.
    pub fn label(&self, service: Service) -> String {
        match service {
            Service::UNKNOWN => "unknown".to_owned(),
            Service::OTHER => "other".to_owned(),
            _ => {
                let users = self.users.lock();
                let user = users.get(service.index());
                let label = user.map(|user| user.name.clone().unwrap_or(user.uid.to_string()));
                label.unwrap_or_default()
            }
        }
    }

    /// The services that there are, with what each is called.
    pub fn labels(&self) -> Vec<(Service, String)> {
        let users = self.users.lock().len();
        let are_there =
            |service: &Service| service.index() < users || service.index() >= SERVICES_MAX;
        let services = Service::all().filter(are_there);
        services
            .map(|service| (service, self.label(service)))
            .collect()
    }

    /// The user of a service that has one, and what it is called.
    pub(super) fn user(&self, service: Service) -> Option<(u32, Option<String>)> {
        let users = self.users.lock();
        let user = users.get(service.index())?;
        Some((user.uid, user.name.clone()))
    }
}
/// What was counted of one service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceSums {
    /// By class.
    pub classes: SumsByClass,
    /// Connections accepted.
    pub accepted: u64,
    reckoned: Reckoned,
}

/// Validations avoided whose cost was reckoned by processes before this one, and what it came to: the
/// cost is a setting, and may have been another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Reckoned {
    validations: u64,
    millis: u64,
}

impl ServiceSums {
    /// Adds what a worker has counted.
    pub(super) fn count(&mut self, counters: &ByClass) {
        counters.add_to(&mut self.classes);
    }

    /// Adds what others have counted.
    pub(super) fn add(&mut self, others: &ServiceSums) {
        for (sums, others) in self.classes.iter_mut().zip(&others.classes) {
            sums.add(others);
        }
        self.accepted = self.accepted.saturating_add(others.accepted);
        let (reckoned, more) = (&mut self.reckoned, others.reckoned);
        reckoned.validations = reckoned.validations.saturating_add(more.validations);
        reckoned.millis = reckoned.millis.saturating_add(more.millis);
    }

    fn of_tokens(&self, count: fn(&ClassSums) -> u64) -> u64 {
        let tokens = Class::ALL.iter().filter(|class| class.is_token());
        tokens
            .map(|&class| count(&self.classes[class as usize]))
            .fold(0, u64::saturating_add)
    }

    /// Validations that Keystone was spared: hits of tokens.
    pub fn validations_avoided(&self) -> u64 {
        self.of_tokens(|sums| sums.hits)
    }

    /// What they would have cost, in milliseconds: those of this process at `cost_ms` each.
    pub fn saved_ms(&self, cost_ms: u64) -> u64 {
        let Reckoned {
            validations,
            millis,
        } = self.reckoned;
        let since = self.validations_avoided().saturating_sub(validations);
        millis.saturating_add(since.saturating_mul(cost_ms))
    }

    /// Tokens that were validated again though their time was not over, with the word for how they had left.
    pub fn revalidations(&self) -> [(&'static str, u64); 3] {
        [
            ("evicted", self.of_tokens(|sums| sums.returned_evicted)),
            ("flushed", self.of_tokens(|sums| sums.returned_flushed)),
            ("deleted", self.of_tokens(|sums| sums.returned_deleted)),
        ]
    }
}

/// The sums of a service as they are handed on: classes by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceTotals {
    /// Its user; without one it is `unknown`, unless it is `other`.
    uid: Option<u32>,
    name: Option<String>,
    other: bool,
    classes: BTreeMap<String, ClassSums>,
    accepted: u64,
    reckoned: Reckoned,
}

impl ServiceTotals {
    /// Those of a service, whose validations are reckoned at `cost_ms` each.
    pub(super) fn new(
        service: Service,
        (uid, name): (Option<u32>, Option<String>),
        sums: &ServiceSums,
        cost_ms: u64,
    ) -> ServiceTotals {
        let classes = Class::ALL.iter().zip(&sums.classes);
        ServiceTotals {
            uid,
            name,
            other: service == Service::OTHER,
            classes: classes
                .map(|(class, sums)| (class.name().to_owned(), *sums))
                .collect(),
            accepted: sums.accepted,
            reckoned: Reckoned {
                validations: sums.validations_avoided(),
                millis: sums.saved_ms(cost_ms),
            },
        }
    }

    /// The service that they are those of, which is called so until its user is looked up again, and the
    /// sums; classes that are not known are left.
    pub(super) fn read(&self, services: &Services) -> (Service, ServiceSums) {
        let service = match self.other {
            true => Service::OTHER,
            false => services.of(self.uid),
        };
        if let Some(uid) = self.uid {
            services.set_name(uid, self.name.clone());
        }
        let sums_of = |class: Class| self.classes.get(class.name()).copied();
        let sums = ServiceSums {
            classes: Class::ALL.map(|class| sums_of(class).unwrap_or_default()),
            accepted: self.accepted,
            reckoned: self.reckoned,
        };
        (service, sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Cause;

    #[test]
    fn users_are_told_apart_up_to_a_bound() {
        let services = Services::default();
        assert_eq!(services.of(None), Service::UNKNOWN);
        let numbers: Vec<Service> = (0..40).map(|uid| services.of(Some(uid))).collect();
        for (at, &number) in numbers.iter().enumerate() {
            let expected = if at < SERVICES_MAX {
                Service(at as u8)
            } else {
                Service::OTHER
            };
            assert_eq!((number, services.of(Some(at as u32))), (expected, expected));
        }
        let labels: Vec<String> = services
            .labels()
            .into_iter()
            .map(|(_, label)| label)
            .collect();
        assert_eq!(labels.len(), SERVICES);
        assert_eq!(labels[30..], ["30", "31", "other", "unknown"]);
    }

    #[test]
    fn a_name_is_asked_for_once_and_again_when_it_no_longer_holds() {
        let services = Services::default();
        let nova = services.of(Some(64_060));
        assert_eq!(services.wants_name(nova, 100), Some(64_060));
        assert_eq!(
            services.wants_name(nova, 100),
            None,
            "it is being asked for"
        );
        services.set_name(64_060, None);
        assert_eq!(
            (services.label(nova), services.wants_name(nova, 159)),
            ("64060".into(), None)
        );
        assert_eq!(services.wants_name(nova, 160), Some(64_060));
        services.set_name(64_060, Some("nova".into()));
        assert_eq!(
            (services.label(nova), services.wants_name(nova, 3_759)),
            ("nova".into(), None)
        );
        assert_eq!(services.wants_name(nova, 3_760), Some(64_060));
        services.set_name(64_060, None);
        assert_eq!(services.label(nova), "nova", "the database does not answer");
        for service in [Service::OTHER, Service::UNKNOWN] {
            assert_eq!(services.wants_name(service, 100), None);
        }
    }

    #[test]
    fn only_a_token_that_left_early_is_validated_again() {
        let counters = ByClass::default();
        let early = [Cause::Evicted, Cause::Flushed, Cause::Deleted];
        for (times, left) in (1..).zip(early) {
            (0..times).for_each(|_| counters.stored(Class::TokenMac, Some(left)));
            counters.stored(Class::Dogpile, Some(left));
        }
        counters.stored(Class::Token, Some(Cause::Expired));
        counters.stored(Class::Token, None);
        let mut sums = ServiceSums::default();
        sums.count(&counters);
        let expected = [("evicted", 1), ("flushed", 2), ("deleted", 3)];
        assert_eq!(sums.revalidations(), expected);
    }

    #[test]
    fn what_was_saved_is_reckoned_at_the_cost_of_its_time() {
        let hits = |count| {
            let mut sums = ServiceSums::default();
            sums.classes[Class::TokenMac as usize].hits = count;
            sums.classes[Class::Dogpile as usize].hits = 1_000;
            sums
        };
        let first = hits(10);
        assert_eq!(first.saved_ms(100), 1_000);
        let services = Services::default();
        let totals = ServiceTotals::new(Service::OTHER, (None, None), &first, 100);
        let (_, mut second) = totals.read(&services);
        second.add(&hits(5));
        assert_eq!(second.validations_avoided(), 15);
        assert_eq!(second.saved_ms(20), 1_000 + 100);
        let totals = ServiceTotals::new(Service::OTHER, (None, None), &second, 20);
        assert_eq!(totals.read(&services).1.saved_ms(500), 1_100);
    }

    #[test]
    fn a_user_database_that_does_not_answer_is_asked_once() {
        let services = Services::default();
        let nova = services.of(Some(64_060));
        assert_eq!(services.wants_name(nova, 100), Some(64_060));
        assert_eq!(services.wants_name(nova, 100_000), None);
        services.set_name(64_060, None);
        assert_eq!(services.wants_name(nova, 100_001), Some(64_060));
    }

    #[test]
    fn sums_are_handed_on_by_user_and_by_the_names_of_classes() {
        let mut sums = ServiceSums::default();
        sums.classes[Class::Dogpile as usize].hits = 7;
        sums.classes[Class::Dogpile as usize].returned_flushed = 2;
        for (uid, service) in [
            (Some(64_060), Service(0)),
            (None, Service::OTHER),
            (None, Service::UNKNOWN),
        ] {
            let name = uid.map(|_| "nova".to_owned());
            let totals = ServiceTotals::new(service, (uid, name.clone()), &sums, 100);
            let written = serde_json::to_string(&totals).unwrap();
            let totals: ServiceTotals = serde_json::from_str(&written).unwrap();
            let services = Services::default();
            assert_eq!(totals.read(&services), (service, sums));
            assert_eq!(services.user(service).and_then(|user| user.1), name);
        }
    }
}
