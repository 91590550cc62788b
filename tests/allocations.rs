//! What a request costs the allocator, counted: a hit, a miss and a `set` in place cost nothing.
//!
//! Counted by thread: what the test harness allocates beside the test is none of its business.

#[path = "common/conversation.rs"]
mod conversation;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use conversation::Conversation;
use tokencached::clock::{Clock, Now};
use tokencached::engine::{Engine, Options};
use tokencached::stats::memcached::Process;
use tokencached::store::{self, Store};

/// The system's allocator, counting what is asked of it.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// So far, in this thread.
fn allocations_so_far() -> u64 {
    ALLOCATIONS.get()
}

fn count_one() {
    // A thread that ends has nothing to count any more.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_one();
        // SAFETY: the caller's promises are those of this function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count_one();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of a thousand requests after as many to warm up.
fn allocations(conversation: &mut Conversation<'_>, now: Now, request: &[u8], reply: &[u8]) -> u64 {
    let mut thousand = || {
        for _ in 0..1_000 {
            conversation.replies.clear();
            conversation.feed(request, now);
            assert_eq!(conversation.replies, reply);
        }
    };
    thousand();
    let before = allocations_so_far();
    thousand();
    allocations_so_far() - before
}

fn set(key: &str, value: &[u8]) -> Vec<u8> {
    let line = format!("set {key} 0 300 {} \r\n", value.len());
    [line.as_bytes(), value, b"\r\n"].concat()
}

fn hit(key: &str, value: &[u8]) -> Vec<u8> {
    let line = format!("VALUE {key} 0 {}\r\n", value.len());
    [line.as_bytes(), value, b"\r\n"].concat()
}

/// A token of a catalogue of 8 KB.
fn made_token(number: u8) -> Vec<u8> {
    let endpoints: String = (0..80)
        .map(|at| {
            format!(
                r#"{{"id": "{:032x}", "interface": "public", "url": "https://{at}.example"}}, "#,
                at * 7_919
            )
        })
        .collect();
    let bearer = format!("gAAAAAB{number:0>180}");
    let json = format!(
        r#"{{"token": {{"user": {number}, "catalog": [{endpoints}{{}}], "auth_token": "{bearer}"}}}}"#
    );
    json.into_bytes()
}

#[test]
fn requests_served_from_memory_allocate_nothing() {
    let clock = Clock::manual();
    let now = clock.now();
    let process = Process {
        started: now,
        connections_max: 1,
        threads: 1,
    };
    let store = Store::new(&store::Options::default()).unwrap();
    let engine = Engine::new(store, Options::default(), process);
    let counters = engine.stats().register_worker();
    let mut conversation = Conversation::new(&engine, &counters);
    let mut count =
        |request: &[u8], reply: &[u8]| allocations(&mut conversation, now, request, reply);

    let token = vec![b't'; 8 << 10];
    // Goes out by reference, between its line and its end.
    let large = vec![b'l'; 200 << 10];
    assert_eq!(
        count(&set("tokens/1", &token), b"STORED\r\n"),
        0,
        "a set in place"
    );
    assert_eq!(
        count(&set("tokens/2", &token[..5_000]), b"STORED\r\n"),
        0,
        "another"
    );

    let one = [&hit("tokens/1", &token), &b"END\r\n"[..]].concat();
    assert_eq!(count(b"get tokens/1\r\n", &one), 0, "a hit");
    assert_eq!(
        count(b"gat 300 tokens/1\r\n", &one),
        0,
        "a hit that touches"
    );
    assert_eq!(count(b"get tokens/3\r\n", b"END\r\n"), 0, "a miss");

    let meta = [
        b"VA 8192 ktokens/1 s8192 f0 t300 O7\r\n",
        &token[..],
        b"\r\n",
    ]
    .concat();
    for request in [
        &b"mg tokens/1 v k s f t O7\r\n"[..],
        b"mg dG9rZW5zLzE= b v k s f t O7\r\n",
        b"mg tokens/1 v k s f t T300 O7\r\n",
        b"mg tokens/1 v k s f t R30 N30 O7\r\n",
    ] {
        assert_eq!(count(request, &meta), 0, "a hit by meta");
    }
    assert_eq!(
        count(b"mg tokens/3 v k\r\n", b"EN ktokens/3\r\n"),
        0,
        "a miss by meta"
    );
    let meta = [b"ms tokens/1 8192 T300 k\r\n", &token[..], b"\r\n"].concat();
    assert_eq!(
        count(&meta, b"HD ktokens/1\r\n"),
        0,
        "a set by meta, in place"
    );

    let two = [hit("tokens/1", &token), hit("tokens/2", &token[..5_000])].concat();
    let two = [two, b"END\r\n".to_vec()].concat();
    assert_eq!(
        count(b"get tokens/1 tokens/3 tokens/2\r\n", &two),
        0,
        "a multiget"
    );
    assert_eq!(
        count(b"get tokens/1 \r\nget tokens/2 \r\n", &{
            let first = [hit("tokens/1", &token), b"END\r\n".to_vec()].concat();
            let second = [hit("tokens/2", &token[..5_000]), b"END\r\n".to_vec()].concat();
            [first, second].concat()
        }),
        0,
        "two gets in one read"
    );

    // Packed by zstd alone, and base64 undone and packed; unpacked into the replies' own buffer.
    let text = b"dogpile entry ".repeat(900);
    assert_eq!(
        count(&set("packed/1", &text), b"STORED\r\n"),
        0,
        "a set that is packed"
    );
    let packed = [&hit("packed/1", &text), &b"END\r\n"[..]].concat();
    assert_eq!(
        count(b"get packed/1\r\n", &packed),
        0,
        "a hit that is unpacked"
    );
    let signed = b"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2".repeat(200);
    assert_eq!(
        count(&set("packed/2", &signed), b"STORED\r\n"),
        0,
        "base64 that is packed"
    );
    let packed = [&hit("packed/2", &signed), &b"END\r\n"[..]].concat();
    assert_eq!(
        count(b"get packed/2\r\n", &packed),
        0,
        "base64 that is made again"
    );
    // With a dictionary: the second and third token bring it.
    for number in 0..3 {
        let key = format!("tokens/made/{number}");
        count(&set(&key, &made_token(number)), b"STORED\r\n");
    }
    let made = made_token(2);
    let packed = [&hit("tokens/made/2", &made), &b"END\r\n"[..]].concat();
    assert_eq!(count(b"get tokens/made/2\r\n", &packed), 0, "a token");
    assert_eq!(engine.stats().total().get_unreadable, 0);
    assert!(engine.stats().total().values_unpacked >= 6_000);

    // What is known of the upload while it is under way, and its key.
    let allocated = count(&set("tokens/4", &large), b"STORED\r\n");
    assert!(
        allocated <= 2 * 1_000,
        "a large set: {allocated} for a thousand"
    );
    let large = [hit("tokens/4", &large), b"END\r\n".to_vec()].concat();
    assert_eq!(count(b"get tokens/4\r\n", &large), 0, "a large hit");
}
