//! The answer to a look-up that found its item: the line before the value, the value, and its line end.

use crate::protocol::reply::{Hit, ReplySink, Unreadable, Value};

/// What stands behind a line and behind a value.
const END: &[u8] = b"\r\n";

/// Writes `VALUE <key> <flags> <bytes> [<cas unique>]` (protocol.txt, "Retrieval command").
#[inline(always)]
fn encode_line<V: Value, W>(hit: &Hit<'_, V>, with_cas: bool, sink: &mut impl ReplySink<W>) {
    let mut number = itoa::Buffer::new();
    sink.bytes(b"VALUE ");
    sink.bytes(hit.key.0);
    sink.bytes(b" ");
    sink.bytes(number.format(hit.client_flags).as_bytes());
    sink.bytes(b" ");
    sink.bytes(number.format(hit.value.len()).as_bytes());
    if with_cas {
        sink.bytes(b" ");
        sink.bytes(number.format(hit.cas_unique).as_bytes());
    }
    sink.bytes(END);
}

/// Writes an item that was found: its line, its value.
///
/// # Errors
/// If the value cannot be read; nothing has been written then.
#[inline]
pub fn encode_value<V: Value>(
    hit: Hit<'_, V>,
    with_cas: bool,
    sink: &mut impl ReplySink<V>,
) -> Result<(), Unreadable> {
    let mark = sink.mark();
    encode_line(&hit, with_cas, sink);
    match sink.value(hit.value) {
        Ok(()) => sink.bytes(END),
        Err(Unreadable) => {
            sink.rewind(mark);
            return Err(Unreadable);
        }
    }
    Ok(())
}

/// Writes an item whose value is lent for as long as this takes: copies it.
#[inline(always)]
pub fn encode_lent<W>(hit: Hit<'_, &[u8]>, with_cas: bool, sink: &mut impl ReplySink<W>) {
    encode_line(&hit, with_cas, sink);
    sink.bytes(hit.value);
    sink.bytes(END);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::command::Key;

    #[test]
    fn a_value_is_written_the_same_found_or_lent() {
        let values: [&[u8]; 3] = [b"", b"value", &[b'v'; 12_345]];
        for client_flags in [0, 9, 12_345, 99_999_999, 100_000_000, u32::MAX] {
            for (value, key) in values.into_iter().zip([&b"k"[..], b"key", &[b'k'; 250]]) {
                for with_cas in [false, true] {
                    let hit = Hit {
                        key: Key(key),
                        client_flags,
                        cas_unique: u64::MAX,
                        value,
                    };
                    let (mut lent, mut found) = (b"before".to_vec(), b"before".to_vec());
                    encode_lent::<&[u8]>(hit, with_cas, &mut lent);
                    encode_value(hit, with_cas, &mut found).unwrap();
                    let unique = if with_cas {
                        " 18446744073709551615"
                    } else {
                        ""
                    };
                    let numbers = format!(" {client_flags} {}{unique}\r\n", value.len());
                    let parts = [b"beforeVALUE ", key, numbers.as_bytes(), value, b"\r\n"];
                    assert_eq!(lent, parts.concat());
                    assert_eq!(found, lent);
                }
            }
        }
    }
}
