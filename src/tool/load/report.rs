//! What came of a burst of [`load`](super): counts, latencies, and the server's side of it.
//!
//! Made by [`driver`](super::driver), printed by the binary, read as JSON by
//! `benches/figures`.

use crate::tool::exchange::{Counts, Protocol};
use crate::tool::process::Usage;
use crate::tool::report::Figures;
use hdrhistogram::Histogram;
use std::fmt;
use std::time::Duration;

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was spoken.
    pub protocol: Protocol,
    /// Batches a second that were to come; `None` in a closed loop.
    pub rate: Option<f64>,
    /// Arrivals of an open loop that were not sent before its end, since earlier ones took too long, or the tool was
    /// not fast enough itself. The latencies have the time for which they waited.
    pub not_sent: u64,
    /// What came back.
    pub counts: Counts,
    /// From the first request to the last reply.
    pub elapsed: Duration,
    /// Nanoseconds to a batch's last reply, from when it was sent, or in an open loop was due.
    pub latency_ns: Histogram<u64>,
    /// What the server used meanwhile; `None` if its process is not known.
    pub server: Option<ServerUsage>,
}

/// The server's side of a run.
#[derive(Debug, Clone, Copy)]
pub struct ServerUsage {
    /// The server's process.
    pub pid: u32,
    /// Processor time and context switches of the run.
    pub usage: Usage,
    /// Resident memory at the end.
    pub rss_bytes: u64,
}

impl Report {
    /// Whether every request was answered and every byte was right.
    pub fn is_clean(&self) -> bool {
        self.counts.are_clean()
    }

    /// Requests for each second of the server's processor time; `None` if that is not known.
    pub fn requests_per_cpu_second(&self) -> Option<f64> {
        let server = self.server.as_ref()?;
        let seconds = server.usage.cpu_seconds;
        // A process that only waits for the server has used none.
        (seconds > 0.0).then(|| self.counts.requests as f64 / seconds)
    }

    /// Context switches of the server for each request; `None` if its process is not known.
    pub fn switches_per_request(&self) -> Option<f64> {
        let usage = self.server.as_ref()?.usage;
        let switches = usage.voluntary_switches + usage.involuntary_switches;
        Some(switches as f64 / self.counts.requests as f64)
    }

    /// Requests in a second.
    pub fn requests_per_second(&self) -> f64 {
        self.counts.requests as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency in microseconds that this share of all batches had at most.
    pub fn latency_us(&self, share: f64) -> f64 {
        self.latency_ns.value_at_quantile(share) as f64 / 1e3
    }

    /// One line of JSON.
    pub fn to_json(&self) -> String {
        self.figures().to_json()
    }

    fn figures(&self) -> Figures {
        let counts = &self.counts;
        let mut figures = Figures::default();
        figures
            .add("protocol", self.protocol.name())
            .add("rate", self.rate)
            .add("requests", counts.requests)
            .add("hits", counts.hits)
            .add("misses", counts.misses)
            .add("stored", counts.stored)
            .add("wrong_values", counts.wrong_values)
            .add("errors", counts.errors)
            .add("first_error", counts.first_error.as_deref())
            .add("connections_lost", counts.connections_lost)
            .add("arrivals_not_sent", self.rate.map(|_| self.not_sent))
            .add("elapsed_seconds", self.elapsed.as_secs_f64())
            .add("requests_per_second", self.requests_per_second())
            .add(
                "requests_per_server_cpu_second",
                self.requests_per_cpu_second(),
            );
        self.add_latency(&mut figures);
        self.add_server(&mut figures);
        figures
    }

    fn add_latency(&self, figures: &mut Figures) {
        let at = |share| self.latency_us(share);
        figures
            .add("latency_p50_us", at(0.5))
            .add("latency_p90_us", at(0.9))
            .add("latency_p99_us", at(0.99))
            .add("latency_p999_us", at(0.999))
            .add("latency_max_us", at(1.0));
    }

    fn add_server(&self, figures: &mut Figures) {
        let server = self.server.as_ref();
        let usage = server.map(|server| server.usage);
        figures
            .add("server_pid", server.map(|server| u64::from(server.pid)))
            .add("server_cpu_seconds", usage.map(|used| used.cpu_seconds))
            .add("server_user_seconds", usage.map(|used| used.user_seconds))
            .add(
                "server_system_seconds",
                usage.map(|used| used.system_seconds),
            )
            .add(
                "server_voluntary_switches",
                usage.map(|used| used.voluntary_switches),
            )
            .add(
                "server_involuntary_switches",
                usage.map(|used| used.involuntary_switches),
            )
            .add("server_rss_bytes", server.map(|server| server.rss_bytes));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.figures().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_without_a_server_process_leaves_its_figures_out() {
        let report = Report {
            protocol: Protocol::Classic,
            rate: None,
            not_sent: 0,
            counts: Counts {
                requests: 10,
                ..Counts::default()
            },
            elapsed: Duration::from_secs(2),
            latency_ns: Histogram::new(3).unwrap(),
            server: None,
        };
        assert!(report.is_clean());
        assert!(
            report
                .to_json()
                .contains(r#""requests_per_server_cpu_second":null"#)
        );
        assert!(!report.to_string().contains("cpu"));
        assert!(report.to_string().contains("requests per second  5.000"));
    }
}
