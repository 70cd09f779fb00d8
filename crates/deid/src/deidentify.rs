//! Takes the identifiers out of one object: reads, collects, cleans, and states what was done.
//! Assembly or submission stands before it; redaction of the pixels follows.

use std::{cell::Cell, fmt};

use cloister_phi::{AgeBand, Phi, Pseudonym, Sex, Uid, View};
use cloister_scrub::KnownIdentifiers;
use dicom_core::{DataElement, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_encoding::transfer_syntax::TransferSyntaxIndex;
use dicom_object::{FileDicomObject, FileMetaTable, FileMetaTableBuilder, InMemDicomObject};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use crate::{
    IdKind, Identity, Policy, ProfileOption, PseudonymError, Pseudonyms,
    clean::Cleaner,
    collect,
    dates::DayShift,
    facts::Facts,
    pixels,
    read::{self, ReadFault},
    required::{self, Place},
    statement::{self, Unredacted},
};

/// UID of this implementation, made once from a random UUID.
const IMPLEMENTATION_CLASS_UID: &str = "2.25.321492110615459233029781769423244093903";
const IMPLEMENTATION_VERSION_NAME: &str = "CLOISTER_0_1";

/// Removes identifiers by a policy.
#[derive(Debug, Clone, Default)]
pub struct Deidentifier {
    policy: Policy,
}

/// Why an object could not be de-identified. No variant holds anything from the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeidError {
    /// A class that is no object about a patient: the directory of a medium.
    #[error("the object is of a class that is not de-identified")]
    DeniedClass,
    /// No SOP Instance UID, neither in the file meta information nor in the data set.
    #[error("the object has no SOP Instance UID")]
    NoInstanceUid,
    /// A pseudonym was not to be had.
    #[error("no pseudonym: {0}")]
    Pseudonym(#[from] PseudonymError),
    /// More identifiers, or a longer name, than any object carries: a search for them would not end.
    #[error("the object holds too many identifiers")]
    TooManyIdentifiers,
    /// Sequences are nested beyond any use.
    #[error("the object's sequences are nested too deeply")]
    TooDeep,
    /// The inflated data set is beyond the limit.
    #[error("the object is too large")]
    TooLarge,
    /// The pixel data cannot be looked through: frames that do not follow their own syntax, a
    /// syntax of video, or attributes that do not say how long a frame is.
    #[error("the pixel data cannot be looked through")]
    Pixels,
    /// The transfer syntax is not known.
    #[error("the transfer syntax is not supported")]
    TransferSyntax,
    /// An attribute stands twice in one data set.
    #[error("the object holds an attribute twice")]
    Duplicate,
    /// Nothing at the beginning of the bytes says DICOM.
    #[error("the bytes are no DICOM object")]
    NotDicom,
    /// The bytes are no well-formed Part 10 file: cut short, or lengths that do not fit.
    #[error("the object cannot be read")]
    Unreadable,
    /// What came back from redaction is not this object with its pixels looked through.
    #[error("the redacted object is not the one that was cleaned")]
    NotRedacted,
    /// The cleaned object could not be encoded.
    #[error("the cleaned object cannot be encoded")]
    Unwritable,
}

/// Reads an encoded Part 10 file within limits on depth and inflated size; a panic in the parser is
/// a malformed object. Rooms read hostile bytes through this and nothing else.
///
/// # Errors
/// [`DeidError`] names the limit.
pub fn read(encoded: &[u8]) -> Result<FileDicomObject<InMemDicomObject>, DeidError> {
    Ok(read::read(encoded)?)
}

impl DeidError {
    /// The stable reason code, the same wherever an object is refused: a few that tell an operator
    /// what to do, not one for each cause.
    ///
    /// | code | what it says |
    /// |---|---|
    /// | `NOT_DICOM` | no DICOM object: another kind of file |
    /// | `UNREADABLE` | cut short or damaged: send it again |
    /// | `DUPLICATE_ATTRIBUTE` | an attribute stands twice with two values: correct it at its source |
    /// | `DENIED_CLASS` | the directory of a medium (DICOMDIR): it is no object about a patient |
    /// | `NO_INSTANCE_UID` | no SOP Instance UID: correct it at its source |
    /// | `LIMIT_EXCEEDED` | nested too deeply, too large or too many identifiers: nothing honest is |
    /// | `UNKNOWN_TRANSFER_SYNTAX` | nobody here reads its encoding |
    /// | `PIXELS_UNREADABLE` | the pixel data does not follow its own attributes or syntax, or the syntax cannot be looked through |
    /// | `DEIDENTIFY_FAILED` | our own fault: no pseudonym, no encoding |
    pub const fn code(self) -> &'static str {
        match self {
            Self::DeniedClass => "DENIED_CLASS",
            Self::NotDicom => "NOT_DICOM",
            Self::Unreadable => "UNREADABLE",
            Self::Duplicate => "DUPLICATE_ATTRIBUTE",
            Self::NoInstanceUid => "NO_INSTANCE_UID",
            Self::TooDeep | Self::TooLarge | Self::TooManyIdentifiers => "LIMIT_EXCEEDED",
            Self::TransferSyntax => "UNKNOWN_TRANSFER_SYNTAX",
            Self::Pixels => "PIXELS_UNREADABLE",
            Self::Pseudonym(_) | Self::Unwritable | Self::NotRedacted => "DEIDENTIFY_FAILED",
        }
    }
}

impl From<ReadFault> for DeidError {
    fn from(fault: ReadFault) -> Self {
        match fault {
            ReadFault::Duplicate => Self::Duplicate,
            ReadFault::Malformed => Self::Unreadable,
            ReadFault::NotDicom => Self::NotDicom,
            ReadFault::TransferSyntax => Self::TransferSyntax,
            ReadFault::TooDeep => Self::TooDeep,
            ReadFault::TooLarge => Self::TooLarge,
        }
    }
}

/// An object without identifiers in its attributes. Only [`Deidentifier`] makes one; its pixels
/// are untouched and may still carry burned-in text.
#[derive(Clone)]
pub struct Deidentified {
    object: FileDicomObject<InMemDicomObject>,
    facts: Facts,
    identity: Phi<Identity>,
    sop_instance_uid: Uid,
    study_instance_uid: Uid,
    study_pseudonym: Pseudonym,
    policy: Policy,
}

impl Deidentifier {
    /// A de-identifier for one policy.
    pub const fn new(policy: Policy) -> Self {
        Self { policy }
    }

    /// The policy in force.
    pub const fn policy(&self) -> Policy {
        self.policy
    }

    /// Reads an encoded Part 10 file and removes its identifiers. `issuer_fallback` is the issuer
    /// of patient IDs where (0010,0021) is empty.
    ///
    /// # Errors
    /// [`DeidError`]; nothing of the object may be forwarded then.
    pub fn deidentify(
        &self,
        encoded: &[u8],
        issuer_fallback: &str,
        ids: &dyn Pseudonyms,
    ) -> Result<(Deidentified, KnownIdentifiers), DeidError> {
        self.deidentify_read(&read::read(encoded)?, issuer_fallback, ids)
    }

    /// The identifiers of an encoded Part 10 file, without removing them.
    ///
    /// # Errors
    /// [`DeidError`].
    pub fn identifiers(&self, encoded: &[u8]) -> Result<KnownIdentifiers, DeidError> {
        let object = read::read(encoded)?;
        collect::collect(&object, self.policy).ok_or(DeidError::TooManyIdentifiers)
    }

    /// [`Self::deidentify`] for an object that was read already.
    ///
    /// # Errors
    /// [`DeidError`]; nothing of the object may be forwarded then.
    pub fn deidentify_object(
        &self,
        object: &FileDicomObject<InMemDicomObject>,
        issuer_fallback: &str,
        ids: &dyn Pseudonyms,
    ) -> Result<(Deidentified, KnownIdentifiers), DeidError> {
        if !read::within_depth(object) {
            return Err(DeidError::TooDeep);
        }
        self.deidentify_read(object, issuer_fallback, ids)
    }

    fn deidentify_read(
        &self,
        object: &FileDicomObject<InMemDicomObject>,
        issuer_fallback: &str,
        ids: &dyn Pseudonyms,
    ) -> Result<(Deidentified, KnownIdentifiers), DeidError> {
        let directory = uids::MEDIA_STORAGE_DIRECTORY_STORAGE;
        if object.meta().media_storage_sop_class_uid() == directory {
            return Err(DeidError::DeniedClass);
        }
        let facts = Facts::of(object);
        let mut identity = collect::identity(object, issuer_fallback);
        let known = collect::collect(object, self.policy).ok_or(DeidError::TooManyIdentifiers)?;

        let meta_instance = trim(object.meta().media_storage_sop_instance_uid());
        if identity.sop_uid.is_empty() {
            identity.sop_uid = meta_instance;
        }
        if identity.sop_uid.is_empty() {
            return Err(DeidError::NoInstanceUid);
        }
        if identity.sop_class.is_empty() {
            identity.sop_class = trim(object.meta().media_storage_sop_class_uid());
        }
        // An instance without a study is a study of its own.
        let study_key = if identity.study_uid.is_empty() {
            format!("study of {}", identity.sop_uid)
        } else {
            identity.study_uid.clone()
        };
        let study_pseudonym = ids.pseudonym(IdKind::StudyKey, "", &study_key)?;
        // Without a patient ID nothing tells which studies are one patient's.
        let patient = Some(&identity.patient_id).filter(|id| !id.is_empty());
        let shift = self
            .policy
            .has(ProfileOption::RetainModifiedDates)
            .then(|| DayShift::of(ids, &identity.issuer, patient.unwrap_or(&study_key)))
            .transpose()?;

        let cleaner = Cleaner {
            searcher: known.searcher(),
            ids,
            issuer: &identity.issuer,
            class: &identity.sop_class,
            policy: self.policy,
            shift,
            lost_dates: Cell::new(false),
        };
        if !cleaner.searcher.is_complete() {
            return Err(DeidError::TooManyIdentifiers);
        }
        let sop_instance_uid = cleaner.instance_uid(&identity.sop_uid)?;
        let study_instance_uid = cleaner.instance_uid(&study_key)?;
        let mut cleaned = cleaner.clean(object, &[], Place::default())?;
        cleaned.put(DataElement::new(
            tags::SOP_INSTANCE_UID,
            VR::UI,
            sop_instance_uid.as_str(),
        ));
        let lost_dates = cleaner.lost_dates.get();
        required::complete(&mut cleaned, object);
        statement::state(&mut cleaned, object, self.policy, lost_dates);
        pixels::tidy(&mut cleaned, object.meta().transfer_syntax())
            .map_err(|_| DeidError::Pixels)?;

        let meta = file_meta(
            object.meta().transfer_syntax(),
            &identity.sop_class,
            &sop_instance_uid,
        )?;
        let deidentified = Deidentified {
            object: cleaned.with_exact_meta(meta),
            facts,
            identity: Phi::new(identity),
            sop_instance_uid: uid(&sop_instance_uid)?,
            study_instance_uid: uid(&study_instance_uid)?,
            study_pseudonym: Pseudonym::parse(&study_pseudonym)
                .map_err(|_| PseudonymError::Invalid)?,
            policy: self.policy,
        };
        Ok((deidentified, known))
    }
}

impl Deidentified {
    /// The object without identifiers.
    pub const fn object(&self) -> &FileDicomObject<InMemDicomObject> {
        &self.object
    }

    /// The object as a Part 10 file in the transfer syntax it came in.
    ///
    /// # Errors
    /// [`DeidError::Unwritable`] or [`DeidError::TransferSyntax`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, DeidError> {
        encode(&self.object)
    }

    /// What redaction owes this object; keep it beside the bytes and complete it with the result.
    pub fn unredacted(&self) -> Unredacted {
        Unredacted::of(&self.object, &self.sop_instance_uid, self.policy)
    }

    /// Coarse age, taken before removal.
    pub const fn age_band(&self) -> AgeBand {
        self.facts.age_band
    }

    /// Sex, taken before removal.
    pub const fn sex(&self) -> Sex {
        self.facts.sex
    }

    /// View of the film, taken before removal.
    pub const fn view(&self) -> View {
        self.facts.view
    }

    /// Who the patient is, for the capsule.
    pub const fn identity(&self) -> &Phi<Identity> {
        &self.identity
    }

    /// The pseudonymous SOP Instance UID.
    pub const fn sop_instance_uid(&self) -> &Uid {
        &self.sop_instance_uid
    }

    /// The pseudonymous Study Instance UID.
    pub const fn study_instance_uid(&self) -> &Uid {
        &self.study_instance_uid
    }

    /// The study's pseudonym, the same for every object of the study.
    pub const fn study_pseudonym(&self) -> &Pseudonym {
        &self.study_pseudonym
    }
}

impl fmt::Debug for Deidentified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deidentified")
            .field("study", &self.study_pseudonym)
            .finish_non_exhaustive()
    }
}

/// Our own file meta information; nothing of what came stays.
pub(crate) fn file_meta(
    syntax: &str,
    sop_class: &str,
    sop_instance: &str,
) -> Result<FileMetaTable, DeidError> {
    FileMetaTableBuilder::new()
        .transfer_syntax(syntax)
        .media_storage_sop_class_uid(class_uid(sop_class))
        .media_storage_sop_instance_uid(sop_instance)
        .implementation_class_uid(IMPLEMENTATION_CLASS_UID)
        .implementation_version_name(IMPLEMENTATION_VERSION_NAME)
        .build()
        .map_err(|_| DeidError::Unwritable)
}

/// An object as a Part 10 file in its transfer syntax.
pub(crate) fn encode(object: &FileDicomObject<InMemDicomObject>) -> Result<Vec<u8>, DeidError> {
    let syntax = TransferSyntaxRegistry
        .get(object.meta().transfer_syntax())
        .ok_or(DeidError::TransferSyntax)?;
    let mut bytes = vec![0_u8; 128];
    bytes.extend_from_slice(b"DICM");
    object
        .write_meta(&mut bytes)
        .map_err(|_| DeidError::Unwritable)?;
    object
        .write_dataset_with_ts(&mut bytes, syntax)
        .map_err(|_| DeidError::Unwritable)?;
    Ok(bytes)
}

fn uid(text: &str) -> Result<Uid, DeidError> {
    Uid::parse(text).map_err(|_| DeidError::Pseudonym(PseudonymError::Invalid))
}

/// A SOP class is no identifier, but only if it is a UID at all.
fn class_uid(text: &str) -> &str {
    if Uid::parse(text).is_ok() { text } else { "" }
}

fn trim(text: &str) -> String {
    text.trim_matches(['\0', ' ']).to_owned()
}
