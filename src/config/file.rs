//! `--config`: a TOML file of settings.
//!
//! The keys are the long names of the flags with `_` for `-`, all at the top
//! level; `[access]` (`access.rs`) is the one table, and has no flag. A switch
//! takes `true` or `false`; a number is written as a number or, where it has a
//! suffix, as a string; `listen` and `extended` take a list of strings too.
//!
//! ```toml
//! memory_limit = "1g"
//! listen = ["127.0.0.1", "::1"]
//! unix_socket = "/run/tokencached/socket"
//! unix_mask = "0770"
//! disable_evictions = false
//! ```
//!
//! Called by `mod.rs` with the bytes of the file. Each value goes through
//! [`Settings::give`] as text, so that it is read exactly as on the command
//! line. Unknown keys are refused, the nearest known one named.

use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::access;
use super::flags::{self, Does, Flag, Setting, Takes};
use super::settings::{Origin, Settings, said};
use super::units::Problem;
use crate::nearest::nearest;

/// Reads the bytes of a file named `path`, which serves for messages only.
pub(super) fn parse(bytes: &[u8], path: &str) -> Result<Settings, ConfigError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = line_at(bytes, error.valid_up_to());
        syntax(path, line, "not UTF-8 text")
    })?;
    let table = DeTable::parse(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        syntax(path, line_at(bytes, start), error.message())
    })?;
    let mut settings = Settings::default();
    for (key, value) in table.into_inner() {
        let origin = Origin::key(path, key.get_ref());
        if let ("access", Some(table)) = (&**key.get_ref(), value.get_ref().as_table()) {
            settings.access = said(access::parse(table, path)?, &origin);
            continue;
        }
        if value.get_ref().is_table() {
            return Err(no_tables(key.get_ref(), &origin));
        }
        let flag = flag_of(key.get_ref(), &origin)?;
        for text in texts(flag, value.get_ref(), &origin)? {
            settings.give(flag, &text, origin.clone())?;
        }
    }
    Ok(settings)
}

fn line_at(bytes: &[u8], offset: usize) -> usize {
    let before = &bytes[..offset.min(bytes.len())];
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

fn syntax(path: &str, line: usize, what: &str) -> ConfigError {
    let what = what.replace('\n', ", ");
    let remedy = match what.as_str() {
        "duplicate key" => "leave one of the two out",
        _ => "write lines such as memory_limit = 64, and lists such as [\"a\", \"b\"]",
    };
    let problem = Problem::new(what, remedy);
    ConfigError::refused("config", &Origin::line(path, line), &problem)
}

fn no_tables(key: &str, origin: &Origin) -> ConfigError {
    let remedy = match nearest(&key.to_lowercase(), ["access"]) {
        Some(near) => format!("did you mean [{near}]?"),
        None => "move its keys to the top of the file".to_owned(),
    };
    let problem = Problem::new("there is no table but [access]", remedy);
    ConfigError::refused(key, origin, &problem)
}

fn flag_of(key: &str, origin: &Origin) -> Result<&'static Flag, ConfigError> {
    flags::by_key(key).ok_or_else(|| {
        if key == "access" {
            let remedy = "write [access], and below it default, connect, read_only and deny";
            return ConfigError::refused(key, origin, &Problem::new("not a table", remedy));
        }
        let remedy = match nearest(key, flags::keyed().map(Flag::key)) {
            _ if access::KEYS.contains(&key) => {
                format!("write access.{key}, or put it below [access]")
            }
            Some(near) => format!("did you mean {near}?"),
            None => "the keys are the long names that -h lists, with _ for -".into(),
        };
        ConfigError::refused(key, origin, &Problem::new("unknown key", remedy))
    })
}

/// A value as the texts that the command line would have given.
fn texts(flag: &Flag, value: &DeValue<'_>, origin: &Origin) -> Result<Vec<String>, ConfigError> {
    let many = matches!(
        flag.does,
        Does::Extended | Does::Set(Setting::Listen | Setting::HttpHosts)
    );
    let found = match value {
        DeValue::Array(items) if many => items
            .iter()
            .map(|item| text(flag, item.get_ref()))
            .collect(),
        single => text(flag, single).map(|text| vec![text]),
    };
    found.ok_or_else(|| {
        let what = format!("a TOML {} does not fit", value.type_str());
        ConfigError::refused(&flag.key(), origin, &Problem::new(what, wanted(flag, many)))
    })
}

fn text(flag: &Flag, value: &DeValue<'_>) -> Option<String> {
    match (flag.takes, value) {
        (Takes::Nothing, DeValue::Boolean(on)) => Some(on.to_string()),
        (Takes::Value(_) | Takes::Count, DeValue::Integer(number)) => {
            // The digits of an access mask are octal however they are written.
            let radix = match flag.does {
                Does::Set(Setting::UnixMask) if number.radix() != 16 => 10,
                _ => number.radix(),
            };
            i128::from_str_radix(number.as_str(), radix)
                .ok()
                .map(|number| number.to_string())
        }
        (Takes::Value(_), DeValue::Float(number)) => Some(number.as_str().to_owned()),
        (Takes::Value(_), DeValue::String(text)) => Some(text.to_string()),
        _ => None,
    }
}

fn wanted(flag: &Flag, many: bool) -> &'static str {
    match flag.takes {
        Takes::Nothing => "give true or false",
        Takes::Count => "give a whole number",
        Takes::Value(_) if many => "give a string or a list of strings",
        Takes::Value(_) => "give a number or a string",
    }
}
