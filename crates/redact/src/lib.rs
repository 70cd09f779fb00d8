//! Finds text burned into the pixels and takes it away. Before it stands `deid` (the tags are clean),
//! after it stands the gate. Hostile bytes are parsed in worker processes with hard limits; a worker
//! that dies, hangs or eats memory costs one object its passage and nothing else.
//!
//! Path of one object inside a worker: `decode → render → find → blank → encode → rendition`.
//! Whatever cannot be decoded is an error with a closed code: nothing passes undecoded.

mod config;
mod error;
mod pool;
mod redacted;

pub mod phantom;

pub use config::RedactConfig;
pub use error::{RedactError, Undecodable};
pub use pool::{Redactor, dispatch_worker};
pub use redacted::{FoundBox, Preview, Redacted, RedactedPicture};
