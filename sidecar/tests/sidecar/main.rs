//! The sidecar as its callers, and an attacker, see it: real sockets, a real PKI, a fake server.
#![expect(clippy::disallowed_methods, reason = "test files need not be durable")]

mod door;
mod fake;
mod harness;
mod mailbox;
mod report;
