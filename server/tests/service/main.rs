//! The server as the sidecar sees it, over real sockets.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests"
)]

mod harness;

mod generate;
mod study;
