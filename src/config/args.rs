//! Words to flags, as GNU getopt_long reads them, and the command line itself.
//!
//! [`Scanner`] serves the command line and `memcached_conf.rs` alike: `-m64`,
//! `-m 64`, `-vvd`, `--memory-limit=64`, `--memory-limit 64`, long names cut
//! short where that names one flag only, and `--` after which no flag follows.
//! It is written here rather than left to a library, because a configuration
//! that memcached accepts has to mean the same to both, and because each value
//! keeps the line it stands on.
//!
//! [`command_line`] then tells settings from what is asked of this run. As with
//! memcached, `-h`, `-i` and `-V` end the reading where they stand.

use super::ConfigError;
use super::flags::{self, Ask, Does, FLAGS, Flag, Takes};
use super::settings::{Origin, Settings};
use super::units::Problem;
use crate::nearest::nearest;

/// One word, and the place it stands at where that is a file.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) place: Option<Origin>,
}

/// What the scanner finds.
pub(super) enum Found {
    /// A flag and its value; `true` for a switch, `1` for a count.
    Flag(&'static Flag, String, Origin),
    /// A word that is no flag's.
    Stray(Word),
}

/// Reads words one flag after the other.
pub(super) struct Scanner {
    words: std::vec::IntoIter<Word>,
    /// Letters not yet read of a word such as `-vvd`.
    cluster: Option<Word>,
    flags_ended: bool,
}

impl Scanner {
    pub(super) fn new(words: Vec<Word>) -> Self {
        Scanner {
            words: words.into_iter(),
            cluster: None,
            flags_ended: false,
        }
    }

    /// The next flag or stray word; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Found>, ConfigError> {
        loop {
            if let Some(cluster) = self.cluster.take() {
                return self.letter(cluster).map(Some);
            }
            let Some(word) = self.words.next() else {
                return Ok(None);
            };
            if self.flags_ended || !word.text.starts_with('-') || word.text == "-" {
                return Ok(Some(Found::Stray(word)));
            }
            match word.text.strip_prefix("--") {
                Some("") => self.flags_ended = true,
                Some(long) => return self.long(long, word.place.as_ref()).map(Some),
                None => {
                    let letters = word.text[1..].to_owned();
                    self.cluster = Some(Word {
                        text: letters,
                        place: word.place,
                    });
                }
            }
        }
    }

    /// The first letter of a cluster; the rest of it is kept, or is its value.
    fn letter(&mut self, cluster: Word) -> Result<Found, ConfigError> {
        let mut letters = cluster.text.chars();
        // A cluster is never empty: `-` alone is a stray word.
        let letter = letters.next().unwrap_or('-');
        let rest = letters.as_str().to_owned();
        let name = format!("-{letter}");
        let origin = origin(&name, cluster.place.as_ref());
        let flag = flags::by_short(letter).ok_or_else(|| unknown_letter(letter, &origin))?;
        let value = match flag.takes {
            Takes::Value(_) if rest.is_empty() => self.value(flag, &name, &origin)?,
            Takes::Value(_) => rest,
            Takes::Nothing | Takes::Count => {
                let more = Word {
                    text: rest,
                    place: cluster.place,
                };
                self.cluster = Some(more).filter(|more| !more.text.is_empty());
                implied(flag)
            }
        };
        Ok(Found::Flag(flag, value, origin))
    }

    fn long(&mut self, text: &str, place: Option<&Origin>) -> Result<Found, ConfigError> {
        let (name, given) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        let origin = origin(&format!("--{name}"), place);
        let flag = one_long(name, &origin)?;
        let full = format!("--{}", flag.long);
        let value = match (flag.takes, given) {
            (Takes::Value(_) | Takes::Count, Some(value)) => value,
            (Takes::Value(_), None) => self.value(flag, &full, &origin)?,
            (Takes::Nothing, Some(value)) => {
                let problem = Problem::new("takes no value", format!("give {full} alone"));
                return Err(ConfigError::value(&full, &value, &origin, &problem));
            }
            (Takes::Nothing | Takes::Count, None) => implied(flag),
        };
        Ok(Found::Flag(flag, value, origin))
    }

    /// The word after a flag, whatever it looks like, as getopt takes it.
    fn value(&mut self, flag: &Flag, name: &str, origin: &Origin) -> Result<String, ConfigError> {
        let needed = || {
            let remedy = format!("write {name} and the value after it");
            ConfigError::refused(&flag.key(), origin, &Problem::new("no value given", remedy))
        };
        self.words.next().map(|word| word.text).ok_or_else(needed)
    }
}

fn origin(flag: &str, place: Option<&Origin>) -> Origin {
    place.cloned().unwrap_or_else(|| Origin::command_line(flag))
}

fn implied(flag: &Flag) -> String {
    match flag.takes {
        Takes::Count => "1".into(),
        Takes::Nothing | Takes::Value(_) => "true".into(),
    }
}

fn one_long(name: &str, origin: &Origin) -> Result<&'static Flag, ConfigError> {
    let problem = match *flags::by_long(name).as_slice() {
        [flag] => return Ok(flag),
        [] => match nearest(name, FLAGS.iter().map(|flag| flag.long)) {
            Some(near) => Problem::new("unknown option", format!("did you mean --{near}?")),
            None => Problem::new("unknown option", "-h lists the known ones"),
        },
        [first, second, ..] => {
            let both = format!("it could be --{} or --{}", first.long, second.long);
            Problem::new(both, "write the name in full")
        }
    };
    Err(ConfigError::refused(&format!("--{name}"), origin, &problem))
}

fn unknown_letter(letter: char, origin: &Origin) -> ConfigError {
    let other_case = if letter.is_ascii_lowercase() {
        letter.to_ascii_uppercase()
    } else {
        letter.to_ascii_lowercase()
    };
    let remedy = match flags::by_short(other_case) {
        Some(flag) => format!("did you mean -{other_case} (--{})?", flag.long),
        None => "-h lists the known ones".into(),
    };
    let problem = Problem::new("unknown option", remedy);
    ConfigError::refused(&format!("-{letter}"), origin, &problem)
}

/// A command line that was read: settings, and what it asks for.
#[derive(Debug, Default)]
pub(super) struct CommandLine {
    pub(super) settings: Settings,
    /// `-h`, `-i` or `-V`.
    pub(super) print: Option<Ask>,
    pub(super) print_config: bool,
    /// The path of `--config`; the last one counts.
    pub(super) config_file: Option<String>,
    /// The path of `--memcached-conf`; the last one counts.
    pub(super) memcached_conf: Option<String>,
}

/// Reads a command line, the program's name not among its words.
pub(super) fn command_line(words: Vec<String>) -> Result<CommandLine, ConfigError> {
    let word = |text| Word { text, place: None };
    let mut scanner = Scanner::new(words.into_iter().map(word).collect());
    let mut read = CommandLine::default();
    while let Some(found) = scanner.next()? {
        match found {
            Found::Stray(word) => return Err(stray(&word.text)),
            Found::Flag(flag, text, origin) => match flag.does {
                Does::Ask(Ask::PrintConfig) => read.print_config = true,
                Does::Ask(Ask::ConfigFile) => read.config_file = Some(text),
                Does::Ask(Ask::MemcachedConf) => read.memcached_conf = Some(text),
                Does::Ask(ask @ (Ask::Help | Ask::License | Ask::Version)) => {
                    read.print = Some(ask);
                    return Ok(read);
                }
                _ => read.settings.give(flag, &text, origin)?,
            },
        }
    }
    Ok(read)
}

fn stray(word: &str) -> ConfigError {
    let remedy = match nearest(word, FLAGS.iter().map(|flag| flag.long)) {
        Some(near) => format!("did you mean --{near}?"),
        None => "every option begins with -; -h lists them".into(),
    };
    let problem = Problem::new("not an option", remedy);
    ConfigError::refused(word, &Origin::command_line(word), &problem)
}
