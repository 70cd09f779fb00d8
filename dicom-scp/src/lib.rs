//! The DICOM gateway: films come by C-STORE, leave without identifiers, and nothing that was
//! acknowledged is ever lost. [`pipeline`] lists the steps.

pub mod config;

pub mod pipeline;

mod receive;

mod store;

mod assemble;

mod deidentify;

mod redact;

mod clear;

mod forward;

mod relay;

mod retention;

mod vault;

mod quarantine;

mod route;

mod spool;

pub mod control;

mod metric;

mod error;

mod keys;

mod restore;

mod room;

pub use config::Config;
pub use restore::restore_vault;
pub use room::run;

#[cfg(test)]
mod tests;
