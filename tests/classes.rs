//! The classes of recorded values: of keystonemiddleware's, and of dogpile.cache's and oslo.cache's.

#[path = "common/corpus.rs"]
mod corpus;

use std::path::Path;

use serde_json::Value as Json;
use tokencached::token::class::Class;

#[test]
fn every_recorded_token_has_the_class_of_its_strategy() {
    let recorded = corpus::recorded();
    assert_eq!(recorded.len(), 500);
    for one in recorded {
        let expected = match one.strategy {
            corpus::Strategy::Plain => Class::Token,
            corpus::Strategy::Mac => Class::TokenMac,
            corpus::Strategy::Encrypt => Class::TokenEncrypt,
        };
        assert_eq!(Class::of(&one.key, &one.value), expected);
        assert_eq!(Class::of_missing(&one.key, expected), expected);
    }
}

#[test]
fn what_dogpile_and_oslo_cache_store_is_dogpile_unless_all_of_it_is_hidden() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/dogpile.jsonl");
    let mut known = 0;
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let line: Json = serde_json::from_str(line).unwrap();
        let text = |name: &str| line[name].as_str().unwrap();
        let value = corpus::undo_base64(text("value_b64").as_bytes());
        let compressed = line["flags"] == 9;
        let hidden = compressed && !text("how").starts_with("oslo.cache");
        let expected = if hidden { Class::Other } else { Class::Dogpile };
        assert_eq!(Class::of(text("key").as_bytes(), &value), expected);
        known += usize::from(!hidden);
    }
    assert_eq!(known, 5);
}
