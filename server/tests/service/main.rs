//! The server as the sidecar sees it, over real sockets.

mod harness;

mod generate;
mod study;
