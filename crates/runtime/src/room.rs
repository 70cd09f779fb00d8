//! `main` of a room.

use std::future::Future;
use std::path::Path;
use std::process::ExitCode;

use crate::config::ConfigError;
use crate::shutdown::Shutdown;

/// Arguments → configuration → telemetry → `run(config, shutdown)` → exit code.
pub fn room_main<C, F, Fut>(_name: &'static str, _parse: fn(&Path) -> Result<C, ConfigError>, _run: F) -> ExitCode
where
    F: FnOnce(C, Shutdown) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    todo!()
}
