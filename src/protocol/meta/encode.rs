//! Answers to meta commands: two letters, then what the flags ask for, in their order.

use super::key;
use crate::protocol::command::{Asked, Key};
use crate::protocol::line::{is_key, words_of};
use crate::protocol::reply::{
    Facts, Hit, Number, Reply, ReplySink, State, Stored, Ttl, Ttls, Unreadable, Value,
};

/// Slab classes, of which there are none, are shown as this one.
const SLAB_CLASS: &str = "1";

/// Writes the answer to a meta command into `sink`.
///
/// # Errors
/// If the value that was found cannot be read; a miss has been written then.
#[inline(never)]
pub fn encode<V: Value>(
    asked: &Asked<'_>,
    reply: Reply<'_, V>,
    sink: &mut impl ReplySink<V>,
) -> Result<(), Unreadable> {
    match reply {
        Reply::Fetched(hit, state) => return encode_fetched(asked, hit, &state, sink),
        Reply::Vivified(cas_unique, state) => encode_vivified(asked, cas_unique, &state, sink),
        Reply::Miss => encode_miss(asked, sink),
        Reply::Stored(_) | Reply::Deleted | Reply::Number(_) if asked.quiet => {}
        Reply::Stored(stored) => encode_stored(asked, "HD", stored, sink),
        Reply::Deleted => end(asked, "HD", &Shown::of(asked), sink),
        Reply::Number(number) => encode_number(asked, &number, sink),
        Reply::NotStored => encode_not_stored(asked, "NS", sink),
        Reply::Exists => encode_not_stored(asked, "EX", sink),
        Reply::NotFound => encode_not_stored(asked, "NF", sink),
        Reply::Facts(facts) => encode_facts(asked.key, &facts, sink),
        Reply::Nothing => sink.bytes(b"MN\r\n"),
        Reply::Error(error) => {
            sink.bytes(error.line().as_bytes());
            sink.bytes(b"\r\n");
        }
        _ => debug_assert!(false, "meta commands are not answered so"),
    }
    Ok(())
}

/// What flags can be answered with; what is `None` does not concern the command.
struct Shown<'s> {
    key: Key<'s>,
    key_is_binary: bool,
    size: Option<usize>,
    cas_unique: Option<u64>,
    client_flags: Option<u32>,
    ttls: Option<Ttls>,
    state: Option<&'s State>,
}

impl<'s> Shown<'s> {
    /// The key alone.
    fn of(asked: &Asked<'s>) -> Shown<'s> {
        Shown {
            key: asked.key,
            key_is_binary: asked.key_is_binary,
            size: None,
            cas_unique: None,
            client_flags: None,
            ttls: None,
            state: None,
        }
    }

    /// An item that `mg` found or made.
    fn item(asked: &Asked<'s>, state: &'s State, size: usize, cas_unique: u64) -> Shown<'s> {
        Shown {
            key_is_binary: state.key_is_binary,
            size: Some(size),
            cas_unique: Some(cas_unique),
            ttls: Some(state.ttls),
            state: Some(state),
            ..Shown::of(asked)
        }
    }
}

fn encode_fetched<V: Value>(
    asked: &Asked<'_>,
    hit: Hit<'_, V>,
    state: &State,
    sink: &mut impl ReplySink<V>,
) -> Result<(), Unreadable> {
    let mark = sink.mark();
    let shown = Shown {
        client_flags: Some(hit.client_flags),
        ..Shown::item(asked, state, hit.value.len(), hit.cas_unique)
    };
    if !asked.value || asked.known_unique == Some(hit.cas_unique) {
        end(asked, "HD", &shown, sink);
        return Ok(());
    }
    begin_value(hit.value.len(), sink);
    end(asked, "", &shown, sink);
    if let Err(Unreadable) = sink.value(hit.value) {
        sink.rewind(mark);
        encode_miss(asked, sink);
        return Err(Unreadable);
    }
    sink.bytes(b"\r\n");
    Ok(())
}

fn encode_vivified<V>(
    asked: &Asked<'_>,
    cas_unique: u64,
    state: &State,
    sink: &mut impl ReplySink<V>,
) {
    let shown = Shown {
        client_flags: Some(0),
        ..Shown::item(asked, state, 0, cas_unique)
    };
    if !asked.value || asked.known_unique == Some(cas_unique) {
        return end(asked, "HD", &shown, sink);
    }
    begin_value(0, sink);
    end(asked, "", &shown, sink);
    sink.bytes(b"\r\n");
}

fn encode_miss<V>(asked: &Asked<'_>, sink: &mut impl ReplySink<V>) {
    if !asked.quiet {
        end(asked, "EN", &Shown::of(asked), sink);
    }
}

fn encode_stored<V>(asked: &Asked<'_>, status: &str, stored: Stored, sink: &mut impl ReplySink<V>) {
    let given = asked.given_bytes.map(|bytes| bytes as usize);
    let shown = Shown {
        size: stored.value_bytes.or(given),
        cas_unique: Some(stored.cas_unique),
        ..Shown::of(asked)
    };
    end(asked, status, &shown, sink);
}

/// `ms` shows a CAS unique of 0 and the size of what it was given; others show neither.
fn encode_not_stored<V>(asked: &Asked<'_>, status: &str, sink: &mut impl ReplySink<V>) {
    let nothing = Stored {
        cas_unique: 0,
        value_bytes: None,
    };
    match asked.given_bytes {
        Some(_) => encode_stored(asked, status, nothing, sink),
        None => end(asked, status, &Shown::of(asked), sink),
    }
}

fn encode_number<V>(asked: &Asked<'_>, number: &Number, sink: &mut impl ReplySink<V>) {
    let shown = Shown {
        cas_unique: Some(number.cas_unique),
        ttls: Some(number.ttls),
        ..Shown::of(asked)
    };
    if !asked.value {
        return end(asked, "HD", &shown, sink);
    }
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(number.value);
    begin_value(digits.len(), sink);
    end(asked, "", &shown, sink);
    sink.bytes(digits.as_bytes());
    sink.bytes(b"\r\n");
}

fn encode_facts<V>(key: Key<'_>, facts: &Facts, sink: &mut impl ReplySink<V>) {
    sink.bytes(b"ME ");
    put_key(key, facts.key_is_binary, sink);
    let Facts {
        idle_seconds,
        cas_unique,
        item_bytes,
        ..
    } = facts;
    let fetched = if facts.fetched { "yes" } else { "no" };
    sink.bytes(b" exp=");
    put_ttl(facts.ttl, sink);
    let rest = format!(
        " la={idle_seconds} cas={cas_unique} fetch={fetched} cls={SLAB_CLASS} size={item_bytes}\r\n"
    );
    sink.bytes(rest.as_bytes());
}

fn begin_value<V>(length: usize, sink: &mut impl ReplySink<V>) {
    sink.bytes(b"VA ");
    put_number(length as u64, sink);
}

/// Writes the status and what the flags ask for, to the end of the line.
fn end<V>(asked: &Asked<'_>, status: &str, shown: &Shown<'_>, sink: &mut impl ReplySink<V>) {
    sink.bytes(status.as_bytes());
    let mut ttl = shown.ttls.map(|ttls| ttls.before);
    for word in words_of(asked.flags) {
        match (word[0], shown.ttls) {
            (b'T', Some(ttls)) => ttl = Some(ttls.touched),
            (b'N', Some(ttls)) => ttl = ttls.vivified.or(ttl),
            _ => put_flag(word, ttl, shown, sink),
        }
    }
    if let Some(state) = shown.state {
        for (is_so, letter) in [
            (state.token_sent, b" Z"),
            (state.stale, b" X"),
            (state.won, b" W"),
        ] {
            if is_so {
                sink.bytes(letter);
            }
        }
    }
    sink.bytes(b"\r\n");
}

fn put_flag<V>(word: &[u8], ttl: Option<Ttl>, shown: &Shown<'_>, sink: &mut impl ReplySink<V>) {
    let number = match word[0] {
        b's' => shown.size.map(|bytes| bytes as u64),
        b'c' => shown.cas_unique,
        b'f' => shown.client_flags.map(u64::from),
        b'l' => shown.state.map(|state| u64::from(state.idle_seconds)),
        b'h' => shown.state.map(|state| u64::from(state.fetched)),
        _ => None,
    };
    if let Some(number) = number {
        sink.bytes(&[b' ', word[0]]);
        put_number(number, sink);
    }
    match (word[0], ttl) {
        (b't', Some(ttl)) => {
            sink.bytes(b" t");
            put_ttl(ttl, sink);
        }
        (b'O', _) => {
            sink.bytes(b" ");
            sink.bytes(word);
        }
        (b'k', _) => {
            sink.bytes(b" k");
            if put_key(shown.key, shown.key_is_binary, sink) {
                sink.bytes(b" b");
            }
        }
        _ => {}
    }
}

fn put_number<V>(number: u64, sink: &mut impl ReplySink<V>) {
    sink.bytes(itoa::Buffer::new().format(number).as_bytes());
}

fn put_ttl<V>(ttl: Ttl, sink: &mut impl ReplySink<V>) {
    match ttl {
        Some(seconds) => put_number(u64::from(seconds), sink),
        None => sink.bytes(b"-1"),
    }
}

/// Writes a key, in base64 if it is marked so or could not stand on a line; says whether it did.
fn put_key<V>(key: Key<'_>, is_binary: bool, sink: &mut impl ReplySink<V>) -> bool {
    let is_binary = is_binary || !is_key(key.0);
    if is_binary {
        key::encode(key.0, |four| sink.bytes(four));
    } else {
        sink.bytes(key.0);
    }
    is_binary
}
