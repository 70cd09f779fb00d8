//! A-ASSOCIATE-RQ → AC or RJ (PS3.8 section 7.1.1 and table 9-21).

use std::collections::BTreeMap;

use cloister_audit::Reason;
use cloister_phi::AeTitle;
use dicom_dictionary_std::uids;
use dicom_ul::pdu::{
    AssociationAC, AssociationRJ, AssociationRJResult,
    AssociationRJServiceProviderASCEReason as Acse, AssociationRJServiceUserReason as User,
    AssociationRJSource, AssociationRQ, PresentationContextResult,
    PresentationContextResultReason as Answer, UserVariableItem,
};

use super::storage_classes::STORAGE_CLASSES;
use crate::config::ReceiveConfig;

/// The one application context there is (PS3.7 annex A).
const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";
const IMPLEMENTATION_CLASS: &str = "2.25.193275810046512839165274839201746583920";
const IMPLEMENTATION_VERSION: &str = concat!(
    "CLOISTER_",
    env!("CARGO_PKG_VERSION_MAJOR"),
    "_",
    env!("CARGO_PKG_VERSION_MINOR")
);
/// Everything that `redact` can decode.
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
    pub(crate) contexts: BTreeMap<u8, Context>,
    pub(crate) answer: AssociationAC,
}

/// A refused one.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) answer: AssociationRJ,
    pub(crate) reason: Reason,
}

/// Decides.
pub(crate) fn negotiate(
    request: &AssociationRQ,
    config: &ReceiveConfig,
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
    if request
        .application_context_name
        .trim_end_matches(['\0', ' '])
        != APPLICATION_CONTEXT
    {
        return Err(user(
            User::ApplicationContextNameNotSupported,
            Reason::BadPdu,
        ));
    }
    if !AeTitle::parse(&request.called_ae_title).is_ok_and(|called| config.called.contains(&called))
    {
        return Err(user(
            User::CalledAETitleNotRecognized,
            Reason::CalledAeTitle,
        ));
    }
    let calling = AeTitle::parse(&request.calling_ae_title).ok();
    let calling =
        calling.filter(|calling| config.calling.is_empty() || config.calling.contains(calling));
    let Some(calling) = calling else {
        return Err(user(
            User::CallingAETitleNotRecognized,
            Reason::CallingAeTitle,
        ));
    };

    let mut contexts = BTreeMap::new();
    let mut results = Vec::new();
    for proposed in &request.presentation_contexts {
        let abstract_syntax = proposed.abstract_syntax.trim_end_matches(['\0', ' ']);
        let chosen = if is_supported(abstract_syntax) {
            choose(&proposed.transfer_syntaxes).ok_or(Answer::TransferSyntaxesNotSupported)
        } else {
            Err(Answer::AbstractSyntaxNotSupported)
        };
        let (reason, transfer_syntax) = match chosen {
            Ok(chosen) => {
                let context = Context {
                    abstract_syntax: abstract_syntax.to_owned(),
                    transfer_syntax: chosen,
                };
                contexts.insert(proposed.id, context);
                (Answer::Acceptance, chosen)
            }
            // Not significant then, but present (PS3.8 table 9-18).
            Err(reason) => (reason, uids::IMPLICIT_VR_LITTLE_ENDIAN),
        };
        results.push(PresentationContextResult {
            id: proposed.id,
            reason,
            transfer_syntax: transfer_syntax.to_owned(),
        });
    }
    let answer = AssociationAC {
        protocol_version: 1,
        calling_ae_title: request.calling_ae_title.clone(),
        called_ae_title: request.called_ae_title.clone(),
        application_context_name: APPLICATION_CONTEXT.to_owned(),
        presentation_contexts: results,
        user_variables: vec![
            UserVariableItem::MaxLength(config.max_pdu_bytes),
            UserVariableItem::ImplementationClassUID(IMPLEMENTATION_CLASS.to_owned()),
            UserVariableItem::ImplementationVersionName(IMPLEMENTATION_VERSION.to_owned()),
        ],
    };
    Ok(Negotiated {
        calling,
        contexts,
        answer,
    })
}

pub(crate) fn rejection(source: AssociationRJSource) -> AssociationRJ {
    AssociationRJ {
        result: AssociationRJResult::Permanent,
        source,
    }
}

/// Verification, and the storage SOP classes of the standard (PS3.4 annex B.5).
fn is_supported(abstract_syntax: &str) -> bool {
    abstract_syntax == uids::VERIFICATION || STORAGE_CLASSES.contains(&abstract_syntax)
}

/// The sender's first choice that we can decode.
fn choose(proposed: &[String]) -> Option<&'static str> {
    proposed.iter().find_map(|uid| {
        let uid = uid.trim_end_matches(['\0', ' ']);
        TRANSFER_SYNTAXES.into_iter().find(|known| *known == uid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_classes_are_supported_and_commitment_is_not() {
        for uid in [
            uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE,
            uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
            uids::CT_IMAGE_STORAGE,
            uids::VERIFICATION,
        ] {
            assert!(is_supported(uid), "{uid}");
        }
        for uid in [
            uids::STORAGE_COMMITMENT_PUSH_MODEL,
            "1.2.840.10008.5.1.4.1.2.1.1",
            "1.2.3",
            "",
        ] {
            assert!(!is_supported(uid), "{uid}");
        }
    }

    #[test]
    fn the_senders_first_acceptable_syntax_is_taken() {
        let proposed = [
            "1.2.840.10008.1.2.4.110",
            uids::JPEG2000,
            uids::EXPLICIT_VR_LITTLE_ENDIAN,
        ]
        .map(str::to_owned);
        assert_eq!(choose(&proposed), Some(uids::JPEG2000));
        assert_eq!(choose(&["1.2.3".to_owned()]), None);
    }
}
