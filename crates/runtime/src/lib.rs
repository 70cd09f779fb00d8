//! What every room's process needs around its work: configuration, telemetry, readiness, the
//! admin port, drain and exit codes.

pub mod admin;
pub mod config;
pub mod exit;
mod memory;
pub mod ready_file;
pub mod telemetry;

mod room;
mod shutdown;

pub use admin::Ready;
pub use config::ConfigError;
pub use memory::give_large_blocks_back;
pub use metrics_exporter_prometheus::PrometheusHandle;
pub use room::room_main;
pub use shutdown::Shutdown;
