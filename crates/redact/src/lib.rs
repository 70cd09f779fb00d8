//! Finds text burned into the pixels and takes it away. Before it stands `deid` (the tags are clean),
//! after it stands the gate. Hostile bytes are parsed in worker processes with hard limits; a worker
//! that dies, hangs or eats memory costs one object its passage and nothing else.
//!
//! Path of one object inside a worker: `decode → render → find → blank → encode → rendition`.
//! Whatever cannot be decoded is an error with a closed code: nothing passes undecoded.

mod config;
mod error;
mod redacted;

mod pool;

mod process;

mod wire;

mod worker;

mod film;

mod codestream;

mod dct;

mod rle;

mod decode;

mod picture;

mod render;

mod views;

mod model;

mod find;

mod components;

mod blank;

mod encode;

mod rendition;

#[doc(hidden)]
pub mod fuzzing;

pub mod phantom;

pub use config::RedactConfig;
pub use error::{RedactError, Undecodable};
pub use pool::Redactor;
pub use redacted::{FoundBox, Preview, Redacted, RedactedPicture};
pub use worker::dispatch_worker;
