//! The declared metrics in Prometheus' text format.
//!
//! The only module that names the prometheus crate, of which it uses the model and the encoder: counting needs
//! neither. Made anew for each scrape from one moment, so that metrics cost nothing in between.

use prometheus::TextEncoder;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric as Sample, MetricFamily, MetricType,
};

use super::metrics::{self, Kind, Metric, Spread, Value};
use super::moment::Moment;

/// All metrics. A metric whose labels have no values yet is left out.
///
/// # Errors
/// The encoder's, which name a metric without a name or without values.
pub fn render(moment: &Moment<'_>) -> Result<String, prometheus::Error> {
    let families = metrics::all().map(|metric| family(metric, moment));
    let families: Vec<MetricFamily> = families
        .filter(|family| !family.get_metric().is_empty())
        .collect();
    TextEncoder::new().encode_to_string(&families)
}

fn family(metric: &Metric, moment: &Moment<'_>) -> MetricFamily {
    let mut samples = Vec::new();
    metric.each(moment, &mut |labels, value| {
        let mut sample = sample(metric, value);
        sample.set_label(pairs(metric.labels(), labels));
        samples.push(sample);
    });
    let mut family = MetricFamily::default();
    family.set_name(metric.name.to_owned());
    family.set_help(metric.help.to_owned());
    family.set_field_type(match metric.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
        Kind::Histogram => MetricType::HISTOGRAM,
    });
    family.set_metric(samples);
    family
}

fn pairs(names: &[&str], values: &[&str]) -> Vec<LabelPair> {
    let pair = |(name, value): (&&str, &&str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    names.iter().zip(values).map(pair).collect()
}

fn sample(metric: &Metric, value: Value) -> Sample {
    let mut sample = Sample::default();
    match (metric.kind, value) {
        (_, Value::Spread(spread)) => sample.set_histogram(histogram(&spread)),
        (Kind::Counter, Value::Number(number)) => {
            let mut counter = Counter::default();
            counter.set_value(in_units(number, metric.per_unit));
            sample.set_counter(counter);
        }
        (_, Value::Number(number)) => {
            let mut gauge = Gauge::default();
            gauge.set_value(in_units(number, metric.per_unit));
            sample.set_gauge(gauge);
        }
    }
    sample
}

/// As Prometheus has them: a bucket counts all values up to its bound; the encoder adds the one without a bound.
fn histogram(spread: &Spread) -> Histogram {
    let mut count = 0;
    let buckets = spread.bounds.iter().zip(&spread.counted.counts);
    let buckets = buckets
        .map(|(&bound, &counted)| {
            count += counted;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(in_units(bound, spread.per_unit));
            bucket.set_cumulative_count(count);
            bucket
        })
        .collect();
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(spread.counted.counts.iter().sum());
    histogram.set_sample_sum(in_units(spread.counted.sum, spread.per_unit));
    histogram
}

fn in_units(number: u64, per_unit: u64) -> f64 {
    number as f64 / per_unit as f64
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::clock::Clock;
    use crate::stats::memcached::Process;
    use crate::stats::{Sources, Stats};
    use crate::store::{Options, Store};

    fn scraped(stats: &Stats, settings: &[(String, String)]) -> String {
        let now = Clock::manual().now();
        let process = Process {
            started: now,
            connections_max: 10,
            threads: 1,
        };
        let sources = Sources {
            stats,
            store: &Store::new(&Options::default()).unwrap(),
            process: &process,
            settings,
            validation_cost_ms: 100,
        };
        render(&Moment::since_start(sources, now)).unwrap()
    }

    fn assert_has(text: &str, line: &str) {
        assert!(text.lines().any(|has| has == line), "{line}: {text}");
    }

    #[test]
    fn a_scrape_shows_what_was_counted() {
        let stats = Stats::default();
        let counters = stats.register_worker();
        counters.get_hits.add(5);
        counters.cmd_set.add(7);
        counters.cas_misses.add(3);
        counters.pack_nanos.add(1_500_000_000);
        stats.server.access_refused.fetch_add(3, Relaxed);
        stats.server.access_unnamed.fetch_add(1, Relaxed);
        let text = scraped(&stats, &[]);
        for line in [
            r#"memcached_commands_total{command="get",status="hit"} 5"#,
            r#"memcached_commands_total{command="set",status="hit"} 4"#,
            "memcached_max_connections 10",
            "tokencached_pack_cpu_seconds_total 1.5",
            r#"tokencached_connections_refused_total{cause="access"} 2"#,
            r#"tokencached_connections_refused_total{cause="unnamed"} 1"#,
        ] {
            assert_has(&text, line);
        }
    }

    #[test]
    fn a_histogram_counts_up_to_its_bounds_in_the_unit_of_its_name() {
        let stats = Stats::default();
        for nanos in [4_000, 5_000, 6_000, 4_000_000_000] {
            stats.histograms.serve_nanos.count(nanos);
        }
        let text = scraped(&stats, &[]);
        for line in [
            r#"tokencached_serve_seconds_bucket{le="0.000005"} 2"#,
            r#"tokencached_serve_seconds_bucket{le="0.00001"} 3"#,
            r#"tokencached_serve_seconds_bucket{le="3"} 3"#,
            r#"tokencached_serve_seconds_bucket{le="+Inf"} 4"#,
            "tokencached_serve_seconds_sum 4.000015",
            "tokencached_serve_seconds_count 4",
        ] {
            assert_has(&text, line);
        }
    }

    #[test]
    fn settings_are_shown_as_labels_and_none_that_names_a_file() {
        let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let settings = [
            setting("evictions", "on"),
            setting("auth_enabled_ascii", "/users"),
            setting("ssl_key", "/key"),
        ];
        let text = scraped(&Stats::default(), &settings);
        let info = text
            .lines()
            .find(|line| line.starts_with("tokencached_config_info{"));
        assert!(info.unwrap().contains(r#"evictions="on""#), "{info:?}");
        assert!(!text.contains("/users") && !text.contains("/key"));
    }

    #[test]
    fn every_metric_is_there_before_anything_was_counted() {
        let text = scraped(&Stats::default(), &[]);
        for metric in metrics::all() {
            assert_has(
                &text,
                &format!("# TYPE {} {}", metric.name, metric.kind.name()),
            );
        }
    }
}
