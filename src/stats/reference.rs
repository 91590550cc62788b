//! docs/metrics.md, made from the declarations.
//!
//! `tokencached-tool documents DIR` writes it beside the man pages; a test compares the one in docs/.

use std::fmt::Write;

use super::memcached;
use super::metrics::{Metric, SUBJECTS};

const HEAD: &str = "\
# Metrics

What `/metrics` serves (`--http`, by default <http://127.0.0.1:9150/metrics>), and which line of `stats` shows the same.
Names that begin with `memcached_` are those of prometheus/memcached_exporter, with its meaning: dashboards and alerts
made for memcached go on working. Metrics count since the start and over restarts that hand the items on; `stats` counts
since the last `stats reset`. (`promtool check metrics` would like `_total` behind memcached_uptime_seconds; the name is
the exporter's.)

Labels: `service` is the name of the user at the other end of a connection (its number until the name is known, and where there is none), `other`
beyond 32 of them, `unknown` where the kernel names none. `class` is what key and value look like: `token`, plain;
`token_mac` and `token_encrypt`, of `memcache_security_strategy`; `dogpile`, of oslo.cache; `other`. On a miss there is no
value to look at, so the class is guessed from the key: it is taken for `token_mac` or `token_encrypt` as the service's last such token was, and for
`dogpile` if it is a digest, as oslo.cache has it by default. A class is shown once something was counted of it.

This file is made from `src/stats/metrics/`: `tokencached-tool documents DIR` writes it into DIR.
";

const ALONE: &str = "
## Shown by `stats` alone

| line | what it is |
|---|---|
";

/// The whole text.
pub fn markdown() -> String {
    let mut text = HEAD.to_owned();
    for subject in SUBJECTS {
        let title = subject.title;
        let columns = "| metric | kind | what it is | what to do with it | `stats` |";
        push(
            &mut text,
            format_args!("\n## {title}\n\n{columns}\n|---|---|---|---|---|\n"),
        );
        for metric in subject.metrics {
            push(&mut text, format_args!("{}\n", row(metric)));
        }
    }
    text.push_str(ALONE);
    for (name, help) in memcached::alone_lines() {
        push(&mut text, format_args!("| `{name}` | {help} |\n"));
    }
    text
}

fn row(metric: &Metric) -> String {
    let labels = match metric.labels() {
        [] => String::new(),
        labels => format!("{{{}}}", labels.join(",")),
    };
    let lines: Vec<String> = metric
        .lines()
        .iter()
        .map(|(line, ..)| format!("`{line}`"))
        .collect();
    format!(
        "| `{}{labels}` | {} | {} | {} | {} |",
        metric.name,
        metric.kind.name(),
        metric.help,
        metric.advice,
        lines.join(" ")
    )
}

fn push(text: &mut String, added: std::fmt::Arguments<'_>) {
    text.write_fmt(added)
        .expect("writing into a String does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_in_docs_is_what_the_declarations_say() {
        let written = include_str!("../../docs/metrics.md");
        assert!(
            written == markdown(),
            "docs/metrics.md is not what src/stats/metrics/ says: cargo run --bin tokencached-tool -- documents \
             target/documents, and copy metrics.md from there to docs/"
        );
    }
}
