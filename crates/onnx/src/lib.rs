//! Bundles and the runtime that runs their graphs. A room loads a bundle once at its start
//! ([`Bundle::load`] refuses an altered or untrusted one), starts ONNX Runtime
//! ([`Runtime::init`]) and opens one [`Session`] per worker and graph.

mod bundle;
mod cache;
mod error;
mod manifest;
mod runtime;
mod session;
mod telemetry;
mod trust;

pub use bundle::Bundle;
pub use cache::{cache_dir, library_path};
pub use error::{BundleError, OnnxError};
pub use manifest::{FileEntry, Kind, Manifest};
pub use ort;
pub use runtime::Runtime;
pub use session::{ExecutionProvider, Running, Session, SessionOptions, Tensor};
pub use telemetry::forbid_telemetry;
pub use trust::{TrustError, TrustedHashes, sign, signature_message};
