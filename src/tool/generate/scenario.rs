//! Scenarios: who uses a cloud's API, by a name and by parameters that can each be set.
//!
//! A [`Scenario`] is a list of numbers with names, ranges and units, declared once below; the command
//! line's `--set NAME=VALUE`, the list that `generate --list` prints and the description of a trace come
//! from that one declaration. The named scenarios are a cloud of some size ([`NAMES`]) and what makes each
//! of the others differ from `large`.

use std::fmt;

use crate::nearest::nearest;
use crate::tool::Error;

/// What is known of a parameter beside its value.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name; the unit is its last word.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// The least and the greatest value that makes sense.
    pub range: (f64, f64),
}

macro_rules! parameters {
    ($($(#[doc = $about:literal])+ $name:ident = $default:literal, $least:literal..=$greatest:literal;)+) => {
        /// A cloud, its users, and who attacks it.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Scenario {
            /// What it is called.
            pub name: String,
            $($(#[doc = $about])+ pub $name: f64,)+
        }

        /// All parameters, in the order of their declaration.
        pub const PARAMETERS: &[Parameter] = &[$(Parameter {
            name: stringify!($name),
            about: concat!($($about),+),
            range: ($least as f64, $greatest as f64),
        }),+];

        impl Scenario {
            /// The scenario that the others are told from.
            fn large() -> Scenario {
                Scenario { name: "large".to_owned(), $($name: $default as f64,)+ }
            }

            fn field(&mut self, name: &str) -> Option<&mut f64> {
                match name {
                    $(stringify!($name) => Some(&mut self.$name),)+
                    _ => None,
                }
            }

            /// All values, in the order of [`PARAMETERS`].
            pub fn values(&self) -> Vec<f64> {
                vec![$(self.$name,)+]
            }
        }
    };
}

parameters! {
    /// How long the trace is, in hours.
    hours = 24, 0.01..=1000;
    /// How much more (and less) people do by day (and by night): 0 not at all, 1 nothing at midnight.
    day_swing = 0.4, 0..=1;
    /// Processes with a token of their own that ask steadily: nova-compute, neutron agents and the like.
    services = 800, 0..=1000000;
    /// Requests a second of a service, on average; a few do much more than most.
    service_requests_per_second = 0.3, 0.0001..=1000;
    /// How long a service or a controller uses a token before it takes a new one, in seconds.
    token_seconds = 3300, 1..=1000000;
    /// Programs that look after something at intervals: autoscalers, cloud providers, inventories.
    controllers = 1000, 0..=1000000;
    /// Seconds between two rounds of a controller, on average.
    controller_interval_seconds = 45, 0.1..=100000;
    /// Requests in a round of a controller.
    controller_requests = 2, 1..=1000;
    /// People with a dashboard open.
    dashboards = 450, 0..=1000000;
    /// How long one is open, in seconds, on average.
    dashboard_seconds = 1200, 1..=1000000;
    /// Seconds between two pages, on average.
    dashboard_pause_seconds = 40, 0.1..=100000;
    /// Requests for one page, on average.
    dashboard_requests = 6, 1..=1000;
    /// Commands and jobs a second, each with a new token.
    commands_per_second = 17, 0..=100000;
    /// Requests of a command, on average.
    command_requests = 3, 1..=1000;
    /// Seconds between the requests of a command, on average.
    command_pause_seconds = 1, 0..=100000;
    /// Monitoring checks, each with a new token every time.
    monitors = 60, 0..=1000000;
    /// Seconds between two rounds of a check.
    monitor_interval_seconds = 60, 0.1..=100000;
    /// Requests in a round of a check.
    monitor_requests = 6, 1..=1000;
    /// Hours between two crowds of people who all open a dashboard at once; 0 for no crowd.
    crowd_hours = 0, 0..=1000;
    /// How long a crowd keeps coming, in seconds.
    crowd_seconds = 600, 1..=100000;
    /// People of a crowd, a second.
    crowd_people_per_second = 15, 0..=100000;
    /// Tokens a second that an attacker mints.
    attack_tokens_per_second = 0, 0..=100000;
    /// How often the attacker uses each.
    attack_uses = 1, 1..=1000;
    /// Seconds between two uses, on average.
    attack_pause_seconds = 20, 0..=100000;
    /// Entries a second that others store without an expiry (dogpile.cache does).
    lasting_per_second = 0, 0..=100000;
    /// How often each of those is looked up soon after.
    lasting_uses = 10, 1..=1000;
    /// Seconds between two such lookups, on average.
    lasting_pause_seconds = 60, 0..=100000;
    /// Percentage of tokens that are unscoped: small ones, without a catalogue.
    unscoped_percent = 2, 0..=100;
    /// Bytes of the catalogue in every scoped token.
    catalogue_bytes = 12072, 0..=1000000;
}

/// The names of all scenarios, with what each is.
pub const NAMES: &[(&str, &str)] = &[
    ("small", "a cloud of a few dozen services and people"),
    (
        "large",
        "services, controllers, dashboards, commands and monitoring, some 500 requests a second",
    ),
    (
        "ci",
        "a cloud in which most requests are commands with a token of their own",
    ),
    ("slow-ci", "ci, with commands that last most of a minute"),
    (
        "flash-crowd",
        "large, and every three hours hundreds open a dashboard at once",
    ),
    (
        "mint-once",
        "large, and an attacker who mints tokens and uses each once",
    ),
    (
        "mint-thrice",
        "large, and an attacker who mints tokens and uses each three times",
    ),
    (
        "dogpile",
        "large, and other users of the cache who store entries that never expire",
    ),
];

impl Scenario {
    /// The scenario of this name.
    ///
    /// # Errors
    /// [`Error::Options`] if there is none, with the nearest one.
    pub fn named(name: &str) -> Result<Scenario, Error> {
        let changes: &[(&str, f64)] = match name {
            "large" => &[],
            "small" => &[
                ("services", 60.0),
                ("controllers", 40.0),
                ("dashboards", 15.0),
                ("commands_per_second", 0.5),
                ("monitors", 20.0),
            ],
            "ci" => &[
                ("services", 450.0),
                ("controllers", 300.0),
                ("dashboards", 60.0),
                ("commands_per_second", 75.0),
                ("monitors", 60.0),
            ],
            "slow-ci" => &[
                ("services", 450.0),
                ("controllers", 300.0),
                ("dashboards", 60.0),
                ("commands_per_second", 75.0),
                ("command_requests", 4.0),
                ("command_pause_seconds", 10.0),
                ("monitors", 60.0),
            ],
            "flash-crowd" => &[("crowd_hours", 3.0)],
            "mint-once" => &[("attack_tokens_per_second", 200.0)],
            "mint-thrice" => &[("attack_tokens_per_second", 70.0), ("attack_uses", 3.0)],
            "dogpile" => &[("lasting_per_second", 2.0)],
            _ => {
                let known = NAMES.iter().map(|(known, _)| *known);
                return Err(unknown("scenario", name, known));
            }
        };
        let mut scenario = Scenario {
            name: name.to_owned(),
            ..Scenario::large()
        };
        for (parameter, value) in changes {
            scenario.change(parameter, *value)?;
        }
        Ok(scenario)
    }

    /// Sets a parameter from `NAME=VALUE`.
    ///
    /// # Errors
    /// [`Error::Options`] if there is no such parameter, or if the value is no number or out of range.
    pub fn set(&mut self, assignment: &str) -> Result<(), Error> {
        let (name, value) = assignment.split_once('=').ok_or_else(|| {
            Error::Options(format!(
                "--set {assignment:?}: give NAME=VALUE, such as hours=2"
            ))
        })?;
        let number: f64 = value
            .trim()
            .parse()
            .map_err(|_| Error::Options(format!("--set {assignment:?}: {value:?} is no number")))?;
        self.change(name.trim(), number)
    }

    fn change(&mut self, name: &str, value: f64) -> Result<(), Error> {
        let Some(known) = PARAMETERS.iter().find(|known| known.name == name) else {
            let names = PARAMETERS.iter().map(|known| known.name);
            return Err(unknown("parameter", name, names));
        };
        let (least, greatest) = known.range;
        if !(least..=greatest).contains(&value) {
            return Err(Error::Options(format!(
                "{name}={value}: must be from {least} to {greatest}"
            )));
        }
        if let Some(field) = self.field(name) {
            *field = value;
        }
        Ok(())
    }

    /// The parameters that differ from those of the scenario's name, as `name=value`.
    pub fn changes(&self) -> Vec<String> {
        let Ok(named) = Scenario::named(&self.name) else {
            return Vec::new();
        };
        let pairs = self.values().into_iter().zip(named.values());
        let differing = PARAMETERS
            .iter()
            .zip(pairs)
            .filter(|(_, (own, named))| own != named);
        differing
            .map(|(known, (own, _))| format!("{}={own}", known.name))
            .collect()
    }

    /// How long the trace is, in milliseconds.
    pub fn millis(&self) -> u32 {
        (self.hours * 3_600_000.0) as u32
    }

    /// Refuses what would be too large to be held in memory.
    ///
    /// # Errors
    /// [`Error::Options`].
    pub fn check(&self) -> Result<(), Error> {
        const REQUESTS_MAX: f64 = 5e8;
        let requests = self.requests_about();
        if requests > REQUESTS_MAX {
            return Err(Error::Options(format!(
                "scenario {:?}: some {requests:.0} requests, and at most {REQUESTS_MAX:.0} can be held; give fewer hours",
                self.name
            )));
        }
        Ok(())
    }

    /// Requests that it will have, roughly.
    pub fn requests_about(&self) -> f64 {
        let people = self.dashboards / self.dashboard_pause_seconds * self.dashboard_requests;
        let controllers =
            self.controllers / self.controller_interval_seconds * self.controller_requests;
        let monitors = self.monitors / self.monitor_interval_seconds * self.monitor_requests;
        let visit =
            self.dashboard_requests * (1.0 + self.dashboard_seconds / self.dashboard_pause_seconds);
        let crowd = match self.crowd_hours {
            0.0 => 0.0,
            hours => {
                let share = (self.crowd_seconds / (hours * 3600.0)).min(1.0);
                share * self.crowd_people_per_second * visit
            }
        };
        let a_second = crowd
            + self.services * self.service_requests_per_second
            + controllers
            + people
            + self.commands_per_second * self.command_requests
            + monitors
            + self.attack_tokens_per_second * self.attack_uses
            + self.lasting_per_second * self.lasting_uses;
        a_second * self.hours * 3600.0
    }
}

fn unknown(what: &str, name: &str, known: impl Iterator<Item = &'static str>) -> Error {
    let remedy = match nearest(name, known) {
        Some(near) => format!("did you mean {near}?"),
        None => "generate --list names them".to_owned(),
    };
    Error::Options(format!("there is no {what} {name:?}; {remedy}"))
}

/// All scenarios and parameters, for people: what `generate --list` prints.
#[derive(Debug)]
pub struct List<'a>(pub &'a Scenario);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Scenarios:")?;
        for (name, about) in NAMES {
            writeln!(f, "  {name:<13}{about}")?;
        }
        writeln!(f, "\nParameters, with their values in {}:", self.0.name)?;
        for (known, value) in PARAMETERS.iter().zip(self.0.values()) {
            let (least, greatest) = known.range;
            writeln!(f, "  {}={value}", known.name)?;
            writeln!(f, "     {} [{least} to {greatest}]", known.about.trim())?;
        }
        Ok(())
    }
}
