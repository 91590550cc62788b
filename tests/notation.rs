//! The notation of frames in golden transcripts: what is written is what is sent and expected.

#[path = "common/script.rs"]
mod script;

use script::frame::{self, Frame};
use script::{Action, Captures, Clock, Match, Pattern, Script, Step, Target};

#[test]
fn a_frame_is_laid_out_as_extras_key_and_value() {
    let frame = render("SET key=k value=\"a b\" flags=1 exptime=0x12c opaque=7 cas=9");
    let expected = [
        &b"\x80\x01\0\x01\x08\0\0\0\0\0\0\x0c\0\0\0\x07\0\0\0\0\0\0\0\x09"[..],
        b"\0\0\0\x01\0\0\x01\x2c",
        b"k",
        b"a b",
    ];
    assert_eq!(frame, expected.concat());
}

#[test]
fn lengths_and_other_fields_of_the_header_can_contradict() {
    let frame =
        render("0x55 key=k magic=0x81 keylen=2 extlen=3 bodylen=0x80000000 datatype=4 vbucket=5");
    assert_eq!(
        frame,
        b"\x81\x55\0\x02\x03\x04\0\x05\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0k"
    );
}

#[test]
fn an_expectation_says_all_of_a_frame() {
    let hit = response("GET flags=1 value=v cas=3");
    assert_eq!(expect("< GET flags=1 value=v cas=3", &hit), whole(&hit));
    for other in [
        "flags=1 value=v",
        "flags=1 value=v cas=3 opaque=1",
        "flags=1 value=w cas=3",
    ] {
        let other = expect(&format!("< GET {other}"), &hit);
        assert!(matches!(other, Match::Mismatch(_)), "{other:?}");
    }
}

#[test]
fn a_frame_that_has_not_come_to_its_end_is_waited_for() {
    let hit = response("GET flags=1 value=v");
    for length in 0..hit.len() {
        let verdict = expect("< GET flags=1 value=v", &hit[..length]);
        assert_eq!(verdict, Match::Incomplete, "{length} bytes");
    }
}

#[test]
fn a_unique_is_captured_and_sent_back() {
    let script = parse("< SET cas={u:u64}\n> DELETE key=k cas={u}\nopen");
    let mut steps = script.blocks[0].steps_for(Target::Tokencached);
    let mut captures = Captures::new();
    let stored = response("SET cas=0x102030405060708");
    let verdict = pattern(steps.next()).matches(&stored, &mut captures, Clock::Stands);
    assert_eq!(verdict, whole(&stored));
    let Some(Action::Send(send)) = steps.next().map(|step| &step.action) else {
        panic!("the second step sends");
    };
    assert_eq!(send.render(&captures)[16..24], [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn frames_that_do_not_match_are_passed_over() {
    let replies = [
        response("STAT key=pid value=12"),
        response("STAT key=uptime value=3"),
    ];
    let replies = replies.concat();
    let verdict = expect("<* STAT key=uptime value={_:u64}", &replies);
    assert_eq!(verdict, whole(&replies));
    assert_eq!(frame::split(&replies).len(), 2);
}

#[test]
fn what_is_not_a_frame_is_an_error_of_the_script() {
    for line in [
        "> GTE key=k",
        "> GET key",
        "> GET name=k",
        "> GET cas=x",
        "> GET datatype=256",
        "> GET key=\"k",
    ] {
        let text = format!("frames: yes\n== a block\n{line}\n");
        let error = Script::parse(&text).expect_err(line);
        assert!(error.starts_with("line 3: "), "{error}");
    }
}

fn parse(steps: &str) -> Script {
    let text = format!("frames: yes\n== a block\n{steps}\n");
    Script::parse(&text).expect("the script is well-formed")
}

fn render(frame: &str) -> Vec<u8> {
    let frame = Frame::parse(frame).expect("the frame is well-formed");
    frame.render(&Captures::new())
}

fn response(frame: &str) -> Vec<u8> {
    render(&format!("{frame} magic=0x81"))
}

fn expect(step: &str, received: &[u8]) -> Match {
    let script = parse(&format!("{step}\nopen"));
    let mut steps = script.blocks[0].steps_for(Target::Tokencached);
    pattern(steps.next()).matches(received, &mut Captures::new(), Clock::Stands)
}

fn pattern(step: Option<&Step>) -> &Pattern {
    match step.map(|step| &step.action) {
        Some(Action::Expect(pattern)) => pattern,
        other => panic!("an expectation was to come, not {other:?}"),
    }
}

fn whole(bytes: &[u8]) -> Match {
    let consumed = bytes.len();
    Match::Complete { consumed }
}
