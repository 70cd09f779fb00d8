//! Revocation lists (RFC 5280 section 5): read again, added to, signed anew. The list itself is the
//! record of what is revoked: a revoked certificate stays on it, also after its own end.

use rcgen::{
    CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject as _;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

use super::{Authority, CLOCK_SKEW};
use crate::error::TlsError;
use crate::identity::{SpiffeId, identity_of};

/// What is said of a leaf certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Who it is for.
    pub identity: SpiffeId,
    /// As in the certificate, big endian.
    pub serial: Vec<u8>,
    /// The last moment that it is valid.
    pub not_after: OffsetDateTime,
}

impl Leaf {
    /// Reads a certificate in PEM form.
    ///
    /// # Errors
    /// [`TlsError::Authority`] when it is none, [`TlsError::Identity`] when it is for nobody.
    pub fn read(pem: &str) -> Result<Self, TlsError> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| TlsError::Authority("the certificate is not PEM"))?;
        let (_, parsed) = X509Certificate::from_der(&der)
            .map_err(|_| TlsError::Authority("the certificate is not X.509"))?;
        Ok(Self {
            identity: identity_of(&der)?,
            serial: parsed.raw_serial().to_vec(),
            not_after: parsed.validity().not_after.to_datetime(),
        })
    }
}

/// A certificate that does not count any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Its serial number, big endian.
    pub serial: Vec<u8>,
    /// Since when.
    pub at: OffsetDateTime,
}

/// The content of a revocation list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RevocationList {
    revoked: Vec<Revoked>,
    number: u64,
    next_update: Option<OffsetDateTime>,
}

impl RevocationList {
    /// Reads the list that `authority` has signed before.
    ///
    /// # Errors
    /// [`TlsError::Authority`] when it is none, or another authority's. The signature is not looked
    /// at: whoever can change this file stands beside the authority's key.
    pub fn read(pem: &str, authority: &Authority) -> Result<Self, TlsError> {
        let der = CertificateRevocationListDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| TlsError::Authority("the revocation list is not PEM"))?;
        let (rest, list) = CertificateRevocationList::from_der(&der)
            .map_err(|_| TlsError::Authority("the revocation list is not one of X.509"))?;
        let ca = CertificateDer::from_pem_slice(authority.ca_pem().as_bytes())
            .map_err(|_| TlsError::Authority("the certificate is not PEM"))?;
        let (_, ca) = X509Certificate::from_der(&ca)
            .map_err(|_| TlsError::Authority("the certificate is not X.509"))?;
        if !rest.is_empty() || list.issuer().as_raw() != ca.subject().as_raw() {
            return Err(TlsError::Authority(
                "the revocation list is another authority's",
            ));
        }
        // The list's own numbers are seconds: eight bytes are plenty.
        let number = list.crl_number();
        let number = number.and_then(|number| number.to_string().parse().ok());
        Ok(Self {
            revoked: list
                .iter_revoked_certificates()
                .map(|entry| Revoked {
                    serial: entry.raw_serial().to_vec(),
                    at: entry.revocation_date.to_datetime(),
                })
                .collect(),
            number: number.unwrap_or_default(),
            next_update: list.next_update().map(|time| time.to_datetime()),
        })
    }

    /// An empty one. RFC 5280 section 5.2.3: numbers never decrease, which a clock gives for free.
    pub(super) fn at(this_update: OffsetDateTime) -> Self {
        Self {
            number: this_update.unix_timestamp().unsigned_abs(),
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, serial: Vec<u8>, at: OffsetDateTime) {
        self.revoked.push(Revoked { serial, at });
    }

    /// Whether, and since when, a certificate does not count.
    pub fn revoked_at(&self, serial: &[u8]) -> Option<OffsetDateTime> {
        let mut entries = self.revoked.iter();
        entries
            .find(|entry| plain(&entry.serial) == plain(serial))
            .map(|entry| entry.at)
    }

    /// From then on nobody believes the list, and with it no certificate.
    pub fn next_update(&self) -> Option<OffsetDateTime> {
        self.next_update
    }

    /// Grows with every list (RFC 5280 section 5.2.3); 0 before the first.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How many are on it.
    pub fn len(&self) -> usize {
        self.revoked.len()
    }

    /// Whether nothing is on it.
    pub fn is_empty(&self) -> bool {
        self.revoked.is_empty()
    }

    /// Puts a certificate on it, now. False if it is there already.
    pub fn revoke(&mut self, serial: &[u8]) -> bool {
        if self.revoked_at(serial).is_some() {
            return false;
        }
        self.add(serial.to_vec(), OffsetDateTime::now_utc());
        true
    }
}

/// A leading zero is only there to make the number positive (X.690 section 8.3).
fn plain(serial: &[u8]) -> &[u8] {
    match serial {
        [0, rest @ ..] if !rest.is_empty() => rest,
        other => other,
    }
}

impl Authority {
    /// Signs the list anew, good for `days`, with a number above the last one's.
    ///
    /// # Errors
    /// [`TlsError::Issue`] when it cannot be signed.
    pub fn sign_list(&self, list: &mut RevocationList, days: u32) -> Result<String, TlsError> {
        let now = OffsetDateTime::now_utc();
        let next_update = now + Duration::days(i64::from(days));
        // RFC 5280 section 5.2.3: always increasing, also for two lists in one second.
        list.number = now
            .unix_timestamp()
            .unsigned_abs()
            .max(list.number.saturating_add(1));
        list.next_update = Some(next_update);
        self.sign(list, now - CLOCK_SKEW, next_update)
    }

    pub(super) fn sign(
        &self,
        list: &RevocationList,
        this_update: OffsetDateTime,
        next_update: OffsetDateTime,
    ) -> Result<String, TlsError> {
        let entry = |entry: &Revoked| RevokedCertParams {
            serial_number: SerialNumber::from(entry.serial.clone()),
            revocation_time: entry.at,
            reason_code: None::<RevocationReason>,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update,
            next_update,
            crl_number: SerialNumber::from(list.number),
            issuing_distribution_point: None,
            revoked_certs: list.revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(params.signed_by(&self.issuer)?.pem()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Role;

    #[test]
    fn a_list_that_is_read_again_keeps_what_was_revoked_and_its_number_grows() {
        let authority = Authority::generate("ca", 1).unwrap();
        let id = SpiffeId::new("example.org", Role::Modality, "ct-1").unwrap();
        let leaf = |_| {
            let issued = authority.issue(&id, &[], &[], 1).unwrap();
            Leaf::read(&issued.cert_pem).unwrap()
        };
        let leaves: Vec<Leaf> = (0..20).map(leaf).collect();
        assert!(leaves.iter().all(|leaf| leaf.identity == id));
        let mut list = RevocationList::default();
        let mut numbers = Vec::new();
        for leaf in &leaves {
            assert_eq!(list.revoked_at(&leaf.serial), None);
            assert!(list.revoke(&leaf.serial) && !list.revoke(&leaf.serial));
            let pem = authority.sign_list(&mut list, 7).unwrap();
            numbers.push(list.number);
            let read = RevocationList::read(&pem, &authority).unwrap();
            assert_eq!((read.number, read.len()), (list.number, list.len()));
            list = read;
        }
        assert!(numbers.is_sorted_by(|one, next| one < next));
        assert!(
            leaves
                .iter()
                .all(|leaf| list.revoked_at(&leaf.serial).is_some())
        );
        assert!(list.next_update().unwrap() > OffsetDateTime::now_utc() + Duration::days(6));
    }

    #[test]
    fn another_authoritys_list_is_not_added_to() {
        let one = Authority::generate("one", 1).unwrap();
        let two = Authority::generate("two", 1).unwrap();
        let pem = two.sign_list(&mut RevocationList::default(), 1).unwrap();
        assert!(RevocationList::read(&pem, &two).unwrap().is_empty());
        for bad in [pem.as_str(), two.ca_pem(), ""] {
            assert!(RevocationList::read(bad, &one).is_err());
        }
    }
}
