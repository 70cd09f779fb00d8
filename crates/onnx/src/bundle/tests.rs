use std::path::Path;

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{EncodePrivateKey, EncodePublicKey};
use sha2::{Digest, Sha256};

use super::Bundle;
use crate::error::BundleError;
use crate::trust::{TrustedHashes, sign};

/// A bundle of one file; answers with the hash of its `bundle.toml`.
fn write_bundle(dir: &Path, content: &[u8]) -> [u8; 32] {
    std::fs::write(dir.join("model.onnx"), content).unwrap();
    let text = format!(
        "name = 'a'\nversion = '1'\nkind = 'report'\n[[file]]\npath = 'model.onnx'\nsha256 = '{}'\n",
        hex::encode(Sha256::digest(content))
    );
    std::fs::write(dir.join("bundle.toml"), &text).unwrap();
    Sha256::digest(&text).into()
}

fn trusting(hash: &[u8; 32]) -> TrustedHashes {
    TrustedHashes::default()
        .with_hash(&hex::encode(hash))
        .unwrap()
}

#[test]
fn a_bundle_trusted_by_hash_loads_and_gives_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let hash = write_bundle(dir.path(), b"graph");
    let bundle = Bundle::load(dir.path(), &trusting(&hash)).unwrap();
    assert_eq!(bundle.read("model.onnx").unwrap(), b"graph");
    assert_eq!(bundle.sha256(), &hash);
}

#[test]
fn an_unknown_bundle_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    write_bundle(dir.path(), b"graph");
    let trust = TrustedHashes::compiled_in().unwrap();
    assert!(matches!(
        Bundle::load(dir.path(), &trust),
        Err(BundleError::Untrusted { .. })
    ));
    assert!(Bundle::inspect(dir.path()).is_ok());
}

#[test]
fn one_altered_byte_is_refused_at_load_and_at_read() {
    let dir = tempfile::tempdir().unwrap();
    let hash = write_bundle(dir.path(), b"graph");
    let loaded = Bundle::load(dir.path(), &trusting(&hash)).unwrap();
    std::fs::write(dir.path().join("model.onnx"), b"grapj").unwrap();
    assert!(matches!(
        Bundle::load(dir.path(), &trusting(&hash)),
        Err(BundleError::Altered { .. })
    ));
    assert!(matches!(
        loaded.read("model.onnx"),
        Err(BundleError::Altered { .. })
    ));
}

#[test]
fn a_signature_by_a_trusted_key_is_enough_and_by_any_other_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let hash = write_bundle(dir.path(), b"graph");
    let (ours, other) = (
        SigningKey::from_bytes(&[1; 32]),
        SigningKey::from_bytes(&[2; 32]),
    );
    let pem = ours
        .verifying_key()
        .to_public_key_pem(LineEnding::LF)
        .unwrap();
    let trust = TrustedHashes::default().with_key_pem(&pem).unwrap();
    let put = |key: &SigningKey| {
        let pem = key.to_pkcs8_pem(LineEnding::LF).unwrap();
        let signature = sign(&hash, &pem).unwrap();
        std::fs::write(dir.path().join("bundle.sig"), signature).unwrap();
    };
    put(&other);
    assert!(matches!(
        Bundle::load(dir.path(), &trust),
        Err(BundleError::Untrusted { .. })
    ));
    put(&ours);
    assert!(Bundle::load(dir.path(), &trust).is_ok());
    // The signature is for this bundle.toml and no other.
    write_bundle(dir.path(), b"another graph");
    assert!(matches!(
        Bundle::load(dir.path(), &trust),
        Err(BundleError::Untrusted { .. })
    ));
    assert!(sign(&hash, &pem).is_err(), "a public key signs nothing");
}

#[test]
fn a_file_with_a_source_that_was_never_fetched_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "name = 'a'\nversion = '1'\nkind = 'text-detector'\n[[file]]\npath = 'det.onnx'\nsha256 = '{}'\nsource = 'pypi:x==1!det.onnx'\n",
        "0".repeat(64)
    );
    std::fs::write(dir.path().join("bundle.toml"), &text).unwrap();
    assert!(matches!(
        Bundle::inspect(dir.path()),
        Err(BundleError::NotFetched { .. })
    ));
}
