//! The log: lines to standard error, as journald takes them.
//!
//! Under systemd each line begins with `<n>`, its syslog priority, and has no time, since the journal
//! has its own; on a terminal it has both. `-v` and the `verbosity` command change the level at any
//! time. No line holds a key or a value.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// Sends this process's events to standard error. `verbosity` is shared with who may change it.
pub fn init(verbosity: &Arc<AtomicU32>) {
    let verbosity = Arc::clone(verbosity);
    let wanted = filter_fn(move |metadata| *metadata.level() <= level(verbosity.load(Relaxed)));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .event_format(Line {
            journal: std::env::var_os("JOURNAL_STREAM").is_some(),
        })
        .with_filter(wanted);
    // A second call, in tests, leaves the first in force.
    let _ = tracing_subscriber::registry().with(lines).try_init();
}

/// `-v` and its repetitions: by default what an operator should see, then details.
fn level(verbosity: u32) -> Level {
    match verbosity {
        0 => Level::INFO,
        1 => Level::DEBUG,
        _ => Level::TRACE,
    }
}

/// The syslog priority of a level.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

struct Line {
    journal: bool,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = *event.metadata().level();
        if self.journal {
            write!(writer, "<{}>", priority(level))?;
        } else {
            SystemTime.format_time(&mut writer)?;
            write!(writer, " {level:>5} ")?;
        }
        context
            .field_format()
            .format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
