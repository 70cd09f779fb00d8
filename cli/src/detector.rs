//! The text detector as `deidentify` and `detect-text` start it: the same worker pool as in the
//! rooms, with this executable as the worker.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use cloister_redact::{Fill, MarkerPolicy, RedactConfig, Redactor};

use crate::failure::usage;

/// Where the detector and ONNX Runtime lie.
#[derive(Debug, Clone, Args)]
pub(crate) struct DetectorArgs {
    /// Folder of the text-detector bundle; `models/text-ppocr` beside this project by default.
    #[arg(long, value_name = "DIR")]
    pub(crate) detector: Option<PathBuf>,
    /// Folder of the text-presence bundle; `text-presence` beside the detector by default.
    #[arg(long, value_name = "DIR")]
    pub(crate) presence: Option<PathBuf>,
    /// ONNX Runtime library; the pinned one in the cache by default.
    #[arg(long, value_name = "FILE")]
    pub(crate) runtime_library: Option<PathBuf>,
    /// What happens to laterality markers and view labels: keep or redact.
    #[arg(long, value_name = "POLICY", default_value = "keep")]
    pub(crate) markers: MarkerPolicy,
    /// What stands where something was blanked: background or solid.
    #[arg(long, value_name = "FILL", default_value = "background")]
    pub(crate) fill: Fill,
    /// Worker processes.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) workers: u8,
}

impl DetectorArgs {
    /// Starts the workers and waits until they have loaded the model.
    pub(crate) fn start(&self) -> Result<Redactor> {
        let bundle = match &self.detector {
            Some(dir) => dir.clone(),
            None => models_dir(None)?.join("text-ppocr"),
        };
        let library = library(self.runtime_library.as_deref())?;
        let exe = std::env::current_exe().context("finding this executable")?;
        let mut config = RedactConfig::at(exe, bundle, library);
        if let Some(presence) = &self.presence {
            config.presence_bundle.clone_from(presence);
        }
        config.workers = usize::from(self.workers);
        config.markers = self.markers;
        config.fill = self.fill;
        Redactor::start(config).context("the text detector does not start; try `cloister doctor`")
    }
}

/// The ONNX Runtime library: the one named, else the pinned one in the cache.
pub(crate) fn library(named: Option<&Path>) -> Result<PathBuf> {
    match named {
        Some(path) => Ok(path.to_owned()),
        None => Ok(cloister_onnx::library_path()?),
    }
}

/// The folder with the reference bundles: the one named, else the first `models/TRUSTED.toml`
/// above this executable or the current folder.
pub(crate) fn models_dir(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(dir) = named {
        return Ok(std::path::absolute(dir)?);
    }
    let exe = std::env::current_exe().context("finding this executable")?;
    let here = std::env::current_dir().context("finding the current folder")?;
    exe.ancestors()
        .chain(here.ancestors())
        .map(|dir| dir.join("models"))
        .find(|models| models.join("TRUSTED.toml").is_file())
        .ok_or_else(|| {
            usage("no models folder above this executable or the current folder; give --models")
        })
}
