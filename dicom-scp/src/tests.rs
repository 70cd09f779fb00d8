//! The room as its peers see it: real sockets, raw PDUs, a sidecar that only listens.

mod dimse;
mod durable;
mod hostile;
mod kill;
mod path;
mod peers;
mod scu;
mod site;
mod stow;
mod tls;
