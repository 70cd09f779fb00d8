//! Who the patient is, taken from the tags before they go. The capsule carries it.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// Who the patient is and which study this was; travels only inside a sealed capsule.
#[derive(Clone, Default, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Identity {
    /// (0010,0010), in DICOM form.
    pub patient_name: String,
    /// (0010,0020).
    pub patient_id: String,
    /// (0010,0021), else the caller's issuer.
    pub issuer: String,
    /// (0010,0030), `YYYYMMDD`.
    pub birth_date: String,
    /// (0010,0040).
    pub sex: String,
    /// (0008,0050).
    pub accession: String,
    /// (0020,000D).
    pub study_uid: String,
    /// (0020,000E).
    pub series_uid: String,
    /// (0008,0018).
    pub sop_uid: String,
    /// (0008,0016).
    pub sop_class: String,
    /// (0008,0020), `YYYYMMDD`.
    pub study_date: String,
    /// (0008,0030).
    pub study_time: String,
    /// (0008,0090), in DICOM form.
    pub referring: String,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}
