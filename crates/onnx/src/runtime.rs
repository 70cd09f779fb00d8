//! ONNX Runtime, loaded once per process from an explicit path. Before it: [`crate::library_path`]
//! names the pinned library; after it: [`crate::Session`].

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;

use crate::error::OnnxError;
use crate::telemetry;

/// What this process has loaded. The library cannot be unloaded or exchanged.
static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

/// ONNX Runtime in this process. Clones share it.
#[derive(Clone)]
pub struct Runtime {
    environment: Environment,
    library: PathBuf,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime")
            .field("library", &self.library)
            .finish_non_exhaustive()
    }
}

impl Runtime {
    /// Loads the library at `library`, or answers with what is already loaded from there.
    /// `ort::init_from` returns an error where `ORT_DYLIB_PATH` panics.
    ///
    /// # Errors
    /// [`OnnxError::Telemetry`] unless [`crate::forbid_telemetry`] ran, [`OnnxError::Library`] when it is missing or not ONNX Runtime, [`OnnxError::OtherLibrary`]
    /// when this process already uses another one.
    pub fn init(library: &Path) -> Result<Self, OnnxError> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = loaded.as_ref() {
            return if runtime.library == library {
                Ok(runtime.clone())
            } else {
                Err(OnnxError::OtherLibrary)
            };
        }
        if !telemetry::is_off() {
            return Err(OnnxError::Telemetry);
        }
        let failed = |reason: String| OnnxError::Library {
            path: library.to_owned(),
            reason,
        };
        let environment = ort::init_from(library)
            .map_err(|error| failed(error.to_string()))?
            .with_name("cloister")
            .with_telemetry(false)
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let runtime = Self {
            environment,
            library: library.to_owned(),
        };
        *loaded = Some(runtime.clone());
        Ok(runtime)
    }

    /// The library in use.
    pub fn library(&self) -> &Path {
        &self.library
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }
}
