//! Commands as meta commands (protocol.txt, "Meta Commands"); `flush_all` has no such form.

use crate::classic::{self, number};
use crate::command::{Answer, Ask, Command, Count, Mode, Outcome, Store, Verb};

pub fn say(command: &Command, ask: Ask<'_>) -> Answer {
    let key = command.key();
    let quiet = if command.quiet { " q" } else { "" };
    let unique = command.unique.map(|unique| format!(" C{unique}"));
    let flags = format!("{}{quiet}", unique.unwrap_or_default());
    let reply = match &command.verb {
        Verb::Get => ask(format!("mg {key} v f c\r\n").as_bytes()),
        Verb::Gat(exptime) => ask(format!("mg {key} v f c T{exptime}\r\n").as_bytes()),
        Verb::Touch(exptime) => ask(format!("mg {key} T{exptime}\r\n").as_bytes()),
        Verb::Store(store) => ask(&self::store(key, store, &flags)),
        Verb::Delete => ask(format!("md {key}{flags}\r\n").as_bytes()),
        Verb::Count(count) => ask(self::count(key, count, &flags).as_bytes()),
        Verb::Flush(_) => return classic::say(command, ask),
    };
    read(&command.verb, &reply)
}

fn store(key: &str, store: &Store, flags: &str) -> Vec<u8> {
    let mode = match store.mode {
        Mode::Set => 'S',
        Mode::Add => 'E',
        Mode::Replace => 'R',
        Mode::Append => 'A',
        Mode::Prepend => 'P',
    };
    let (length, exptime, client_flags) = (store.value.len(), store.exptime, store.flags);
    let line = format!("ms {key} {length} c M{mode} T{exptime} F{client_flags}{flags}\r\n");
    [line.as_bytes(), &store.value, b"\r\n"].concat()
}

fn count(key: &str, count: &Count, flags: &str) -> String {
    let (mode, delta) = (if count.up { '+' } else { '-' }, count.delta);
    let made = count.made;
    let made = made.map(|(initial, exptime)| format!(" N{exptime} J{initial}"));
    let made = made.unwrap_or_default();
    format!("ma {key} v c M{mode} D{delta}{made}{flags}\r\n")
}

fn read(verb: &Verb, reply: &[u8]) -> Answer {
    if reply.starts_with(b"VA ") {
        return value(verb, reply);
    }
    let done = match verb {
        Verb::Store(_) => Outcome::Stored,
        Verb::Delete => Outcome::Deleted,
        _ => Outcome::Touched,
    };
    match reply {
        b"" => Outcome::Untold.without_unique(),
        b"EN\r\n" => Outcome::Missing.without_unique(),
        b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n" => {
            Outcome::NotNumeric.without_unique()
        }
        [b'H', b'D', ..] => done.with_unique(unique(reply)),
        [b'N', b'F', ..] => Outcome::Missing.without_unique(),
        [b'N', b'S', ..] => Outcome::NotStored.without_unique(),
        [b'E', b'X', ..] => Outcome::Exists.without_unique(),
        _ => panic!("{}", reply.escape_ascii()),
    }
}

fn value(verb: &Verb, reply: &[u8]) -> Answer {
    let block = &reply[line(reply).len()..];
    let value = block.strip_suffix(b"\r\n").expect("a value has an end");
    let outcome = match verb {
        Verb::Count(_) => Outcome::Number(number(value)),
        _ => Outcome::Hit {
            flags: flag(reply, b'f').expect("flags were asked for") as u32,
            value: value.into(),
        },
    };
    outcome.with_unique(unique(reply))
}

/// The CAS unique that a reply tells.
pub fn unique(reply: &[u8]) -> Option<u64> {
    flag(reply, b'c')
}

fn flag(reply: &[u8], letter: u8) -> Option<u64> {
    let mut words = line(reply).trim_ascii_end().split(|&byte| byte == b' ');
    let token = words.find_map(|word| word.strip_prefix(&[letter]));
    token.map(number)
}

fn line(reply: &[u8]) -> &[u8] {
    let end = reply.iter().position(|&byte| byte == b'\n');
    &reply[..end.expect("a reply has a line") + 1]
}
