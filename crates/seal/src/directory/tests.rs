use super::*;
use crate::{RecipientPrivateKey, Suite};

const ALICE: &str = "spiffe://hospital.example/clinician/alice";
const BOB: &str = "spiffe://hospital.example/clinician/bob";

struct Site {
    dir: tempfile::TempDir,
    enrol: SigningKey,
}

impl Site {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            enrol: SigningKey::generate().unwrap(),
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("directory.jsonl")
    }

    fn enrol(&self, identity: &str, key: &RecipientPublicKey, valid: std::ops::Range<i64>) {
        let entry = DirectoryEntry {
            identity: identity.into(),
            suite: key.suite().into(),
            public_key: key.to_bytes(),
            groups: vec!["radiology".into()],
            not_before_unix_ms: valid.start,
            not_after_unix_ms: valid.end,
            ..DirectoryEntry::default()
        };
        append_file(&self.path(), &sign_entry(&entry, &self.enrol)).unwrap();
    }

    fn load(&self) -> Result<Directory, DirectoryError> {
        Directory::load(&self.path(), &self.enrol.verifying_key())
    }
}

fn key() -> RecipientPublicKey {
    RecipientPrivateKey::generate(Suite::HpkeX25519)
        .unwrap()
        .public()
}

#[test]
fn resolves_identities_and_groups_to_valid_keys_only() {
    let site = Site::new();
    let (alice, alice_next, bob) = (key(), key(), key());
    site.enrol(ALICE, &alice, 0..1000);
    site.enrol(ALICE, &alice_next, 900..2000);
    site.enrol(BOB, &bob, 0..800);
    let directory = site.load().unwrap();
    assert_eq!(directory.entries().len(), 3);
    let resolve = |recipient, now| directory.resolve_at(recipient, now);
    assert_eq!(resolve(ALICE, 600).unwrap(), vec![alice.clone()]);
    assert_eq!(
        resolve(ALICE, 950).unwrap(),
        [alice.clone(), alice_next.clone()]
    );
    assert_eq!(
        resolve("group:radiology", 600).unwrap(),
        [alice, bob.clone()]
    );
    assert!(matches!(resolve(BOB, 800), Err(DirectoryError::Expired)));
    assert!(matches!(
        resolve("group:surgery", 600),
        Err(DirectoryError::Unknown)
    ));
    assert!(matches!(
        resolve("radiology", 600),
        Err(DirectoryError::Unknown)
    ));
    assert_eq!(directory.by_key_id(bob.key_id()).unwrap().identity(), BOB);
    assert!(
        matches!(directory.resolve(ALICE), Err(DirectoryError::Expired)),
        "real clock"
    );
}

#[test]
fn a_renewed_entry_replaces_the_old_one_and_a_key_of_two_identities_is_refused() {
    let site = Site::new();
    let key = key();
    site.enrol(ALICE, &key, 0..600);
    site.enrol(ALICE, &key, 0..9000);
    assert_eq!(
        site.load().unwrap().resolve_at(ALICE, 8000).unwrap(),
        vec![key.clone()]
    );
    site.enrol(BOB, &key, 0..9000);
    assert!(matches!(
        site.load(),
        Err(DirectoryError::KeyTwice { line: 3 })
    ));
}

#[test]
fn any_flipped_bit_in_the_file_refuses_all_of_it_or_changes_nothing() {
    let site = Site::new();
    let key = key();
    site.enrol(ALICE, &key, 0..9000);
    let bytes = fs::read(site.path()).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut altered = bytes.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        fs::remove_file(site.path()).unwrap();
        files::write_new(&site.path(), &altered, 0o644).unwrap();
        // The one flip that is harmless turns the final line break into white space.
        if let Ok(directory) = site.load() {
            assert_eq!(
                directory.resolve_at(ALICE, 600).unwrap(),
                vec![key.clone()],
                "bit {bit}"
            );
            assert_eq!(bit / 8, bytes.len() - 1);
        }
    }
}

#[test]
fn an_entry_signed_by_another_key_or_with_bad_content_is_refused() {
    let site = Site::new();
    let other = SigningKey::generate().unwrap();
    assert!(matches!(
        {
            site.enrol(ALICE, &key(), 0..9000);
            Directory::load(&site.path(), &other.verifying_key())
        },
        Err(DirectoryError::Signature { line: 1 })
    ));
    for identity in [
        "alice",
        "spiffe://a/b",
        "spiffe://a/clinician/x/y",
        "spiffe://a//x",
        "spiffe://a/b/ü",
    ] {
        let site = Site::new();
        site.enrol(identity, &key(), 0..9000);
        assert!(
            matches!(site.load(), Err(DirectoryError::Malformed { line: 1 })),
            "{identity}"
        );
    }
    let site = Site::new();
    site.enrol(ALICE, &key(), 9..9);
    assert!(matches!(
        site.load(),
        Err(DirectoryError::Malformed { line: 1 })
    ));
}
