//! Removes identifiers from a DICOM object by PS3.15 Table E.1-1, and looks at the encoded result
//! before it leaves. Stands after assembly (dicom-scp) or submission (server) and before
//! redaction, which treats the pixels.

pub mod chest;

mod walk;

mod meta;

mod build;

mod read;

mod facts;

mod collect;

pub mod charset;

pub mod table;

mod denied;

mod required;

mod hits;

mod policy;

mod clean;

mod lut;

mod icc;

mod dates;

mod retain;

mod private;

mod structured;

mod graphics;

mod dummy;

mod codestream;

mod pixels;

mod statement;

mod deidentify;

mod identity;

mod pseudonyms;

pub mod gate;

#[doc(hidden)]
pub mod fuzzing;

pub use deidentify::{DeidError, Deidentified, Deidentifier, read};
pub use identity::Identity;
pub use policy::{Policy, PolicyError, UnknownOption};
pub use pseudonyms::{HmacPseudonyms, IdKind, PseudonymError, Pseudonyms};
pub use statement::{Stated, Unredacted};
pub use table::ProfileOption;
