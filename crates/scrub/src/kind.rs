//! What kinds of identifier there are. Used by every later step.

/// What an identifier is; the surrogate that replaces it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// Number of an account, policy, licence or membership.
    Account,
    /// Postal address or a part of it.
    Address,
    /// Age over 89 (45 CFR 164.514(b)(2)(i)(C)).
    Age,
    /// A date finer than a year.
    Date,
    /// E-mail address.
    Email,
    /// An identifying number or code that is none of the others.
    Id,
    /// Name of an institution.
    Institution,
    /// Network address.
    Ip,
    /// Medical record number.
    Mrn,
    /// Name of a person.
    Name,
    /// Telephone or fax number.
    Phone,
    /// Social security number.
    Ssn,
    /// DICOM unique identifier.
    Uid,
    /// Web address.
    Url,
}

impl Kind {
    /// The text that stands in for an identifier of this kind.
    pub const fn surrogate(self) -> &'static str {
        match self {
            Self::Account => "[ACCOUNT]",
            Self::Address => "[ADDRESS]",
            Self::Age => "[AGE]",
            Self::Date => "[DATE]",
            Self::Email => "[EMAIL]",
            Self::Id => "[ID]",
            Self::Institution => "[INSTITUTION]",
            Self::Ip => "[IP]",
            Self::Mrn => "[MRN]",
            Self::Name => "[NAME]",
            Self::Phone => "[PHONE]",
            Self::Ssn => "[SSN]",
            Self::Uid => "[UID]",
            Self::Url => "[URL]",
        }
    }
}
