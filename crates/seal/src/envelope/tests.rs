use proptest::prelude::*;

use super::*;
use crate::key::SUITES;
use crate::{KeyId, Suite};

fn header() -> EnvelopeHeader {
    EnvelopeHeader {
        content: Content::Report.into(),
        report_id: vec![7; 16],
        replaces: vec![8; 16],
        issued_at_unix_ms: 1,
        urgency: 2,
        outcome: 3,
        acr_category: 1,
        deadline_unix_ms: 4,
        model_hash: vec![5; 32],
        policy_hash: vec![6; 32],
        binding_hash: vec![9; 32],
        ..EnvelopeHeader::default()
    }
}

fn recipient(suite: Suite) -> RecipientPrivateKey {
    RecipientPrivateKey::generate(suite).unwrap()
}

fn signer() -> (SigningKey, [VerifyingKey; 1]) {
    let key = SigningKey::generate().unwrap();
    let public = [key.verifying_key()];
    (key, public)
}

/// What a dishonest node can do: alter and sign again.
fn sign_again(sealed: &mut SealedReport, signer: &SigningKey) {
    let stanzas = framed_stanzas(&sealed.stanzas);
    sealed.signature = signer.sign(DOMAIN, &[&sealed.header, &stanzas, &sealed.ciphertext]);
}

#[test]
fn every_suite_opens_what_it_sealed_and_only_with_its_key() {
    let (signer, signers) = signer();
    for suite in SUITES {
        let key = recipient(suite);
        let sealed = seal(header(), b"findings", &[key.public()], &signer).unwrap();
        let opened = open(&sealed, &key, &signers).unwrap();
        assert_eq!(&opened.plaintext[..], b"findings");
        assert_eq!(opened.header.report_id, [7; 16]);
        assert_eq!(verify(&sealed, &signers).unwrap(), opened.header);
        assert_eq!(
            open(&sealed, &recipient(suite), &signers).unwrap_err(),
            OpenError::NotRecipient
        );
        // The same with the thief's key id written over the recipient's.
        let thief = recipient(suite);
        let mut stolen = sealed.clone();
        let id = thief.public().key_id().as_bytes().to_vec();
        stolen.stanzas[0].key_id.clone_from(&id);
        stolen.header = EnvelopeHeader {
            recipient_key_ids: vec![id],
            ..opened.header
        }
        .encode_to_vec();
        sign_again(&mut stolen, &signer);
        assert_eq!(
            open(&stolen, &thief, &signers).unwrap_err(),
            OpenError::Stanza
        );
    }
}

#[test]
fn every_recipient_of_several_suites_opens_the_same_content() {
    let (signer, signers) = signer();
    let keys = SUITES.map(recipient);
    let public: Vec<_> = keys.iter().map(RecipientPrivateKey::public).collect();
    let sealed = seal(header(), b"findings", &public, &signer).unwrap();
    for key in &keys {
        assert_eq!(
            &open(&sealed, key, &signers).unwrap().plaintext[..],
            b"findings"
        );
    }
    let ids = verify(&sealed, &signers).unwrap().recipient_key_ids;
    let ids: Vec<_> = ids
        .iter()
        .map(|id| KeyId::from_bytes(id).unwrap())
        .collect();
    assert_eq!(
        ids,
        public
            .iter()
            .map(RecipientPublicKey::key_id)
            .collect::<Vec<_>>()
    );
}

#[test]
fn a_flipped_bit_in_any_byte_of_a_serialized_envelope_fails_to_open() {
    let (signer, signers) = signer();
    for suite in SUITES {
        let key = recipient(suite);
        let sealed = seal(header(), b"findings", &[key.public()], &signer).unwrap();
        let bytes = sealed.encode_to_vec();
        assert!(open(&SealedReport::decode(&bytes[..]).unwrap(), &key, &signers).is_ok());
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1 << (at % 8);
            let Ok(altered) = SealedReport::decode(&altered[..]) else {
                continue;
            };
            assert!(
                open(&altered, &key, &signers).is_err(),
                "{suite:?} byte {at}"
            );
        }
    }
}

#[test]
fn a_changed_header_field_fails_even_when_the_node_signs_it_again() {
    type Change = (&'static str, fn(&mut EnvelopeHeader));
    let changes: [Change; 11] = [
        ("content", |h| h.content = Content::File.into()),
        ("report_id", |h| h.report_id = vec![1; 16]),
        ("replaces", |h| h.replaces.clear()),
        ("issued_at", |h| h.issued_at_unix_ms += 1),
        ("urgency", |h| h.urgency = 1),
        ("outcome", |h| h.outcome = 1),
        ("acr_category", |h| h.acr_category = 0),
        ("deadline", |h| h.deadline_unix_ms = 0),
        ("model_hash", |h| h.model_hash[0] ^= 1),
        ("policy_hash", |h| h.policy_hash[31] ^= 1),
        ("binding_hash", |h| h.binding_hash.clear()),
    ];
    let (signer, signers) = signer();
    for suite in SUITES {
        let key = recipient(suite);
        let sealed = seal(header(), b"findings", &[key.public()], &signer).unwrap();
        for (name, change) in changes {
            let mut header = EnvelopeHeader::decode(&sealed.header[..]).unwrap();
            change(&mut header);
            let mut altered = SealedReport {
                header: header.encode_to_vec(),
                ..sealed.clone()
            };
            assert_eq!(
                open(&altered, &key, &signers).unwrap_err(),
                OpenError::Signature,
                "{name}"
            );
            sign_again(&mut altered, &signer);
            assert_eq!(
                open(&altered, &key, &signers).unwrap_err(),
                OpenError::Stanza,
                "{name}"
            );
        }
        // These two are refused before any key is used.
        let mut header = EnvelopeHeader::decode(&sealed.header[..]).unwrap();
        header.version = 2;
        let mut altered = SealedReport {
            header: header.encode_to_vec(),
            ..sealed.clone()
        };
        sign_again(&mut altered, &signer);
        assert_eq!(
            open(&altered, &key, &signers).unwrap_err(),
            OpenError::Version
        );
        header.version = VERSION;
        header.recipient_key_ids.push(vec![1; 16]);
        let mut altered = SealedReport {
            header: header.encode_to_vec(),
            ..sealed.clone()
        };
        sign_again(&mut altered, &signer);
        assert_eq!(
            open(&altered, &key, &signers).unwrap_err(),
            OpenError::Inconsistent
        );
    }
}

#[test]
fn a_suite_swapped_in_a_stanza_is_refused() {
    let (signer, signers) = signer();
    let key = recipient(Suite::HpkeXwing);
    let mut sealed = seal(header(), b"findings", &[key.public()], &signer).unwrap();
    sealed.stanzas[0].suite = Suite::HpkeX25519.into();
    assert_eq!(
        open(&sealed, &key, &signers).unwrap_err(),
        OpenError::Signature
    );
    sign_again(&mut sealed, &signer);
    assert_eq!(
        open(&sealed, &key, &signers).unwrap_err(),
        OpenError::NotRecipient
    );
}

#[test]
fn another_content_key_breaks_the_commitment_before_anything_is_decrypted() {
    let (signer, signers) = signer();
    let key = recipient(Suite::HpkeX25519);
    let mut sealed = seal(header(), b"findings", &[key.public()], &signer).unwrap();
    // A dishonest node wraps a second content key for this recipient.
    let second = Zeroizing::new([1; 32]);
    sealed.stanzas[0] = wrap::wrap(&key.public(), &sealed.header, &second).unwrap();
    sign_again(&mut sealed, &signer);
    assert_eq!(
        open(&sealed, &key, &signers).unwrap_err(),
        OpenError::Commitment
    );
}

#[test]
fn damaged_content_fails_even_when_signed_again() {
    let (signer, signers) = signer();
    let key = recipient(Suite::HpkeX25519);
    let sealed = seal(header(), b"findings", &[key.public()], &signer).unwrap();
    for (at, error) in [(0, OpenError::Commitment), (COMMITMENT, OpenError::Content)] {
        let mut altered = sealed.clone();
        altered.ciphertext[at] ^= 1;
        sign_again(&mut altered, &signer);
        assert_eq!(open(&altered, &key, &signers).unwrap_err(), error);
    }
    let mut short = sealed;
    short.ciphertext.truncate(COMMITMENT - 1);
    sign_again(&mut short, &signer);
    assert_eq!(
        open(&short, &key, &signers).unwrap_err(),
        OpenError::Malformed
    );
}

#[test]
fn an_unpinned_node_is_refused() {
    let (signer, _) = signer();
    let key = recipient(Suite::HpkeX25519);
    let sealed = seal(header(), b"findings", &[key.public()], &signer).unwrap();
    let others = [SigningKey::generate().unwrap().verifying_key()];
    assert_eq!(
        open(&sealed, &key, &others).unwrap_err(),
        OpenError::UnknownSigner
    );
    assert_eq!(
        open(&sealed, &key, &[]).unwrap_err(),
        OpenError::UnknownSigner
    );
}

#[test]
fn sealing_refuses_nobody_the_same_twice_and_half_a_header() {
    let (signer, _) = signer();
    let public = recipient(Suite::HpkeX25519).public();
    let refuse = |header, keys: &[_]| seal(header, b"", keys, &signer).unwrap_err();
    assert_eq!(refuse(header(), &[]), SealError::NoRecipient);
    assert_eq!(
        refuse(header(), &[public.clone(), public.clone()]),
        SealError::DuplicateRecipient
    );
    let short = EnvelopeHeader {
        report_id: vec![1; 3],
        ..header()
    };
    assert_eq!(
        refuse(short, std::slice::from_ref(&public)),
        SealError::IncompleteHeader
    );
    let kindless = EnvelopeHeader {
        content: 0,
        ..header()
    };
    assert_eq!(refuse(kindless, &[public]), SealError::IncompleteHeader);
}

#[test]
fn ciphertexts_of_different_findings_have_the_same_length_and_never_the_same_bytes() {
    let (signer, _) = signer();
    let public = [recipient(Suite::HpkeX25519).public()];
    let one = seal(header(), b"no acute finding", &public, &signer).unwrap();
    let two = seal(header(), &[b'x'; 3000], &public, &signer).unwrap();
    let again = seal(header(), b"no acute finding", &public, &signer).unwrap();
    assert_eq!(one.ciphertext.len(), two.ciphertext.len());
    assert_ne!(one.ciphertext, again.ciphertext);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_plaintext_survives(plaintext in prop::collection::vec(any::<u8>(), 0..20_000)) {
        let (signer, signers) = signer();
        let key = recipient(Suite::HpkeX25519);
        let sealed = seal(header(), &plaintext, &[key.public()], &signer).unwrap();
        prop_assert_eq!(&open(&sealed, &key, &signers).unwrap().plaintext[..], &plaintext[..]);
    }

    #[test]
    fn arbitrary_envelopes_are_refused_without_panic(
        header: Vec<u8>, ciphertext: Vec<u8>, key_id: Vec<u8>, wrapped_key: Vec<u8>, suite in 0..6_i32,
    ) {
        let (signer, signers) = signer();
        let key = recipient(Suite::EciesSecp256k1);
        let stanza = RecipientStanza { suite, key_id, encapsulated_key: Vec::new(), wrapped_key };
        let signer_key_id = signers[0].key_id().to_vec();
        let mut sealed =
            SealedReport { header, stanzas: vec![stanza], ciphertext, signature: vec![], signer_key_id };
        sign_again(&mut sealed, &signer);
        prop_assert!(open(&sealed, &key, &signers).is_err());
    }
}
