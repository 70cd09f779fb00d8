//! The room as its peers see it: real sockets, raw PDUs, a sidecar that only listens.

mod dimse;
mod disk;
mod durable;
mod fault;
mod full;
mod hostile;
mod kill;
mod large;
mod operate;
mod path;
mod peers;
mod relay;
mod scu;
mod site;
mod stow;
mod tls;
mod token;
