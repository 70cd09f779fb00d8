//! Why a bundle or a graph cannot be used. No variant carries content of a film or a text.

use std::path::PathBuf;

/// A bundle that cannot be used. It stops the start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// A file of the bundle cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `bundle.toml` does not parse, or has a key that does not exist.
    #[error("bundle.toml: {0}")]
    Parse(#[from] Box<toml::de::Error>),
    /// A value that parses but cannot be used.
    #[error("bundle.toml: {key}: {reason}")]
    Invalid {
        /// The key, dotted.
        key: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// A file's bytes are not those the manifest names.
    #[error("{name}: SHA-256 differs from bundle.toml")]
    Altered {
        /// Path inside the bundle.
        name: String,
    },
    /// A file with a `source` is not in the cache.
    #[error("{name}: not in the cache; run `make setup`")]
    NotFetched {
        /// Path inside the bundle.
        name: String,
    },
    /// The bundle has no such file.
    #[error("{name}: not a file of this bundle")]
    NoSuchFile {
        /// Path inside the bundle.
        name: String,
    },
    /// Neither trusted by hash nor signed by a key of the trust list.
    #[error(
        "bundle {sha256} is not trusted: neither in TRUSTED.toml nor signed by a key of the trust list"
    )]
    Untrusted {
        /// SHA-256 of `bundle.toml`, in hex.
        sha256: String,
    },
    /// Not the kind of bundle that is needed here.
    #[error("the bundle is of another kind")]
    WrongKind,
}

/// ONNX Runtime or one of its graphs cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// The library's own telemetry is not switched off.
    #[error(
        "ONNX Runtime is not loaded unless the environment has {}=1",
        crate::telemetry::VARIABLE
    )]
    Telemetry,
    /// The shared library is missing or not ONNX Runtime.
    #[error("ONNX Runtime at {path} cannot be loaded: {reason}")]
    Library {
        /// The library.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Another library is already loaded in this process.
    #[error("ONNX Runtime is already loaded from another path")]
    OtherLibrary,
    /// No library for this platform is pinned, or it is not in the cache.
    #[error("ONNX Runtime is not in the cache; run `make setup`")]
    NotFetched,
    /// The library in the cache is not the pinned one.
    #[error("{path}: SHA-256 differs from the pin")]
    LibraryAltered {
        /// The library.
        path: PathBuf,
    },
    /// The graph cannot be loaded.
    #[error("the graph cannot be loaded: {0}")]
    Load(String),
    /// CUDA was asked for and is not usable.
    #[error("CUDA is not usable: {0}")]
    Cuda(String),
    /// The graph failed while it ran. The message is ONNX Runtime's and names operators and
    /// shapes, never values.
    #[error("the graph failed: {0}")]
    Run(String),
    /// The graph lacks an output or gave it another type or shape.
    #[error("the graph has no usable output {0}")]
    Output(String),
}
