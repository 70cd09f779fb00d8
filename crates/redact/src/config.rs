//! What the pool needs to know: which executable to re-run, which bundle and library it may open,
//! and how much a worker may use.

use std::{path::PathBuf, time::Duration};

/// Settings of the worker pool.
#[derive(Debug, Clone)]
pub struct RedactConfig {
    /// Executable re-run with `__worker`; usually `std::env::current_exe()`.
    pub worker_exe: PathBuf,
    /// Number of worker processes.
    pub workers: usize,
    /// Folder of the `text-detector` bundle.
    pub detector_bundle: PathBuf,
    /// ONNX Runtime shared library.
    pub runtime_library: PathBuf,
    /// Address space a worker may use, in bytes. Decoding, blanking and encoding a film of 15 million
    /// pixels of 16 bits fit in half a gigabyte beside the detector's net.
    pub memory_bytes: u64,
    /// Time one object may take; the worker is killed after it.
    pub timeout: Duration,
    /// Largest object that is read.
    pub max_object_bytes: u64,
}

impl RedactConfig {
    /// Sensible limits around the three paths that every installation must name.
    pub fn at(
        worker_exe: impl Into<PathBuf>,
        detector_bundle: impl Into<PathBuf>,
        runtime_library: impl Into<PathBuf>,
    ) -> Self {
        Self {
            worker_exe: worker_exe.into(),
            workers: 1,
            detector_bundle: detector_bundle.into(),
            runtime_library: runtime_library.into(),
            memory_bytes: 512 << 20,
            timeout: Duration::from_mins(2),
            max_object_bytes: 512 << 20,
        }
    }
}
