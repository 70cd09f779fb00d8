//! The study manifest: what the gateway cleared, signed once.

use std::collections::BTreeSet;
use std::ops::Deref;

use cloister_proto::v1::{SignedManifest, StudyManifest};
use prost::Message;

use crate::sha256;
use crate::signature::{SigningKey, VerifyingKey, frame};

const DOMAIN: &str = "cloister-manifest-v1";
/// Format number written into manifests.
pub const FORMAT: u32 = 1;

/// The manifest is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Signed by a key that is not pinned.
    #[error("manifest signed by an unknown key")]
    UnknownSigner,
    /// The signature does not fit.
    #[error("the manifest's signature does not verify")]
    Signature,
    /// Well signed, but not a manifest of this version.
    #[error("malformed manifest")]
    Malformed,
}

/// A manifest whose signature and form were checked. Only [`verify`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedManifest(StudyManifest);

impl Deref for VerifiedManifest {
    type Target = StudyManifest;

    fn deref(&self) -> &StudyManifest {
        &self.0
    }
}

/// Serializes and signs `manifest`; its format is set here.
pub fn sign(manifest: &StudyManifest, key: &SigningKey) -> SignedManifest {
    let manifest = StudyManifest {
        format: FORMAT,
        ..manifest.clone()
    }
    .encode_to_vec();
    let signature = key.sign(DOMAIN, &[&manifest]);
    SignedManifest {
        manifest,
        signature,
        signer_key_id: key.verifying_key().key_id().to_vec(),
    }
}

/// Checks signature and form.
///
/// # Errors
/// [`ManifestError`].
pub fn verify(
    signed: &SignedManifest,
    keys: &[VerifyingKey],
) -> Result<VerifiedManifest, ManifestError> {
    let key = keys
        .iter()
        .find(|key| key.key_id()[..] == signed.signer_key_id)
        .ok_or(ManifestError::UnknownSigner)?;
    key.verify(DOMAIN, &[&signed.manifest], &signed.signature)
        .map_err(|_| ManifestError::Signature)?;
    let manifest =
        StudyManifest::decode(&signed.manifest[..]).map_err(|_| ManifestError::Malformed)?;
    if is_well_formed(&manifest) {
        Ok(VerifiedManifest(manifest))
    } else {
        Err(ManifestError::Malformed)
    }
}

fn is_well_formed(manifest: &StudyManifest) -> bool {
    let names: BTreeSet<_> = manifest
        .objects
        .iter()
        .map(|object| object.sop_instance_uid.as_str())
        .collect();
    manifest.format == FORMAT
        && manifest.report_id.len() == 16
        && matches!(manifest.replaces.len(), 0 | 16)
        && matches!(manifest.capsule_sha256.len(), 0 | 32)
        && manifest.recipient_key_ids.iter().all(|id| id.len() == 16)
        && names.len() == manifest.objects.len()
        && manifest
            .objects
            .iter()
            .all(|object| object.cleared_sha256.len() == 32 && object.rendition_sha256.len() == 32)
}

/// SHA-256 over manifest, signature and signer: the binding in the envelope's header.
pub fn hash(signed: &SignedManifest) -> [u8; 32] {
    let mut bytes = Vec::new();
    frame(
        &[&signed.manifest, &signed.signature, &signed.signer_key_id],
        &mut bytes,
    );
    sha256(&bytes)
}

#[cfg(test)]
mod tests {
    use cloister_proto::v1::ManifestObject;

    use super::*;

    fn manifest() -> StudyManifest {
        let object = |uid: &str| ManifestObject {
            sop_instance_uid: uid.into(),
            cleared_sha256: vec![1; 32],
            rendition_sha256: vec![2; 32],
            redacted_boxes: 0,
        };
        StudyManifest {
            report_id: vec![3; 16],
            objects: vec![object("2.25.1"), object("2.25.2")],
            recipient_key_ids: vec![vec![4; 16]],
            ..StudyManifest::default()
        }
    }

    #[test]
    fn a_signed_manifest_verifies_and_no_flipped_bit_does() {
        let key = SigningKey::generate().unwrap();
        let keys = [
            SigningKey::generate().unwrap().verifying_key(),
            key.verifying_key(),
        ];
        let signed = sign(&manifest(), &key);
        assert_eq!(verify(&signed, &keys).unwrap().objects.len(), 2);
        let bytes = signed.encode_to_vec();
        for bit in 0..bytes.len() * 8 {
            let mut altered = bytes.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            let Ok(altered) = SignedManifest::decode(&altered[..]) else {
                continue;
            };
            assert!(verify(&altered, &keys).is_err(), "bit {bit}");
            assert_ne!(hash(&altered), hash(&signed));
        }
        assert_eq!(
            verify(&signed, &keys[..1]),
            Err(ManifestError::UnknownSigner)
        );
    }

    #[test]
    fn a_well_signed_but_malformed_manifest_is_refused() {
        let key = SigningKey::generate().unwrap();
        let alter: [fn(&mut StudyManifest); 5] = [
            |m| m.report_id = vec![1; 15],
            |m| m.replaces = vec![1; 3],
            |m| m.objects[0].rendition_sha256.clear(),
            |m| m.objects[1].sop_instance_uid = "2.25.1".into(),
            |m| m.recipient_key_ids.push(vec![]),
        ];
        for alter in alter {
            let mut manifest = manifest();
            alter(&mut manifest);
            let signed = sign(&manifest, &key);
            assert_eq!(
                verify(&signed, &[key.verifying_key()]),
                Err(ManifestError::Malformed)
            );
        }
    }
}
