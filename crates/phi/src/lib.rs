//! Types that keep identified and unidentified data apart. No dependencies, no behaviour beyond
//! parsing: whoever holds a [`Phi`] holds something about a patient, and the compiler stops them
//! from printing it.

mod ae_title;
mod context;
mod phi;
mod pseudonym;
mod uid;

pub use ae_title::{AeTitle, AeTitleError};
pub use context::{AgeBand, Sex, View};
pub use phi::Phi;
pub use pseudonym::{Pseudonym, PseudonymError};
pub use uid::{Uid, UidError};
