//! Last step: manifest signed, capsule sealed to the recipients, and the cleared study handed to the
//! sidecar over mTLS until it says that the report is released. Before it stands `clear`; after it
//! this room has nothing left to do for the version.
//!
//! An attempt may be repeated at any time: the report id is the version's own, and the sidecar
//! answers a known id with the receipt it already gave.

use std::time::{Duration, Instant};

use cloister_audit::{Action, Actor, Event};
use cloister_phi::Pseudonym;
use cloister_proto::v1::report_service_client::ReportServiceClient;
use cloister_proto::v1::submit_study_request::Part;
use cloister_proto::v1::{self, object_chunk};
use cloister_proto::{MAX_CHUNK_BYTES, MAX_MESSAGE_BYTES, METADATA_RECIPIENT, METADATA_REPORT_ID};
use cloister_seal::{KeyId, RecipientPublicKey, directory::Directory};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Request, Status};
use uuid::Uuid;

use crate::clear::Cleared;
use crate::deidentify::Facts;
use crate::error::{Later, SpoolError};
use crate::keys::SecretKey;
use crate::metric::{self, Attempt, Step};
use crate::pipeline::Gateway;
use crate::quarantine::DeadReason;
use crate::spool::record::now_unix_ms;
use crate::spool::worklist::Version;
use crate::spool::{Id, Spool};

/// Manifest, capsule and identity format of this version.
const FORMAT: u32 = 1;
/// Chunks in flight between disk and socket.
const CHUNKS_AHEAD: usize = 4;

/// A study version, ready to go.
struct Parcel {
    head: v1::StudyHead,
    report: Uuid,
    pseudonym: Option<Pseudonym>,
    recipients: Vec<KeyId>,
}

/// One attempt. `Ok` means released; the audit trail says so.
pub(crate) async fn forward(
    gateway: &Gateway,
    study: Id,
    version: &Version,
    recipient: &str,
    cleared: Vec<Cleared>,
    withheld: u32,
) -> Result<(), Later> {
    let parcel = pack(gateway, version, recipient, &cleared, withheld)?;
    let count = cleared.len() as u32;
    let event = |action| {
        let event = Event::new(action).report(version.report).count(count);
        let event = event.recipients(parcel.recipients.iter().copied());
        match &parcel.pseudonym {
            Some(pseudonym) => event.study(pseudonym.clone()),
            None => event,
        }
    };
    record_once(
        gateway,
        event(Action::StudyCleared),
        Action::StudyCleared,
        version.report,
    )
    .await?;

    let started = Instant::now();
    let key = gateway.spool.fetch_study_key(study).await?;
    let submitted = submit(gateway, &parcel, recipient, cleared, key).await;
    metric::step(Step::Forward, started.elapsed());
    match submitted {
        Ok(()) => metric::attempt(Attempt::Accepted),
        Err(error) => {
            let unavailable = matches!(error, Later::Unavailable(_));
            metric::attempt(if unavailable {
                Attempt::Unavailable
            } else {
                Attempt::Refused
            });
            return Err(error);
        }
    }
    let sidecar = Actor::spiffe(&gateway.sidecar.identity.to_string()).map_err(|_| Later::Audit)?;
    let event = event(Action::StudyForwarded).actor(sidecar);
    record_once(gateway, event, Action::StudyForwarded, version.report).await
}

/// A repeated attempt leaves no second record.
async fn record_once(
    gateway: &Gateway,
    event: Event,
    action: Action,
    report: Uuid,
) -> Result<(), Later> {
    if gateway.audit.find(action, report).is_none() {
        gateway
            .audit
            .record(event)
            .await
            .map_err(|_| Later::Audit)?;
    }
    Ok(())
}

fn pack(
    gateway: &Gateway,
    version: &Version,
    recipient: &str,
    cleared: &[Cleared],
    withheld: u32,
) -> Result<Parcel, Later> {
    let first = cleared.first().ok_or(Later::Seal)?.facts();
    let keys = recipients(gateway, recipient)?;
    let capsule = capsule(version.report, cleared, first);
    let sealed =
        cloister_seal::capsule::seal_capsule(&capsule, version.report, &keys, &gateway.signing);
    let capsule = sealed.map_err(|_| Later::Seal)?.encode_to_vec();
    let key_ids: Vec<KeyId> = keys.iter().map(RecipientPublicKey::key_id).collect();
    let objects = cleared.iter().map(|object| v1::ManifestObject {
        sop_instance_uid: object.facts().pseudonymous_uid.clone(),
        cleared_sha256: object.object_sha256().to_vec(),
        rendition_sha256: object.rendition_sha256().to_vec(),
        redacted_boxes: object.redacted_boxes(),
    });
    let manifest = v1::StudyManifest {
        format: FORMAT,
        report_id: version.report.as_bytes().to_vec(),
        study_pseudonym: first.study_pseudonym.clone(),
        study_version: version.number,
        replaces: version
            .replaces
            .map(|id| id.as_bytes().to_vec())
            .unwrap_or_default(),
        objects: objects.collect(),
        withheld_objects: withheld,
        recipient_key_ids: key_ids.iter().map(|id| id.as_bytes().to_vec()).collect(),
        capsule_sha256: cloister_seal::capsule::hash(&capsule).to_vec(),
        issued_at_unix_ms: now_unix_ms(),
    };
    let known = |value: fn(&Facts) -> i32| {
        cleared
            .iter()
            .map(|object| value(object.facts()))
            .find(|value| *value != 0)
    };
    let head = v1::StudyHead {
        manifest: Some(cloister_seal::manifest::sign(&manifest, &gateway.signing)),
        capsule,
        patient: Some(v1::PatientContext {
            age_band: known(|facts| facts.age_band).unwrap_or(0),
            sex: known(|facts| facts.sex).unwrap_or(0),
        }),
        imaging: Some(v1::ImagingContext {
            view: first.view,
            has_priors: None,
        }),
        query: gateway.study.query.clone(),
        urgency: gateway.study.urgency.into(),
    };
    let pseudonym = Pseudonym::parse(&first.study_pseudonym).ok();
    Ok(Parcel {
        head,
        report: version.report,
        pseudonym,
        recipients: key_ids,
    })
}

/// Keys of the recipient, from the directory as it is now: every entry is verified again.
fn recipients(gateway: &Gateway, recipient: &str) -> Result<Vec<RecipientPublicKey>, Later> {
    let directory = Directory::load(&gateway.directory_file, &gateway.enrolment);
    let directory = directory.map_err(|error| {
        tracing::error!(%error, "The recipient directory cannot be used.");
        Later::Directory
    })?;
    let keys = directory.resolve(recipient).map_err(|error| {
        tracing::error!(%error, recipient, "The recipient has no valid key.");
        Later::Directory
    })?;
    if keys.is_empty() {
        Err(Later::Directory)
    } else {
        Ok(keys)
    }
}

fn capsule(report: Uuid, cleared: &[Cleared], first: &Facts) -> v1::IdentityCapsule {
    let objects = cleared.iter().map(|object| v1::CapsuleObject {
        sop_instance_uid: object.facts().pseudonymous_uid.clone(),
        original_sop_instance_uid: object.facts().sop_uid.clone(),
        original_sop_class_uid: object.facts().sop_class.clone(),
        original_series_instance_uid: object.facts().series_uid.clone(),
    });
    v1::IdentityCapsule {
        format: FORMAT,
        report_id: report.as_bytes().to_vec(),
        patient_name: first.patient_name.clone(),
        patient_id: first.patient_id.clone(),
        issuer_of_patient_id: first.issuer.clone(),
        birth_date: first.birth_date.clone(),
        sex: first.patient_sex.clone(),
        accession_number: first.accession.clone(),
        original_study_instance_uid: first.study_uid.clone(),
        study_date: first.study_date.clone(),
        study_time: first.study_time.clone(),
        referring_physician: first.referring.clone(),
        study_pseudonym: first.study_pseudonym.clone(),
        objects: objects.collect(),
    }
}

async fn submit(
    gateway: &Gateway,
    parcel: &Parcel,
    recipient: &str,
    cleared: Vec<Cleared>,
    key: SecretKey,
) -> Result<(), Later> {
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    let (spool, head) = (gateway.spool.clone(), parcel.head.clone());
    let reading = tokio::task::spawn_blocking(move || read(&spool, head, &cleared, &key, &sender));

    let mut request = Request::new(ReceiverStream::new(receiver));
    request.set_timeout(gateway.sidecar.deadline);
    let ascii = |text: &str| MetadataValue::<Ascii>::try_from(text).map_err(|_| Later::Directory);
    request
        .metadata_mut()
        .insert(METADATA_REPORT_ID, ascii(&parcel.report.to_string())?);
    request
        .metadata_mut()
        .append(METADATA_RECIPIENT, ascii(recipient)?);
    let mut client = ReportServiceClient::new(gateway.channel.clone())
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    // The sidecar's own answer should come first; this is for one that does not answer at all.
    let limit = gateway.sidecar.deadline + Duration::from_secs(5);
    let answered = tokio::time::timeout(limit, client.submit_study(request)).await;
    let read = reading.await.map_err(|_| Later::Stopping)?;
    let response = match answered {
        Err(_) => return Err(Later::Unavailable(Code::DeadlineExceeded)),
        Ok(Err(status)) => {
            // A file that cannot be read ends the stream early; that is the cause then.
            read?;
            return Err(refusal(&status));
        }
        Ok(Ok(response)) => response.into_inner(),
    };
    // Accepted means released, and a release has a receipt for this very report.
    let receipt = response
        .receipt
        .filter(|receipt| receipt.report_id == parcel.report.as_bytes());
    receipt.map(|_| ()).ok_or(Later::Refused(Code::DataLoss))
}

fn refusal(status: &Status) -> Later {
    match status.code() {
        code @ (Code::Unavailable
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Cancelled
        | Code::Unknown
        | Code::Internal) => Later::Unavailable(code),
        // About the study itself: the same bytes get the same answer.
        Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::AlreadyExists => Later::Never(DeadReason::Refused),
        // About certificates, directories and versions, which somebody may mend.
        code => Later::Refused(code),
    }
}

/// Head, then for each object its bytes and its rendition's, in pieces. Ends quietly when nobody
/// listens any more.
fn read(
    spool: &Spool,
    head: v1::StudyHead,
    cleared: &[Cleared],
    key: &SecretKey,
    sender: &mpsc::Sender<v1::SubmitStudyRequest>,
) -> Result<(), SpoolError> {
    let send = |part| {
        sender
            .blocking_send(v1::SubmitStudyRequest { part: Some(part) })
            .is_ok()
    };
    if !send(Part::Head(head)) {
        return Ok(());
    }
    for (index, object) in cleared.iter().enumerate() {
        let mut reader = object.read(spool, key)?;
        let mut left = object.object_bytes();
        let mut chunks = Chunks {
            object_index: index as u32,
            part: object_chunk::Part::Object,
            data: Vec::new(),
        };
        while let Some(plain) = reader.next_chunk()? {
            let cut = usize::try_from(left).unwrap_or(usize::MAX).min(plain.len());
            let (of_object, of_rendition) = plain.split_at(cut);
            left -= cut as u64;
            if !chunks.push(of_object, &send) {
                return Ok(());
            }
            if left == 0 && !(chunks.turn(&send) && chunks.push(of_rendition, &send)) {
                return Ok(());
            }
        }
        if !chunks.flush(&send) {
            return Ok(());
        }
    }
    Ok(())
}

/// Gathers small reads into chunks of the wire's size.
struct Chunks {
    object_index: u32,
    part: object_chunk::Part,
    data: Vec<u8>,
}

impl Chunks {
    /// False when nobody listens.
    fn push(&mut self, mut bytes: &[u8], send: &impl Fn(Part) -> bool) -> bool {
        while !bytes.is_empty() {
            let room = MAX_CHUNK_BYTES - self.data.len();
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.data.extend_from_slice(now);
            bytes = later;
            if self.data.len() == MAX_CHUNK_BYTES && !self.flush(send) {
                return false;
            }
        }
        true
    }

    fn flush(&mut self, send: &impl Fn(Part) -> bool) -> bool {
        if self.data.is_empty() {
            return true;
        }
        let data = std::mem::take(&mut self.data);
        send(Part::Chunk(v1::ObjectChunk {
            object_index: self.object_index,
            part: self.part.into(),
            data: data.into(),
        }))
    }

    /// The object is complete; its rendition follows.
    fn turn(&mut self, send: &impl Fn(Part) -> bool) -> bool {
        if self.part == object_chunk::Part::Rendition {
            return true;
        }
        let sent = self.flush(send);
        self.part = object_chunk::Part::Rendition;
        sent
    }
}
