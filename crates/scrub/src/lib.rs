//! Finds and replaces identifiers in text. Comes after `cloister-deid`, which collects the
//! [`KnownIdentifiers`] of a film; stands before a query reaches a model and before bytes leave by
//! the gate.

mod kind;

mod alike;

mod known;

mod needle;

mod fold;

mod encodings;

mod search;

mod common;

mod detect;

mod text;

pub use alike::Likeness;
pub use kind::Kind;
pub use known::KnownIdentifiers;
pub use needle::is_placeholder_date;
pub use search::Searcher;
pub use text::{Scrubbed, Span, scrub, scrub_with};
