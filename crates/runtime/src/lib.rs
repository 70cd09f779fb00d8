//! What every room's process needs around its work: configuration, telemetry, readiness, the
//! admin port, drain and exit codes.

pub mod admin;
pub mod config;
pub mod exit;
pub mod ready_file;
pub mod telemetry;

mod room;
mod shutdown;

pub use admin::Ready;
pub use config::ConfigError;
pub use metrics_exporter_prometheus::PrometheusHandle;
pub use room::room_main;
pub use shutdown::Shutdown;
