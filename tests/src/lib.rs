//! Harness of the integration tests: three real processes, real sockets, a temporary state folder,
//! ports that the operating system chose, and conditions that are polled until a deadline.
//!
//! The cases are in `tests/*.rs`, one behaviour of the whole path each.

mod binaries;
mod callers;
mod chance;
mod fake_server;
mod files;
mod generate;
mod http;
mod inbox;
mod installation;
mod tools;
mod waiting;

pub use binaries::{binaries, workspace_root};
pub use callers::{Caller, foreign_files, refusals, try_handshake};
pub use chance::Chance;
pub use fake_server::{FakeServer, Swap};
pub use files::write;
pub use generate::generate_with_capsule;
pub use http::{get, metrics_of};
pub use inbox::{Inbox, original_instances};
pub use installation::Harness;
pub use tools::{cloister, find_tool, note, pynetdicom, run, shared_data, skipped};
pub use waiting::{until, within};
