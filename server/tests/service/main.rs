//! The server as the sidecar sees it, over real sockets.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "tests"
)]

mod harness;

mod generate;
mod study;
