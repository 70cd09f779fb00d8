#![cfg_attr(
    test,
    expect(clippy::disallowed_methods, reason = "tests damage files on purpose")
)]

//! The segment log: the truth behind spool index, audit trail, mailbox, escalations and directory.
//!
//! A record is durable when [`Log::append`] returns: one writer thread writes everything that
//! queued, calls `fdatasync` once, then answers (group commit). [`index::Index`] is a sled index
//! over a log that may be thrown away at any time. [`durable`] holds the file operations that
//! survive a power cut.

pub mod disk;

pub mod durable;

pub mod index;

pub mod lock;

mod error;
mod frame;
mod log;
mod recover;
mod watermark;
mod writer;

pub use error::LogError;
pub use log::{Log, LogConfig};
pub use recover::{Stored, read_directory};
