//! The status page: one HTML text with its style, its script and the figures of a moment.
//!
//! `admin` serves it. Where scripts run, the script asks for `/api/status` once a second and puts what it says in the
//! place of the figures; elsewhere these stand as they were. Only the files here name the template engine.
//!
//! Invariants:
//! - nothing is loaded from elsewhere, and the policy ([`policy`]) forbids it: style and script are admitted by their
//!   hashes, anything that got in between is not;
//! - what comes from outside, like the name of a service, is escaped by the template, and only ever text for the script.

mod chart;
mod format;
mod view;

use std::sync::LazyLock;

use minijinja::value::{Serde, Value};
use minijinja::{Environment, Error, context};
use sha2::{Digest, Sha256};

use self::view::View;
use crate::packing::base64;
use crate::stats::status::Status;

/// Its ending has the engine escape what is filled in.
const NAME: &str = "index.html";
const HTML: &str = include_str!("index.html");
const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// What a browser may do with the page, as the header `Content-Security-Policy` has it. Costs nothing after the first
/// time.
pub fn policy() -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        format!(
            "default-src 'none'; script-src {}; style-src {}; img-src data:; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            hash(SCRIPT),
            hash(STYLE)
        )
    });
    &POLICY
}

/// The page with these figures. Takes some 0.2 ms with a whole day's history.
///
/// # Errors
/// What is wrong with the template.
pub fn render(status: &Status) -> Result<String, String> {
    static ENGINE: LazyLock<Result<Environment<'static>, String>> =
        LazyLock::new(|| engine().map_err(told));
    let engine = ENGINE.as_ref().map_err(String::clone)?;
    let view = Value::from(Serde(View::new(status)));
    let filled = engine.get_template(NAME).and_then(|template| {
        template.render(context! { style => STYLE, script => SCRIPT, ..view })
    });
    filled.map_err(told)
}

fn engine() -> Result<Environment<'static>, Error> {
    let mut engine = Environment::new();
    engine.add_template(NAME, HTML)?;
    Ok(engine)
}

/// In one line, with what is behind it.
fn told(error: Error) -> String {
    format!("{error:#}").replace('\n', " ")
}

/// A source as the policy names it.
fn hash(text: &str) -> String {
    let mut base64 = Vec::new();
    base64::redo(&Sha256::digest(text), &mut base64);
    format!("'sha256-{}'", String::from_utf8_lossy(&base64))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::stats::status::ServiceStatus;

    #[test]
    fn a_service_may_be_called_anything() {
        let hostile = r#"<script>alert("1")</script>&'"#;
        let status = Status {
            services: vec![ServiceStatus {
                service: hostile.to_owned(),
                ..ServiceStatus::default()
            }],
            settings: vec![("inter".to_owned(), hostile.to_owned())],
            ..Status::default()
        };
        let page = render(&status).unwrap();
        assert!(!page.contains("<script>alert"), "{page}");
        assert_eq!(page.matches("&lt;script&gt;alert").count(), 2);
        assert_eq!(page.matches("<script").count(), 1);
    }

    #[test]
    fn a_server_without_requests_says_so() {
        let page = render(&Status::default()).unwrap();
        assert!(page.contains(">no requests yet</p>"), "{page}");
        assert!(!page.contains("NaN"), "{page}");
    }

    #[test]
    fn the_words_are_those_of_the_samples() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page/samples");
        let read = |name: String| fs::read_to_string(folder.join(name)).unwrap();
        for name in ["new", "young", "idle", "busy"] {
            let status = serde_json::from_str(&read(format!("{name}.json"))).unwrap();
            let words: serde_json::Value =
                serde_json::from_str(&read(format!("{name}.view.json"))).unwrap();
            let told = serde_json::to_value(View::new(&status)).unwrap();
            assert_eq!(told, words, "{name}");
        }
    }

    #[test]
    fn the_policy_admits_the_style_and_the_script_of_the_page_alone() {
        let page = render(&Status::default()).unwrap();
        for (tag, text) in [("style", STYLE), ("script", SCRIPT)] {
            // What would end the element early is not in it.
            assert!(!text.contains("</"), "{tag}");
            assert!(page.contains(&format!("<{tag}>{text}</{tag}>")), "{tag}");
            assert!(policy().contains(&format!("{tag}-src {};", hash(text))));
        }
        assert!(!page.contains("style=") && !page.contains("onclick="));
        // RFC 6234's example.
        let abc = "'sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0='";
        assert_eq!(hash("abc"), abc);
    }
}
