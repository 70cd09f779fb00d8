//! Finds text burned into the pixels and takes it away. Before it stands `deid` (the tags are clean),
//! after it stands the gate. Hostile bytes are parsed in worker processes with hard limits; a worker
//! that dies, hangs or eats memory costs one object its passage and nothing else.
//!
//! Path of one object inside a worker: `decode → render → find → read → (judge) → blank → again → encode →
//! rendition`. `judge` runs in the parent, which knows the patient's identifiers; a worker never does.
//! Before a film leaves, a worker reads the encoded bytes and looks at every pixel once more (`again`).
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

mod presence;

mod edges;

mod find;

mod components;

mod recognise;

mod ink;

mod reading;

mod markers;

mod judge;

mod codes;

mod masks;

mod look;

mod again;

mod blank;

mod encode;

mod outside;

mod rendition;

#[doc(hidden)]
pub mod fuzzing;

pub mod phantom;

pub use config::{Fill, MarkerPolicy, Outside, RedactConfig};
pub use error::{RedactError, Undecodable};
pub use pool::Redactor;
pub use redacted::{Action, Findings, FoundBox, Preview, Redacted, RedactedPicture, Source, Spent};
pub use worker::dispatch_worker;
