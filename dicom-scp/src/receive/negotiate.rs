//! A-ASSOCIATE-RQ → AC or RJ (PS3.8 section 7.1.1 and table 9-21).
//!
//! Titles are read leniently (padding of spaces or NUL) and compared strictly: case counts, and
//! anything but printable ASCII is no title.

use std::collections::BTreeMap;

use cloister_audit::Reason;
use cloister_phi::AeTitle;
use cloister_tls::Shown;
use dicom_dictionary_std::uids;
use dicom_ul::pdu::{
    AssociationRJ, AssociationRJResult, AssociationRJServiceProviderASCEReason as Acse,
    AssociationRJServiceUserReason as User, AssociationRJSource,
};

use super::storage_classes::STORAGE_CLASSES;
use crate::config::{ReceiveConfig, UnknownSopClasses};
use cloister_dimse::request::{Proposed, Request, name};

/// The one application context there is (PS3.7 annex A).
pub(crate) const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";
pub(crate) const IMPLEMENTATION_CLASS: &str = "2.25.193275810046512839165274839201746583920";
pub(crate) const IMPLEMENTATION_VERSION: &str = concat!(
    "CLOISTER_",
    env!("CARGO_PKG_VERSION_MAJOR"),
    "_",
    env!("CARGO_PKG_VERSION_MINOR")
);
/// What `redact` decodes.
const TRANSFER_SYNTAXES: [&str; 12] = [
    uids::IMPLICIT_VR_LITTLE_ENDIAN,
    uids::EXPLICIT_VR_LITTLE_ENDIAN,
    super::EXPLICIT_VR_BIG_ENDIAN,
    uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    uids::RLE_LOSSLESS,
    uids::JPEG_BASELINE8_BIT,
    uids::JPEG_LOSSLESS,
    uids::JPEG_LOSSLESS_SV1,
    uids::JPEGLS_LOSSLESS,
    uids::JPEGLS_NEAR_LOSSLESS,
    uids::JPEG2000_LOSSLESS,
    uids::JPEG2000,
];
/// Kept, but not all that comes so can be decoded (12 bits; some HTJ2K): taken only from a sender
/// that offers nothing better.
const LAST_RESORT: [&str; 4] = [
    uids::JPEG_EXTENDED12_BIT,
    uids::HTJ2K_LOSSLESS,
    uids::HTJ2K_LOSSLESS_RPCL,
    uids::HTJ2K,
];

/// Answers to a presentation context (PS3.8 table 9-18).
const ACCEPTANCE: u8 = 0;
const NO_REASON: u8 = 2;
const ABSTRACT_SYNTAX_NOT_SUPPORTED: u8 = 3;
const TRANSFER_SYNTAXES_NOT_SUPPORTED: u8 = 4;

/// An accepted presentation context.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) abstract_syntax: String,
    pub(crate) transfer_syntax: &'static str,
}

/// An accepted association.
#[derive(Debug)]
pub(crate) struct Negotiated {
    pub(crate) calling: AeTitle,
    /// The configured archive, which would tell us what it has committed: SCP of Storage Commitment.
    pub(crate) from_archive: bool,
    pub(crate) contexts: BTreeMap<u8, Context>,
    pub(crate) peer_max_bytes: u32,
    /// The A-ASSOCIATE-AC.
    pub(crate) answer: Vec<u8>,
}

/// A refused one.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) answer: AssociationRJ,
    pub(crate) reason: Reason,
}

/// Decides. `shown` is the peer's certificate on the TLS port.
pub(crate) fn negotiate(
    request: &Request,
    config: &ReceiveConfig,
    shown: Option<&Shown>,
) -> Result<Negotiated, Refused> {
    if request.protocol_version & 1 == 0 {
        let source = AssociationRJSource::ServiceProviderASCE(Acse::ProtocolVersionNotSupported);
        return Err(Refused {
            answer: rejection(source),
            reason: Reason::ProtocolVersion,
        });
    }
    let user = |why: User, reason| Refused {
        answer: rejection(AssociationRJSource::ServiceUser(why)),
        reason,
    };
    if name(&request.application_context) != Some(APPLICATION_CONTEXT) {
        return Err(user(
            User::ApplicationContextNameNotSupported,
            Reason::BadPdu,
        ));
    }
    if !title(&request.called).is_some_and(|called| config.called.contains(&called)) {
        return Err(user(
            User::CalledAETitleNotRecognized,
            Reason::CalledAeTitle,
        ));
    }
    let calling = title(&request.calling).filter(|calling| {
        config.calling.is_empty()
            || config.calling.contains(calling)
            || config.archive.as_ref() == Some(calling)
    });
    let Some(calling) = calling else {
        return Err(user(
            User::CallingAETitleNotRecognized,
            Reason::CallingAeTitle,
        ));
    };
    if !config.may_claim(&calling, shown) {
        return Err(user(
            User::CallingAETitleNotRecognized,
            Reason::CallingAeCertificate,
        ));
    }
    if request.contexts.is_empty() {
        return Err(user(User::NoReasonGiven, Reason::NoPresentationContext));
    }

    // Listed for its reports alone, it does not store.
    let reports_only = !config.calling.is_empty() && !config.calling.contains(&calling);
    let would_report = request
        .roles
        .iter()
        .any(|role| role.scp && name(&role.class) == Some(uids::STORAGE_COMMITMENT_PUSH_MODEL));
    let from_archive = config.archive.as_ref() == Some(&calling) && would_report;
    let offered = Offered {
        unknown: config.unknown_sop_classes,
        storage: !reports_only,
        commitment: config.archive.is_some(),
    };
    let mut contexts = BTreeMap::new();
    let mut results = Vec::new();
    for proposed in &request.contexts {
        let answer = match consider(proposed, offered) {
            Ok(context) => {
                let transfer_syntax = context.transfer_syntax;
                contexts.insert(proposed.id, context);
                (ACCEPTANCE, transfer_syntax)
            }
            // Not significant then, but present (PS3.8 table 9-18).
            Err(reason) => (reason, uids::IMPLICIT_VR_LITTLE_ENDIAN),
        };
        results.push((proposed.id, answer.0, answer.1));
    }
    Ok(Negotiated {
        calling,
        from_archive,
        peer_max_bytes: request.max_pdu_bytes,
        answer: acceptance(
            request,
            &contexts,
            &results,
            config.max_pdu_bytes,
            from_archive,
        ),
        contexts,
    })
}

fn title(field: &[u8; 16]) -> Option<AeTitle> {
    let text = std::str::from_utf8(field).ok()?;
    AeTitle::parse(text.trim_end_matches('\0')).ok()
}

/// What may be asked for on an association.
#[derive(Debug, Clone, Copy)]
struct Offered {
    unknown: UnknownSopClasses,
    storage: bool,
    commitment: bool,
}

impl Offered {
    fn takes(self, abstract_syntax: &str) -> bool {
        match abstract_syntax {
            uids::VERIFICATION => true,
            uids::STORAGE_COMMITMENT_PUSH_MODEL => self.commitment,
            other => self.storage && is_supported(other, self.unknown),
        }
    }
}

/// What the data sets of Storage Commitment are encoded in.
const PLAIN_SYNTAXES: [&str; 2] = [
    uids::IMPLICIT_VR_LITTLE_ENDIAN,
    uids::EXPLICIT_VR_LITTLE_ENDIAN,
];

fn consider(proposed: &Proposed, offered: Offered) -> Result<Context, u8> {
    // PS3.8 table 9-13: odd. The others of the same request are none the worse for it.
    if proposed.id.is_multiple_of(2) {
        return Err(NO_REASON);
    }
    let abstract_syntax = name(&proposed.abstract_syntax)
        .filter(|uid| offered.takes(uid))
        .ok_or(ABSTRACT_SYNTAX_NOT_SUPPORTED)?;
    let transfer_syntax = if abstract_syntax == uids::STORAGE_COMMITMENT_PUSH_MODEL {
        first_of(proposed, &PLAIN_SYNTAXES)
    } else {
        choose(proposed)
    };
    let transfer_syntax = transfer_syntax.ok_or(TRANSFER_SYNTAXES_NOT_SUPPORTED)?;
    Ok(Context {
        abstract_syntax: abstract_syntax.to_owned(),
        transfer_syntax,
    })
}

/// A-ASSOCIATE-AC (PS3.8 section 9.3.3).
fn acceptance(
    request: &Request,
    contexts: &BTreeMap<u8, Context>,
    results: &[(u8, u8, &str)],
    max_pdu_bytes: u32,
    from_archive: bool,
) -> Vec<u8> {
    let mut user = Vec::with_capacity(160);
    put(&mut user, 0x51, &max_pdu_bytes.to_be_bytes());
    put(&mut user, 0x52, IMPLEMENTATION_CLASS.as_bytes());
    if request.asynchronous {
        // One operation at a time, each way (PS3.7 table D.3-8).
        put(&mut user, 0x53, &[0, 1, 0, 1]);
    }
    for role in &request.roles {
        let Some(class) = name(&role.class) else {
            continue;
        };
        if contexts
            .values()
            .any(|context| context.abstract_syntax == class)
        {
            // The peer may send, and never receive (PS3.7 table D.3-10); the archive may report.
            let length = (class.len() as u16).to_be_bytes();
            let reports = from_archive && class == uids::STORAGE_COMMITMENT_PUSH_MODEL;
            let roles = [u8::from(role.scu), u8::from(reports && role.scp)];
            put(
                &mut user,
                0x54,
                &[&length[..], class.as_bytes(), &roles].concat(),
            );
        }
    }
    put(&mut user, 0x55, IMPLEMENTATION_VERSION.as_bytes());

    let mut body = Vec::with_capacity(256 + 64 * results.len());
    body.extend_from_slice(&[0, 1, 0, 0]);
    body.extend_from_slice(&request.called);
    body.extend_from_slice(&request.calling);
    body.extend_from_slice(&request.reserved);
    put(&mut body, 0x10, APPLICATION_CONTEXT.as_bytes());
    for (id, reason, transfer_syntax) in results {
        let mut item = vec![*id, 0, *reason, 0];
        put(&mut item, 0x40, transfer_syntax.as_bytes());
        put(&mut body, 0x21, &item);
    }
    put(&mut body, 0x50, &user);
    let mut pdu = vec![2, 0];
    pdu.extend_from_slice(&(body.len() as u32).to_be_bytes());
    pdu.extend_from_slice(&body);
    pdu
}

/// Type, reserved byte, length, value. No value here comes near the 64 KiB that the length allows:
/// 128 roles of 70 bytes are the most.
pub(crate) fn put(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    out.extend_from_slice(&[kind, 0]);
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
}

pub(crate) fn rejection(source: AssociationRJSource) -> AssociationRJ {
    AssociationRJ {
        result: AssociationRJResult::Permanent,
        source,
    }
}

/// Verification, and the storage SOP classes of the standard (PS3.4 annex B.5). With `Accept` also
/// private ones and such of the standard's storage arc as are newer than our list; other services
/// never. Storage Commitment is not among them: [`Offered`] alone decides about it.
fn is_supported(abstract_syntax: &str, unknown: UnknownSopClasses) -> bool {
    let known = abstract_syntax == uids::VERIFICATION || STORAGE_CLASSES.contains(&abstract_syntax);
    known
        || (unknown == UnknownSopClasses::Accept
            && cloister_phi::Uid::parse(abstract_syntax).is_ok()
            && (!abstract_syntax.starts_with("1.2.840.10008.")
                || abstract_syntax.starts_with("1.2.840.10008.5.1.4.1.1.")))
}

/// The sender's first choice among what we decode, else among what we can only keep.
fn choose(proposed: &Proposed) -> Option<&'static str> {
    first_of(proposed, &TRANSFER_SYNTAXES).or_else(|| first_of(proposed, &LAST_RESORT))
}

fn first_of(proposed: &Proposed, known: &'static [&'static str]) -> Option<&'static str> {
    proposed.transfer_syntaxes().find_map(|uid| {
        let uid = name(&uid)?;
        known.iter().copied().find(|known| *known == uid)
    })
}

/// As for a presentation context, for an object that comes without one.
pub(crate) fn storable_class(uid: &str, unknown: UnknownSopClasses) -> bool {
    uid != uids::VERIFICATION && is_supported(uid, unknown)
}

/// As for a presentation context.
pub(crate) fn storable_syntax(uid: &str) -> Option<&'static str> {
    let known = TRANSFER_SYNTAXES.iter().chain(&LAST_RESORT);
    known.copied().find(|known| *known == uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloister_dimse::testing::{body, context, item};

    #[test]
    fn storage_classes_are_supported_and_commitment_never_is() {
        use UnknownSopClasses::{Accept, Refuse};
        for uid in [
            uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE,
            uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
            uids::CT_IMAGE_STORAGE,
            uids::VERIFICATION,
        ] {
            assert!(is_supported(uid, Refuse), "{uid}");
        }
        for uid in ["1.3.12.2.1107.5.9.1", "1.2.840.10008.5.1.4.1.1.999"] {
            assert!(
                !is_supported(uid, Refuse) && is_supported(uid, Accept),
                "{uid}"
            );
        }
        for uid in [
            uids::STORAGE_COMMITMENT_PUSH_MODEL,
            "1.2.840.10008.1.20.2",
            uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND,
            uids::MODALITY_PERFORMED_PROCEDURE_STEP,
            "1.2.x",
            "",
        ] {
            assert!(!is_supported(uid, Accept), "{uid}");
        }
    }

    #[test]
    fn the_senders_first_acceptable_syntax_is_taken_and_the_doubtful_ones_last() {
        for (proposed, chosen) in [
            (
                &[
                    "1.2.840.10008.1.2.4.110",
                    uids::JPEG2000,
                    uids::EXPLICIT_VR_LITTLE_ENDIAN,
                ][..],
                Some(uids::JPEG2000),
            ),
            (
                &[uids::HTJ2K, uids::IMPLICIT_VR_LITTLE_ENDIAN],
                Some(uids::IMPLICIT_VR_LITTLE_ENDIAN),
            ),
            (
                &["1.2.3", uids::JPEG_EXTENDED12_BIT],
                Some(uids::JPEG_EXTENDED12_BIT),
            ),
            (&["1.2.3"], None),
            (&[], None),
        ] {
            let items = [context(1, uids::CT_IMAGE_STORAGE, proposed)];
            let request = Request::parse(body(&[b'A'; 16], &[b'A'; 16], &items)).unwrap();
            assert_eq!(choose(&request.contexts[0]), chosen);
        }
    }

    #[test]
    fn titles_are_read_leniently_and_compared_strictly() {
        for (field, expected) in [
            (b"CT_1            ", Some("CT_1")),
            (b"  CT_1          ", Some("CT_1")),
            (b"CT_1\0\0\0\0\0\0\0\0\0\0\0\0", Some("CT_1")),
            (b"ct_1            ", Some("ct_1")),
            (b"CT\t1            ", None),
            (b"CT\\1            ", None),
            (b"CT\x001            ", None),
            (b"CT_\xC3\x84           ", None),
            (b"\xFFT_1            ", None),
            (b"                ", None),
            (b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", None),
        ] {
            assert_eq!(
                title(field).as_ref().map(AeTitle::as_str),
                expected,
                "{field:?}"
            );
        }
    }

    #[test]
    fn the_largest_request_gets_an_answer_that_its_reader_can_read() {
        let long = format!("1.2.840.10008.5.1.4.1.1.{}", "9".repeat(40));
        let contexts = (0..128).map(|n| {
            context(
                2 * n + 1,
                uids::CT_IMAGE_STORAGE,
                &[uids::EXPLICIT_VR_LITTLE_ENDIAN],
            )
        });
        let role = |class: &str| {
            let length = (class.len() as u16).to_be_bytes();
            item(0x54, &[&length[..], class.as_bytes(), &[1, 1]].concat())
        };
        let roles = [role(uids::CT_IMAGE_STORAGE), role(&long)]
            .concat()
            .repeat(400);
        let items: Vec<_> = contexts.chain([item(0x50, &roles)]).collect();
        let request = Request::parse(body(&[b'A'; 16], &[b'B'; 16], &items)).unwrap();
        let contexts = BTreeMap::from([(
            1,
            Context {
                abstract_syntax: uids::CT_IMAGE_STORAGE.to_owned(),
                transfer_syntax: uids::EXPLICIT_VR_LITTLE_ENDIAN,
            },
        )]);
        let results: Vec<_> = (0..128)
            .map(|n| (2 * n + 1, ACCEPTANCE, uids::EXPLICIT_VR_LITTLE_ENDIAN))
            .collect();
        let answer = acceptance(&request, &contexts, &results, 1 << 17, false);
        let read = dicom_ul::pdu::read_pdu(&answer[..], 1 << 17, true).unwrap();
        let Some(dicom_ul::pdu::Pdu::AssociationAC(read)) = read else {
            panic!("{read:?}")
        };
        assert_eq!(read.presentation_contexts.len(), 128);
    }
}
