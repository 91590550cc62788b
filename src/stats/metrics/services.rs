//! Services: who asks for what, and what Keystone was spared.

use super::{Metric, Samples, Visit, counter, gauge, seconds};
use crate::stats::by_class::ClassSums;
use crate::stats::moment::Moment;
use crate::token::class::Class;

const MILLIS: u64 = 1_000;

pub(super) const METRICS: &[Metric] = &[
    counter(
        "tokencached_requests_total",
        "Commands by service, class of item and command; a key of a multiget is one.",
        "Shows which service uses the cache, and how: keystonemiddleware sends get and set alone.",
        Samples::Family(&["service", "class", "command"], |m, visit| {
            by_class(m, &mut |service, class, sums| {
                for (command, count) in sums.requests() {
                    visit(&[service, class, command], count.into());
                }
            });
        }),
    ),
    counter(
        "tokencached_hits_total",
        "Look-ups that found a value, by service and class of item.",
        "With tokencached_misses_total: the hit rate of each service.",
        Samples::Family(&["service", "class"], |m, visit| {
            each(m, visit, |sums| sums.hits);
        }),
    ),
    counter(
        "tokencached_misses_total",
        "Look-ups that found nothing, by service, class and cause: why the key is not there. An item that was evicted and whose time would be over by now counts as expired; deleted is also what a set that failed took with it; never_seen also what has been forgotten: about two keys are remembered for each item held, first those that were used, and none over a restart.",
        "evicted: raise -m; expired: raise token_cache_time; never_seen: new tokens, or such as are forgotten by now.",
        Samples::Family(&["service", "class", "cause"], |m, visit| {
            by_class(m, &mut |service, class, sums| {
                for (cause, count) in sums.missed() {
                    visit(&[service, class, cause], count.into());
                }
            });
        }),
    ),
    counter(
        "tokencached_hit_bytes_total",
        "Bytes of the values that were found, as their clients gave them.",
        "Over tokencached_hits_total: the length of a token of this service.",
        Samples::Family(&["service", "class"], |m, visit| {
            each(m, visit, |sums| sums.hit_bytes);
        }),
    ),
    counter(
        "tokencached_set_bytes_total",
        "Bytes of the values that were given to be stored.",
        "Its rate says how fast the memory fills.",
        Samples::Family(&["service", "class"], |m, visit| {
            each(m, visit, |sums| sums.set_bytes);
        }),
    ),
    counter(
        "tokencached_validations_avoided_total",
        "Validations that Keystone was spared: hits of tokens.",
        "What the cache is worth; one that stops rising under load is of no use to its service.",
        Samples::Family(&["service"], |m, visit| {
            for (service, sums) in &m.services {
                visit(&[service], sums.validations_avoided().into());
            }
        }),
    ),
    seconds(
        "tokencached_keystone_cpu_seconds_saved_total",
        "An estimate: the same, each at what validation_cost_ms then was.",
        "Its rate is the number of Keystone's cores that the cache stands for.",
        (
            MILLIS,
            Samples::Family(&["service"], |m, visit| {
                for (service, sums) in &m.services {
                    visit(&[service], sums.saved_ms(m.validation_cost_ms).into());
                }
            }),
        ),
    ),
    counter(
        "tokencached_revalidations_total",
        "Tokens stored again whose time would not have been over yet, by cause: how they had left.",
        "evicted: work that a larger cache would have spared Keystone; raise -m where it is a large part of all sets.",
        Samples::Family(&["service", "cause"], |m, visit| {
            for (service, sums) in &m.services {
                for (cause, count) in sums.revalidations() {
                    visit(&[service, cause], count.into());
                }
            }
        }),
    ),
    counter(
        "tokencached_connections_accepted_total",
        "Connections accepted, by service.",
        "A rate of more than some a second says that this service does not keep its connections.",
        Samples::Family(&["service"], |m, visit| {
            for (service, sums) in &m.services {
                visit(&[service], sums.accepted.into());
            }
        }),
    ),
    gauge(
        "tokencached_connections",
        "Open connections by service and state, in memcached's words.",
        "A service that has none does not use its cache; many in conn_mwrite do not take their replies.",
        Samples::Family(&["service", "state"], |m, visit| {
            for ((service, state), count) in m.stats.open_connections() {
                visit(&[&service, state], count.into());
            }
        }),
    ),
];

/// Goes through what was counted, leaving out classes of which there was nothing; plain tokens are always shown.
fn by_class(moment: &Moment<'_>, visit: &mut dyn FnMut(&str, &str, &ClassSums)) {
    for (service, sums) in &moment.services {
        let classes = Class::ALL.into_iter().zip(&sums.classes);
        for (class, sums) in classes {
            if class == Class::Token || *sums != ClassSums::default() {
                visit(service, class.name(), sums);
            }
        }
    }
}

fn each(moment: &Moment<'_>, visit: &mut Visit<'_>, count: fn(&ClassSums) -> u64) {
    by_class(moment, &mut |service, class, sums| {
        visit(&[service, class], count(sums).into());
    });
}
