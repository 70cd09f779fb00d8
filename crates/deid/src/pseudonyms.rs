//! Keyed stand-ins for identifiers. The cleaner asks for them; the room's vault or the stateless
//! form here gives them.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// What kind of identifier a pseudonym stands for; kinds never share pseudonyms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum IdKind {
    /// A UID: the pseudonym is `2.25.` and a decimal number below 2^128. The issuer is empty,
    /// since UIDs are unique by themselves and must agree between senders.
    Uid,
    /// (0010,0020): at most 64 characters.
    PatientId,
    /// (0008,0050): at most 16 characters.
    Accession,
    /// A study, by its Study Instance UID; the issuer is empty. A `cloister_phi::Pseudonym`.
    StudyKey,
    /// Any other identifying text: at most 16 characters.
    Other,
    /// How far a patient's dates are moved: a decimal number of days, not 0. The original is the
    /// patient ID.
    DateShift,
}

impl IdKind {
    /// A short name that never changes, for keys and files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uid => "uid",
            Self::PatientId => "patient-id",
            Self::Accession => "accession",
            Self::StudyKey => "study-key",
            Self::Other => "other",
            Self::DateShift => "date-shift",
        }
    }
}

/// No pseudonym could be given, so the object is not de-identified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PseudonymError {
    /// The vault gave a text that the attribute cannot hold.
    #[error("the pseudonym does not fit its attribute")]
    Invalid,
    /// The vault could not be read or written.
    #[error("the vault is not available")]
    Unavailable,
}

/// Gives the same stand-in for the same kind, issuer and identifier, for ever.
pub trait Pseudonyms: Send + Sync {
    /// The pseudonym of `original`, which comes without padding.
    ///
    /// # Errors
    /// [`PseudonymError::Unavailable`] where the answer could not be made durable.
    fn pseudonym(
        &self,
        kind: IdKind,
        issuer: &str,
        original: &str,
    ) -> Result<String, PseudonymError>;
}

/// Pseudonyms computed from a key alone, for callers that keep no vault. A vault uses it for its
/// first answer.
pub struct HmacPseudonyms {
    key: Zeroizing<[u8; 32]>,
}

impl HmacPseudonyms {
    /// Takes the key. Who holds it can confirm a guessed identifier.
    pub const fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self { key }
    }
}

impl Pseudonyms for HmacPseudonyms {
    fn pseudonym(
        &self,
        kind: IdKind,
        issuer: &str,
        original: &str,
    ) -> Result<String, PseudonymError> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.as_slice())
            .map_err(|_| PseudonymError::Unavailable)?;
        // Lengths before the parts: no two inputs share an encoding.
        for part in ["cloister-pseudonym-v1", kind.as_str(), issuer, original] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        let tag = mac.finalize().into_bytes();
        let hex = hex::encode_upper(tag);
        let short = |length: usize| hex.get(..length).unwrap_or_default().to_owned();
        Ok(match kind {
            IdKind::Uid => {
                let mut bytes = [0_u8; 16];
                bytes
                    .iter_mut()
                    .zip(tag.iter())
                    .for_each(|(to, from)| *to = *from);
                // PS3.5 B.2 derives the number from a UUID: set version 8 and the variant.
                let number = u128::from_be_bytes(bytes);
                let number = number & !(0xF << 76) | (8 << 76);
                let number = number & !(0b11 << 62) | (0b10 << 62);
                format!("2.25.{number}")
            }
            IdKind::PatientId => format!("P{}", short(31)),
            IdKind::Accession => format!("A{}", short(15)),
            IdKind::StudyKey => format!("S{}", short(31)),
            IdKind::Other => format!("X{}", short(15)),
            // Into the past, by one to eleven years: no date lands in the future or on itself.
            IdKind::DateShift => {
                let random = tag
                    .iter()
                    .take(8)
                    .fold(0_u64, |n, b| n << 8 | u64::from(*b));
                format!("-{}", 366 + random % 3653)
            }
        })
    }
}

impl fmt::Debug for HmacPseudonyms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HmacPseudonyms")
    }
}

#[cfg(test)]
mod tests {
    use cloister_phi::{Pseudonym, Uid};
    use zeroize::Zeroizing;

    use super::{HmacPseudonyms, IdKind, Pseudonyms};

    #[test]
    fn pseudonyms_depend_on_key_kind_issuer_and_original() {
        let one = HmacPseudonyms::new(Zeroizing::new([1; 32]));
        let two = HmacPseudonyms::new(Zeroizing::new([2; 32]));
        let of = |p: &HmacPseudonyms, kind, issuer, id| p.pseudonym(kind, issuer, id).unwrap();
        let base = of(&one, IdKind::PatientId, "A", "1");
        assert_eq!(base, of(&one, IdKind::PatientId, "A", "1"));
        assert_ne!(base, of(&two, IdKind::PatientId, "A", "1"));
        assert_ne!(base, of(&one, IdKind::PatientId, "B", "1"));
        assert_ne!(base, of(&one, IdKind::PatientId, "", "A1"));
        assert_ne!(
            of(&one, IdKind::Accession, "A", "1").get(1..),
            of(&one, IdKind::Other, "A", "1").get(1..)
        );
    }

    #[test]
    fn every_kind_fits_its_attribute() {
        let ids = HmacPseudonyms::new(Zeroizing::new([7; 32]));
        for n in 0..200 {
            let uid = ids.pseudonym(IdKind::Uid, "", &n.to_string()).unwrap();
            assert!(
                Uid::parse(&uid).is_ok() && uid.starts_with("2.25."),
                "{uid}"
            );
            assert!((35..=44).contains(&uid.len()), "{uid}");
        }
        assert!(Pseudonym::parse(&ids.pseudonym(IdKind::StudyKey, "", "1.2").unwrap()).is_ok());
        assert_eq!(ids.pseudonym(IdKind::Accession, "", "1").unwrap().len(), 16);
    }
}
