use rcgen::SanType;
use time::{Duration, OffsetDateTime};

use super::*;
use crate::{IdentityError, Role, identity_of};

fn leaf(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn with_names(names: Vec<SanType>) -> CertificateDer<'static> {
    let now = OffsetDateTime::now_utc();
    let issued = Authority::generate("test", 1)
        .unwrap()
        .issue_names("x", names, now, now + Duration::DAY)
        .unwrap();
    leaf(&issued.cert_pem)
}

#[test]
fn the_identity_comes_back_out_of_the_certificate() {
    let id = SpiffeId::new("ward.example", Role::Clinician, "dr-jane_2").unwrap();
    let issued = Authority::generate("test", 1)
        .unwrap()
        .issue(&id, &["localhost"], &[], 1)
        .unwrap();
    assert_eq!(identity_of(&leaf(&issued.cert_pem)).unwrap(), id);
}

#[test]
fn a_certificate_with_two_uris_has_no_identity() {
    let two = with_names(vec![uri("spiffe://a/ehr/x"), uri("spiffe://a/gateway/x")]);
    assert_eq!(identity_of(&two), Err(IdentityError::Ambiguous));
}

#[test]
fn a_certificate_without_a_uri_has_no_identity() {
    let none = with_names(vec![SanType::DnsName("gateway".try_into().unwrap())]);
    assert_eq!(identity_of(&none), Err(IdentityError::Missing));
    assert_eq!(
        identity_of(&CertificateDer::from(vec![0x30, 0x03])),
        Err(IdentityError::Certificate)
    );
}

#[test]
fn a_uri_outside_the_scheme_is_no_identity() {
    assert_eq!(
        identity_of(&with_names(vec![uri("https://a/ehr/x")])),
        Err(IdentityError::Syntax)
    );
    assert_eq!(
        identity_of(&with_names(vec![uri("spiffe://a/root/x")])),
        Err(IdentityError::Role)
    );
}

#[test]
fn an_authority_survives_its_files_and_refuses_a_foreign_key() {
    let first = Authority::generate("one", 1).unwrap();
    let again = Authority::load(first.ca_pem(), &first.key_pem()).unwrap();
    let id = SpiffeId::new("a", Role::Ehr, "x").unwrap();
    assert!(again.issue(&id, &[], &[], 1).is_ok());
    let other = Authority::generate("two", 1).unwrap();
    assert!(matches!(
        Authority::load(first.ca_pem(), &other.key_pem()),
        Err(TlsError::Authority(_))
    ));
    let issued = first.issue(&id, &[], &[], 1).unwrap();
    assert!(matches!(
        Authority::load(&issued.cert_pem, &issued.key_pem),
        Err(TlsError::Authority(_))
    ));
}
