//! First step: what came over the socket is complete, bounded, and what the gateway signed. Before
//! it: `grpc`. After it: `clean`.

mod study;

use bytes::Bytes;
use cloister_proto::{METADATA_REPORT_ID, v1};
use cloister_seal::manifest::VerifiedManifest;
use prost::Message;
use uuid::Uuid;

use crate::error::Fault;

pub(crate) use study::StudyReceiver;

/// Upper bounds of one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Films of one `Generate`, or objects of one study.
    pub(crate) films: usize,
    /// One film or cleared object.
    pub(crate) object_bytes: u64,
    /// One rendition.
    pub(crate) rendition_bytes: usize,
    /// All renditions of a study together.
    pub(crate) renditions_bytes: usize,
    /// A query; longer ones are refused by `screen`, much longer ones not even read.
    pub(crate) query_bytes: usize,
    /// A capsule.
    pub(crate) capsule_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            films: 64,
            object_bytes: 512 << 20,
            rendition_bytes: 8 << 20,
            renditions_bytes: 48 << 20,
            query_bytes: 64 << 10,
            capsule_bytes: 1 << 20,
        }
    }
}

/// How a film came by `Generate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MediaType {
    Dicom,
    Picture,
}

/// A rendition whose hash stands in the gateway's manifest.
#[derive(Debug)]
pub(crate) struct ClearedRendition {
    pub(crate) sop_instance_uid: String,
    pub(crate) png: Vec<u8>,
}

/// Where the films come from, which decides what `clean` has to do.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one per request, and moved a handful of times"
)]
pub(crate) enum Films {
    /// Films as an EHR sent them: identifiers and all.
    Raw(Vec<(MediaType, Bytes)>),
    /// What the gateway cleared, hashed against its manifest.
    Cleared {
        manifest: VerifiedManifest,
        signed: v1::SignedManifest,
        renditions: Vec<ClearedRendition>,
    },
}

/// An admitted request.
#[derive(Debug)]
pub(crate) struct Submitted {
    pub(super) report_id: Uuid,
    pub(super) films: Films,
    pub(super) query: String,
    pub(super) urgency: v1::Urgency,
    pub(super) patient: v1::PatientContext,
    pub(super) imaging: v1::ImagingContext,
    pub(super) capsule: Vec<u8>,
}

/// Admits a `Generate` request.
pub(crate) fn admit_generate(
    report_id: Uuid,
    request: v1::GenerateRequest,
    limits: &Limits,
) -> Result<Submitted, Fault> {
    let urgency = v1::Urgency::try_from(request.urgency).map_err(|_| Fault::BadField("urgency"))?;
    let (patient, imaging) = context(request.patient, request.imaging)?;
    if request.films.is_empty() {
        return Err(Fault::BadField("films"));
    }
    if request.films.len() > limits.films {
        return Err(Fault::TooLarge("films"));
    }
    bounded(request.query.len(), limits.query_bytes, "query")?;
    bounded(request.capsule.len(), limits.capsule_bytes, "capsule")?;
    if !request.capsule.is_empty() {
        capsule_is_for(&request.capsule, report_id)?;
    }
    let films = request
        .films
        .into_iter()
        .map(|film| {
            let media = match film.media_type.as_str() {
                "application/dicom" => MediaType::Dicom,
                "image/png" | "image/jpeg" => MediaType::Picture,
                _ => return Err(Fault::BadField("films.media_type")),
            };
            if film.data.is_empty() {
                return Err(Fault::BadField("films.data"));
            }
            if film.data.len() as u64 > limits.object_bytes {
                return Err(Fault::TooLarge("films.data"));
            }
            Ok((media, film.data))
        })
        .collect::<Result<_, _>>()?;
    Ok(Submitted {
        report_id,
        films: Films::Raw(films),
        query: request.query,
        urgency,
        patient,
        imaging,
        capsule: request.capsule,
    })
}

/// The report id of a request: a UUID in its metadata, chosen by the caller.
pub(crate) fn report_id(metadata: &tonic::metadata::MetadataMap) -> Result<Uuid, Fault> {
    let bad = Fault::BadField(METADATA_REPORT_ID);
    let text = metadata
        .get(METADATA_REPORT_ID)
        .ok_or(bad)?
        .to_str()
        .map_err(|_| bad)?;
    let id = Uuid::try_parse(text).map_err(|_| bad)?;
    if id.is_nil() { Err(bad) } else { Ok(id) }
}

/// Enum numbers from a newer or hostile client must not reach a later step.
pub(crate) fn context(
    patient: Option<v1::PatientContext>,
    imaging: Option<v1::ImagingContext>,
) -> Result<(v1::PatientContext, v1::ImagingContext), Fault> {
    let (patient, imaging) = (patient.unwrap_or_default(), imaging.unwrap_or_default());
    v1::AgeBand::try_from(patient.age_band).map_err(|_| Fault::BadField("patient.age_band"))?;
    v1::Sex::try_from(patient.sex).map_err(|_| Fault::BadField("patient.sex"))?;
    v1::View::try_from(imaging.view).map_err(|_| Fault::BadField("imaging.view"))?;
    Ok((patient, imaging))
}

fn bounded(len: usize, max: usize, field: &'static str) -> Result<(), Fault> {
    if len > max {
        Err(Fault::TooLarge(field))
    } else {
        Ok(())
    }
}

/// A capsule names its report in its clear header. Its seal is opened and its signature checked by
/// the clinician's program; here only a capsule for another report is turned away.
fn capsule_is_for(capsule: &[u8], report_id: Uuid) -> Result<(), Fault> {
    let malformed = |_| Fault::BadField("capsule");
    let sealed = v1::SealedReport::decode(capsule).map_err(malformed)?;
    let header = v1::EnvelopeHeader::decode(sealed.header.as_slice()).map_err(malformed)?;
    if header.content() != v1::Content::Capsule {
        return Err(Fault::BadField("capsule"));
    }
    if header.report_id == report_id.as_bytes() {
        Ok(())
    } else {
        Err(Fault::ReportIdMismatch)
    }
}
