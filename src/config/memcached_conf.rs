//! `--memcached-conf`: a file in the form of Debian's `/etc/memcached.conf`.
//!
//! Read as Debian's `systemd-memcached-wrapper` reads it, so that the file the
//! charms write means the same to both servers:
//! - a `#` and what follows it is a comment, unless a backslash stands before;
//! - a line that begins with `-d` or `-h` is left out, the whole of it;
//! - a line of several words that does not begin with `-` is left out
//!   (`logfile ...` is the only one the wrapper names; in fact it leaves out
//!   all of them);
//! - the rest is joined and split into words as a shell does, so several flags
//!   may share a line, and a value may stand on the line after its flag.
//!
//! Differs from the wrapper: what is left out is noted or warned of; a file that
//! cannot be read is an error and not an empty one; characters with which the
//! line would start other programs are refused. Its `-u root` for a file
//! without flags needs nothing here: without `-u` the user stays as it is.
//!
//! Called by `mod.rs` with the bytes of the file; calls `args.rs`.

use super::ConfigError;
use super::args::{Found, Scanner, Word};
use super::settings::{Origin, Settings};
use super::units::Problem;

/// Reads the bytes of a file named `path`, which serves for messages only.
pub(super) fn parse(bytes: &[u8], path: &str) -> Result<Settings, ConfigError> {
    let mut settings = Settings::default();
    let mut words = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let origin = Origin::line(path, index + 1);
        let line = std::str::from_utf8(line).map_err(|_| not_text(&origin))?;
        match kind(&without_comment(line)) {
            Line::Flags(text) => words.extend(split_words(&text, &origin)?),
            Line::LeftOut(text) => leave_out(&text, &origin, &mut settings),
            Line::Blank => {}
        }
    }
    take(words, &mut settings)?;
    Ok(settings)
}

fn take(words: Vec<Word>, settings: &mut Settings) -> Result<(), ConfigError> {
    let mut scanner = Scanner::new(words);
    while let Some(found) = scanner.next()? {
        match found {
            Found::Flag(flag, text, origin) => settings.give(flag, &text, origin)?,
            Found::Stray(word) => {
                let place = word
                    .place
                    .map(|place| place.to_string())
                    .unwrap_or_default();
                let text = word.text.escape_debug();
                settings
                    .warnings
                    .push(format!("\"{text}\" ({place}): ignored, it is no option"));
            }
        }
    }
    Ok(())
}

fn not_text(origin: &Origin) -> ConfigError {
    let problem = Problem::new("not UTF-8 text", "write the line in ASCII or UTF-8");
    ConfigError::refused("memcached_conf", origin, &problem)
}

/// What the wrapper does with a line.
enum Line {
    Blank,
    LeftOut(String),
    Flags(String),
}

fn kind(line: &str) -> Line {
    let line = line.trim();
    let directive = !line.starts_with('-') && line.contains(char::is_whitespace);
    if line.is_empty() {
        Line::Blank
    } else if directive || line.starts_with("-d") || line.starts_with("-h") {
        Line::LeftOut(line.to_owned())
    } else {
        Line::Flags(line.to_owned())
    }
}

/// Drops each `#` that no backslash stands before, up to the next `#`: the
/// wrapper's `s/(?<!\\)\#[^\#]*//g`.
fn without_comment(line: &str) -> String {
    let mut parts = line.split('#');
    let mut before = parts.next().unwrap_or_default();
    let mut kept = before.to_owned();
    for part in parts {
        if before.ends_with('\\') {
            kept.push('#');
            kept.push_str(part);
        }
        before = part;
    }
    kept
}

/// A line that the wrapper drops: expected ones are noted, others warned of.
fn leave_out(line: &str, origin: &Origin, settings: &mut Settings) {
    let text = line.escape_debug();
    let first = line.split_whitespace().next().unwrap_or_default();
    match first {
        "-d" if line == "-d" => settings.notes.push(format!(
            "\"-d\" ({origin}): not acted on, the service manager decides"
        )),
        "logfile" => settings.notes.push(format!(
            "\"{text}\" ({origin}): not acted on, the log goes to standard error"
        )),
        _ => settings.warnings.push(format!(
            "\"{text}\" ({origin}): the whole line is ignored, as Debian's wrapper ignores it"
        )),
    }
}

/// Splits as a shell does, with its quotes and backslashes.
fn split_words(line: &str, origin: &Origin) -> Result<Vec<Word>, ConfigError> {
    let fail = |what: &str, remedy: &str| {
        ConfigError::value("memcached_conf", line, origin, &Problem::new(what, remedy))
    };
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                let next = chars.next();
                word.get_or_insert_default().push(next.unwrap_or('\\'));
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, '$' | '`' | '|' | ';' | '&' | '<' | '>' | '(' | ')')
            | (Some('"'), '$' | '`') => {
                return Err(fail(
                    "a shell would act on part of it",
                    "write plain flags and values",
                ));
            }
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(fail("a quote is not closed", "close it on the same line"));
    }
    words.extend(word);
    let place = |text| Word {
        text,
        place: Some(origin.clone()),
    };
    Ok(words.into_iter().map(place).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_go_as_the_wrapper_removes_them() {
        for (line, kept) in [
            ("-m 64 # a # b", "-m 64 "),
            ("# -v", ""),
            (r"-s /a\#b", r"-s /a\#b"),
            (r"x #a \# b", r"x # b"),
            ("plain", "plain"),
        ] {
            assert_eq!(without_comment(line), kept, "{line}");
        }
    }

    #[test]
    fn words_split_as_in_a_shell() {
        let origin = Origin::line("f", 1);
        let words = |line: &str| -> Vec<String> {
            let words = split_words(line, &origin).unwrap();
            words.into_iter().map(|word| word.text).collect()
        };
        assert_eq!(
            words(r#"-u "memcache" -s '/a b' "#),
            ["-u", "memcache", "-s", "/a b"]
        );
        assert_eq!(words(r"-s /a\#b\ c -l ''"), ["-s", "/a#b c", "-l", ""]);
        for line in ["-u $USER", "-m 64; rm x", "-s 'open", "-u \"`id`\""] {
            assert!(split_words(line, &origin).is_err(), "{line}");
        }
    }

    #[test]
    fn values_keep_their_line_and_may_stand_on_the_next() {
        let settings = parse(b"# c\n-m\n128\n-vv -p 11300\n", "f").unwrap();
        let limit = settings.memory_limit.unwrap();
        assert_eq!(limit.value, 128 << 20);
        assert_eq!(limit.origin, Origin::line("f", 2));
        assert_eq!(settings.verbose.unwrap().value, 2);
        assert_eq!(settings.port.unwrap().origin, Origin::line("f", 4));
    }

    #[test]
    fn what_is_left_out_is_said() {
        let settings = parse(b"-d\nlogfile /x\n-d -m 9\nmaxconn 7\nlone\n", "f").unwrap();
        assert_eq!(settings.notes.len(), 2);
        assert_eq!(settings.warnings.len(), 3);
        assert!(settings.memory_limit.is_none() && settings.daemon.is_none());
    }
}
