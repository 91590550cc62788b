//! `[access]`: the one table of the TOML file, which says who may connect and who may write.
//!
//! ```toml
//! [access]
//! default = "deny"                              # or "allow": what holds for all others
//! connect = ["root", "@system", "nova", "%api"] # may read and write
//! read_only = ["monitoring"]                    # may connect, and only read
//! deny = ["www-data"]                           # may not connect
//! ```
//!
//! Or, which leaves room for other keys behind it, `access.default = "deny"`.
//!
//! `deny` goes before `read_only`, that before `connect`, that before `default`. A name is a user's, `%name`
//! a group's; both may be numbers. `@system` stands for root and the users of services (up to `SYS_UID_MAX`
//! of `/etc/login.defs`, and 61184 to 65519, where nova, cinder and glance are on Debian), `@server` for the
//! user that the server runs as. `file.rs` hands the table over; `resolve.rs` asks for the [`Rules`], in which
//! names are numbers.
//!
//! Invariants:
//! - a name that the user database does not know is an error, not a rule that never holds;
//! - rules that let everybody do everything are no rules, so that nobody is looked up for them.

use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::flags;
use super::machine::Machine;
use super::settings::{Origin, Sourced};
use super::units::Problem;
use crate::nearest::nearest;
use crate::server::access::{Rules, Subject};

/// The keys of the table.
pub(super) const KEYS: [&str; 4] = ["default", "connect", "read_only", "deny"];

/// What the table says, its names not looked up yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    others: bool,
    connect: Vec<Sourced<String>>,
    read_only: Vec<Sourced<String>>,
    deny: Vec<Sourced<String>>,
}

/// Reads the table of a file named `path`.
pub(super) fn parse(table: &DeTable<'_>, path: &str) -> Result<Table, ConfigError> {
    let mut read = Table::default();
    for (key, value) in table {
        let key: &str = key.get_ref();
        let origin = Origin::key(path, &format!("access.{key}"));
        let value = value.get_ref();
        match key {
            "default" => read.others = others(value, &origin)?,
            "connect" => read.connect = names(key, value, &origin)?,
            "read_only" => read.read_only = names(key, value, &origin)?,
            "deny" => read.deny = names(key, value, &origin)?,
            _ => return Err(unknown_key(key, &origin)),
        }
    }
    Ok(read)
}

fn unknown_key(key: &str, origin: &Origin) -> ConfigError {
    let remedy = match nearest(key, KEYS) {
        _ if flags::by_key(key).is_some() => format!("write {key} above [access]"),
        Some(near) => format!("did you mean {near}?"),
        None => format!("the keys are {}", KEYS.join(", ")),
    };
    let key = format!("access.{key}");
    ConfigError::refused(&key, origin, &Problem::new("unknown key", remedy))
}

fn others(value: &DeValue<'_>, origin: &Origin) -> Result<bool, ConfigError> {
    match value.as_str() {
        Some("allow") => Ok(true),
        Some("deny") => Ok(false),
        _ => {
            let problem = Problem::new("not a default", "give \"allow\" or \"deny\"");
            Err(ConfigError::refused("access.default", origin, &problem))
        }
    }
}

fn names(
    key: &str,
    value: &DeValue<'_>,
    origin: &Origin,
) -> Result<Vec<Sourced<String>>, ConfigError> {
    let list = value.as_array().and_then(|items| {
        let names = items.iter().map(|item| name(item.get_ref(), origin));
        names.collect::<Option<Vec<_>>>()
    });
    list.ok_or_else(|| {
        let key = format!("access.{key}");
        let remedy = "give a list such as [\"root\", \"@system\", \"nova\", \"%glance\"]";
        ConfigError::refused(&key, origin, &Problem::new("not a list of names", remedy))
    })
}

fn name(item: &DeValue<'_>, origin: &Origin) -> Option<Sourced<String>> {
    let value = match item {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
        _ => return None,
    };
    let origin = origin.clone();
    Some(Sourced { value, origin })
}

impl Table {
    /// The rules, if they keep anybody from anything. Looks names up, which may block.
    pub(super) fn resolve(&self, machine: &Machine) -> Result<Option<Rules>, ConfigError> {
        let rules = Rules {
            deny: subjects("deny", &self.deny, machine)?,
            read_only: subjects("read_only", &self.read_only, machine)?,
            connect: subjects("connect", &self.connect, machine)?,
            others: self.others,
            system_uid_max: machine.system_uid_max,
        };
        let is_open = rules.others && rules.deny.is_empty() && rules.read_only.is_empty();
        Ok((!is_open).then_some(rules))
    }

    /// What is probably not meant.
    pub(super) fn warning(&self) -> Option<&'static str> {
        let is_empty = self.connect.is_empty() && self.read_only.is_empty();
        if !self.others && is_empty {
            return Some(
                "nobody may connect; name users with access.connect, or set access.default = \"allow\"",
            );
        }
        let has_no_effect = self.others && !self.connect.is_empty();
        has_no_effect.then_some(
            "connect has no effect where access.default is \"allow\"; set it to \"deny\" to let nobody else in",
        )
    }

    /// The table in one line, for `--print-config`.
    pub(super) fn shown(&self) -> String {
        let others = if self.others { "allow" } else { "deny" };
        let mut text = format!("default={others}");
        let lists = [
            ("connect", &self.connect),
            ("read_only", &self.read_only),
            ("deny", &self.deny),
        ];
        for (key, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
            let names: Vec<&str> = list.iter().map(|name| name.value.as_str()).collect();
            text.push_str(&format!(" {key}={}", names.join(",")));
        }
        text
    }
}

fn subjects(
    key: &str,
    names: &[Sourced<String>],
    machine: &Machine,
) -> Result<Vec<Subject>, ConfigError> {
    let subject = |name: &Sourced<String>| {
        subject(&name.value, machine).map_err(|problem| {
            ConfigError::value(
                &format!("access.{key}"),
                &name.value,
                &name.origin,
                &problem,
            )
        })
    };
    names.iter().map(subject).collect()
}

fn subject(name: &str, machine: &Machine) -> Result<Subject, Problem> {
    if let Some(class) = name.strip_prefix('@') {
        return match class {
            "system" => Ok(Subject::System),
            "server" => Ok(Subject::Server),
            _ => Err(Problem::new("unknown class", "give @system or @server")),
        };
    }
    match name.strip_prefix('%') {
        Some(group) => number(group)
            .or_else(|| (machine.gid_of)(group))
            .map(Subject::Group)
            .ok_or_else(|| {
                let remedy = "create it, name another, or give its number as %NUMBER";
                Problem::new("there is no such group", remedy)
            }),
        None => number(name)
            .or_else(|| (machine.uid_of)(name))
            .map(Subject::User)
            .ok_or_else(|| {
                let remedy = "create it, name another, or give its number (%NAME is a group)";
                Problem::new("there is no such user", remedy)
            }),
    }
}

/// A uid or gid; the last number there is stands for none.
fn number(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| *number != u32::MAX);
    number.filter(|_| is_number)
}
