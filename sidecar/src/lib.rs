//! cloister-sidecar

use std::path::Path;

use cloister_runtime::{ConfigError, Shutdown};

/// The configuration.
#[derive(Debug)]
pub struct Config(());

impl Config {
    /// Reads and checks a configuration file.
    pub fn load(_path: &Path) -> Result<Self, ConfigError> {
        todo!()
    }
}

/// Runs until `shutdown`.
pub async fn run(_config: Config, _shutdown: Shutdown) -> anyhow::Result<()> {
    todo!()
}
