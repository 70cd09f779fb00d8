//! Logs on standard error, metrics in one recorder: second step of every process.

use std::io::IsTerminal as _;
use std::str::FromStr;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// Upper bounds of every histogram in `…_seconds`: half a millisecond to two minutes, because one
/// set has to show a network hop and a report.
const SECONDS: [f64; 18] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0,
    40.0, 60.0, 120.0,
];
/// Upper bounds of every histogram in `…_bytes`.
const BYTES: [f64; 8] = [
    1024.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
/// Upper bounds of any other histogram (counts of things).
const COUNTS: [f64; 9] = [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0, 1024.0];

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("text or json".to_owned()),
        }
    }
}

/// Starts logging on standard error. `level` is a `tracing` filter such as `info` or
/// `info,cloister_sidecar=debug`; one that does not parse counts as `info`. A second call changes
/// nothing.
pub fn init(format: LogFormat, level: &str) {
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // Fails only when a subscriber exists, for example in a test that started several rooms.
    match format {
        LogFormat::Text => builder.try_init().ok(),
        LogFormat::Json => builder.json().with_ansi(false).try_init().ok(),
    };
}

/// The process's metrics recorder, installed on first use. Histograms have fixed buckets, so that
/// figures of several replicas can be added.
pub fn recorder() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let builder = PrometheusBuilder::new().set_buckets(&COUNTS);
            let builder = [("_seconds", &SECONDS[..]), ("_bytes", &BYTES[..])]
                .into_iter()
                .fold(builder, |builder, (unit, bounds)| {
                    builder.and_then(|builder| {
                        builder.set_buckets_for_metric(Matcher::Suffix(unit.to_owned()), bounds)
                    })
                });
            // Fails only for an empty list of bounds, and none is.
            let builder = builder.unwrap_or_else(|_| PrometheusBuilder::new());
            let recorder = builder.build_recorder();
            let handle = recorder.handle();
            // Fails only when another recorder is installed; then ours shows nothing, and says so.
            if metrics::set_global_recorder(recorder).is_err() {
                tracing::warn!("another metrics recorder is installed; /metrics stays empty");
            }
            handle
        })
        .clone()
}

#[cfg(test)]
mod tests {
    #[test]
    fn histograms_have_buckets_by_unit() {
        let handle = super::recorder();
        metrics::histogram!("cloister_test_step_duration_seconds").record(0.003);
        metrics::histogram!("cloister_test_films_count").record(3.0);
        let text = handle.render();
        assert!(
            text.contains("cloister_test_step_duration_seconds_bucket{le=\"0.005\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("cloister_test_films_count_bucket{le=\"4\"} 1"),
            "{text}"
        );
    }
}
