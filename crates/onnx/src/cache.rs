//! The per-user cache that `make setup` fills: files named by their SHA-256, outside git.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::bundle::sha256_of_file;
use crate::error::OnnxError;

/// Version, wheel, member and SHA-256 of the library, one entry per platform.
const PINS: &str = include_str!("../../../models/onnxruntime.toml");

/// The part of the pins that a process needs; the set-up step reads the rest.
#[derive(Debug, Deserialize)]
struct Pins {
    library: Vec<Pin>,
}

#[derive(Debug, Deserialize)]
struct Pin {
    platform: String,
    sha256: String,
}

/// `${XDG_CACHE_HOME:-~/.cache}/cloister`, or nothing where neither variable is set.
pub fn cache_dir() -> Option<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("cloister"))
}

/// Where a file with this SHA-256 lies in the cache.
pub(crate) fn cached(sha256: &str) -> Option<PathBuf> {
    cache_dir().map(|cache| cache.join(sha256))
}

/// ONNX Runtime in the cache, after its hash was compared with the pin.
///
/// # Errors
/// [`OnnxError::NotFetched`] or [`OnnxError::LibraryAltered`].
pub fn library_path() -> Result<PathBuf, OnnxError> {
    let platform = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let pins: Pins = toml::from_str(PINS).map_err(|error| OnnxError::Load(error.to_string()))?;
    let pin = pins
        .library
        .iter()
        .find(|pin| pin.platform == platform)
        .ok_or(OnnxError::NotFetched)?;
    let path = cached(&pin.sha256).ok_or(OnnxError::NotFetched)?;
    verify(&path, &pin.sha256)?;
    Ok(path)
}

fn verify(path: &Path, sha256: &str) -> Result<(), OnnxError> {
    let found = sha256_of_file(path).map_err(|_| OnnxError::NotFetched)?;
    if hex::encode(found) == sha256 {
        Ok(())
    } else {
        Err(OnnxError::LibraryAltered {
            path: path.to_owned(),
        })
    }
}
