//! The sidecar as its callers, and an attacker, see it: real sockets, a real PKI, a fake server.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test program: its files need not be durable, and a surprise may end it"
)]

mod door;
mod fake;
mod harness;
mod mailbox;
mod report;
