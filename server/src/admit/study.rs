//! A study from the gateway, chunk by chunk. Cleared objects are hashed and forgotten; only their
//! renditions are kept, because only they go to the model and into the report.

use cloister_proto::{MAX_CHUNK_BYTES, v1};
use cloister_seal::{VerifyingKey, manifest};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{ClearedRendition, Films, Limits, Submitted, bounded, capsule_is_for, context};
use crate::error::Fault;

/// Largest serialized manifest, in bytes.
const MAX_MANIFEST_BYTES: usize = 1 << 20;

/// Receives one study.
#[derive(Debug)]
pub(crate) struct StudyReceiver {
    limits: Limits,
    submitted: Submitted,
    expected: Vec<v1::ManifestObject>,
    hasher: Sha256,
    /// Chunks arrive in this order: object, rendition, next object, …
    at: Option<(usize, v1::object_chunk::Part)>,
    part_bytes: u64,
    renditions: Vec<Vec<u8>>,
    renditions_bytes: usize,
}

impl StudyReceiver {
    /// Takes the head: signature, report id and capsule are checked before a chunk is read.
    pub(crate) fn start(
        report_id: Uuid,
        head: v1::StudyHead,
        keys: &[VerifyingKey],
        limits: Limits,
    ) -> Result<Self, Fault> {
        let signed = head.manifest.ok_or(Fault::BadField("head.manifest"))?;
        bounded(signed.manifest.len(), MAX_MANIFEST_BYTES, "head.manifest")?;
        bounded(head.capsule.len(), limits.capsule_bytes, "head.capsule")?;
        bounded(head.query.len(), limits.query_bytes, "head.query")?;
        let verified = manifest::verify(&signed, keys).map_err(|_| Fault::ManifestUntrusted)?;
        if verified.report_id != report_id.as_bytes() {
            return Err(Fault::ReportIdMismatch);
        }
        if head.capsule.is_empty()
            || Sha256::digest(&head.capsule).as_slice() != verified.capsule_sha256
        {
            return Err(Fault::CapsuleMismatch);
        }
        capsule_is_for(&head.capsule, report_id)?;
        if verified.objects.is_empty() {
            return Err(Fault::BadField("head.manifest.objects"));
        }
        if verified.objects.len() > limits.films {
            return Err(Fault::TooLarge("head.manifest.objects"));
        }
        let urgency =
            v1::Urgency::try_from(head.urgency).map_err(|_| Fault::BadField("head.urgency"))?;
        let (patient, imaging) = context(head.patient, head.imaging)?;
        let expected = verified.objects.clone();
        let films = Films::Cleared {
            manifest: verified,
            signed,
            renditions: Vec::new(),
        };
        let submitted = Submitted {
            report_id,
            films,
            query: head.query,
            urgency,
            patient,
            imaging,
            capsule: head.capsule,
        };
        Ok(Self {
            limits,
            submitted,
            expected,
            hasher: Sha256::new(),
            at: None,
            part_bytes: 0,
            renditions: Vec::new(),
            renditions_bytes: 0,
        })
    }

    /// Takes one chunk.
    pub(crate) fn chunk(&mut self, chunk: &v1::ObjectChunk) -> Result<(), Fault> {
        use v1::object_chunk::Part;
        if chunk.data.is_empty() {
            return Err(Fault::BadField("chunk.data"));
        }
        bounded(chunk.data.len(), MAX_CHUNK_BYTES, "chunk.data")?;
        let part = chunk.part();
        if part == Part::Unspecified {
            return Err(Fault::BadField("chunk.part"));
        }
        let place = (chunk.object_index as usize, part);
        if self.at != Some(place) {
            let next = match self.at {
                None => (0, Part::Object),
                Some((index, Part::Object)) => (index, Part::Rendition),
                Some((index, _)) => (index + 1, Part::Object),
            };
            if place != next || place.0 >= self.expected.len() {
                return Err(Fault::ChunkOrder);
            }
            self.finish_part()?;
            self.at = Some(place);
            if part == Part::Rendition {
                self.renditions.push(Vec::new());
            }
        }
        self.part_bytes += chunk.data.len() as u64;
        if part == Part::Rendition {
            bounded(
                self.part_bytes as usize,
                self.limits.rendition_bytes,
                "chunk.data",
            )?;
            self.renditions_bytes += chunk.data.len();
            bounded(
                self.renditions_bytes,
                self.limits.renditions_bytes,
                "chunk.data",
            )?;
            if let Some(rendition) = self.renditions.last_mut() {
                rendition.extend_from_slice(&chunk.data);
            }
        } else if self.part_bytes > self.limits.object_bytes {
            return Err(Fault::TooLarge("chunk.data"));
        }
        self.hasher.update(&chunk.data);
        Ok(())
    }

    /// Ends the stream: everything the manifest names has arrived and hashes to it.
    pub(crate) fn finish(mut self) -> Result<Submitted, Fault> {
        use v1::object_chunk::Part;
        self.finish_part()?;
        let complete =
            matches!(self.at, Some((index, Part::Rendition)) if index + 1 == self.expected.len());
        if !complete || self.renditions.len() != self.expected.len() {
            return Err(Fault::ObjectMissing);
        }
        if let Films::Cleared { renditions, .. } = &mut self.submitted.films {
            *renditions = self
                .expected
                .into_iter()
                .zip(self.renditions)
                .map(|(object, png)| ClearedRendition {
                    sop_instance_uid: object.sop_instance_uid,
                    png,
                })
                .collect();
        }
        Ok(self.submitted)
    }

    /// Compares the part that just ended with the manifest.
    fn finish_part(&mut self) -> Result<(), Fault> {
        let Some((index, part)) = self.at else {
            return Ok(());
        };
        let object = self.expected.get(index).ok_or(Fault::ChunkOrder)?;
        let expected = match part {
            v1::object_chunk::Part::Object => &object.cleared_sha256,
            _ => &object.rendition_sha256,
        };
        self.part_bytes = 0;
        if self.hasher.finalize_reset().as_slice() == expected.as_slice() {
            Ok(())
        } else {
            Err(Fault::HashMismatch)
        }
    }
}
