//! Commands in the classic protocol (protocol.txt, "Storage commands" to "Touch").

use crate::command::{Answer, Ask, Command, Count, Mode, Outcome, Store, Verb};

pub fn say(command: &Command, ask: Ask<'_>) -> Answer {
    let key = command.key();
    let noreply = if command.quiet { " noreply" } else { "" };
    let reply = match &command.verb {
        Verb::Get => ask(format!("gets {key}\r\n").as_bytes()),
        Verb::Gat(exptime) => ask(format!("gats {exptime} {key}\r\n").as_bytes()),
        Verb::Touch(exptime) => ask(format!("touch {key} {exptime}\r\n").as_bytes()),
        Verb::Store(store) => return self::store(command, store, noreply, ask),
        // Only `cas` asks for a unique.
        Verb::Delete | Verb::Count(_) if !command.is_met() => {
            return Outcome::Untold.without_unique();
        }
        Verb::Delete => ask(format!("delete {key}{noreply}\r\n").as_bytes()),
        Verb::Count(count) => return self::count(key, count, ask),
        Verb::Flush(at) => {
            let at = at.map(|at| format!(" {at}")).unwrap_or_default();
            ask(format!("flush_all{at}{noreply}\r\n").as_bytes())
        }
    };
    read(&reply)
}

fn store(command: &Command, store: &Store, noreply: &str, ask: Ask<'_>) -> Answer {
    let name = match store.mode {
        Mode::Set if command.unique.is_some() => "cas",
        Mode::Set => "set",
        Mode::Add => "add",
        Mode::Replace => "replace",
        Mode::Append => "append",
        Mode::Prepend => "prepend",
    };
    if name != "cas" && !command.is_met() {
        return Outcome::Untold.without_unique();
    }
    let unique = command.unique.filter(|_| name == "cas");
    let unique = unique
        .map(|unique| format!(" {unique}"))
        .unwrap_or_default();
    let (key, flags, exptime) = (command.key(), store.flags, store.exptime);
    let length = store.value.len();
    let line = format!("{name} {key} {flags} {exptime} {length}{unique}{noreply}\r\n");
    read(&ask(&[line.as_bytes(), &store.value, b"\r\n"].concat()))
}

/// Never quietly, since what is made has to be told.
fn count(key: &str, count: &Count, ask: Ask<'_>) -> Answer {
    let name = if count.up { "incr" } else { "decr" };
    let delta = count.delta;
    let counted = read(&ask(format!("{name} {key} {delta}\r\n").as_bytes()));
    let Some((initial, exptime)) = count.made.filter(|_| counted.outcome == Outcome::Missing)
    else {
        return counted;
    };
    let length = initial.to_string().len();
    let add = format!("add {key} 0 {exptime} {length}\r\n{initial}\r\n");
    assert_eq!(ask(add.as_bytes()), b"STORED\r\n");
    Outcome::Number(initial).without_unique()
}

fn read(reply: &[u8]) -> Answer {
    let outcome = match reply {
        b"" => Outcome::Untold,
        b"END\r\n" | b"NOT_FOUND\r\n" => Outcome::Missing,
        b"STORED\r\n" => Outcome::Stored,
        b"NOT_STORED\r\n" => Outcome::NotStored,
        b"EXISTS\r\n" => Outcome::Exists,
        b"DELETED\r\n" => Outcome::Deleted,
        b"TOUCHED\r\n" => Outcome::Touched,
        b"OK\r\n" => Outcome::Flushed,
        b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n" => Outcome::NotNumeric,
        [b'0'..=b'9', ..] => Outcome::Number(number(reply.trim_ascii_end())),
        reply => return hit(reply),
    };
    outcome.without_unique()
}

/// `VALUE <key> <flags> <bytes> <unique>`, the value, and `END`.
fn hit(reply: &[u8]) -> Answer {
    let end = reply.iter().position(|&byte| byte == b'\n');
    let (line, block) = reply.split_at(end.expect("a reply has a line") + 1);
    let words: Vec<_> = line.trim_ascii_end().split(|&byte| byte == b' ').collect();
    let [b"VALUE", _, flags, length, unique] = words[..] else {
        panic!("{}", line.escape_ascii());
    };
    let (value, end) = block.split_at(number(length) as usize);
    assert_eq!(end, b"\r\nEND\r\n");
    let hit = Outcome::Hit {
        flags: number(flags) as u32,
        value: value.into(),
    };
    hit.with_unique(Some(number(unique)))
}

/// Digits as a number.
pub fn number(digits: &[u8]) -> u64 {
    let digits = std::str::from_utf8(digits).expect("a number is of digits");
    digits.parse().expect("a number is of digits")
}
