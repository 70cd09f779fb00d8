//! A small certificate authority for `cloister pki` and for tests. No serving room uses it.

use std::fmt;
use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use crate::error::TlsError;
use crate::identity::SpiffeId;

mod revocation;

pub use self::revocation::{Leaf, RevocationList, Revoked};

/// Certificates are valid from a little before now, for peers whose clock is behind.
const CLOCK_SKEW: Duration = Duration::minutes(5);

/// A CA certificate with its key. ECDSA on P-256, path length 0.
pub struct Authority {
    ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
pub struct Issued {
    /// Leaf certificate.
    pub cert_pem: String,
    /// PKCS#8 key. Write it with mode 0600.
    pub key_pem: Zeroizing<String>,
}

impl Authority {
    /// A new self-signed CA.
    ///
    /// # Errors
    /// [`TlsError::Issue`] when no key can be made.
    pub fn generate(name: &str, days: u32) -> Result<Self, TlsError> {
        let now = OffsetDateTime::now_utc();
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(name);
        params.not_before = now - CLOCK_SKEW;
        params.not_after = now + Duration::days(i64::from(days));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let ca_pem = params.self_signed(&key)?.pem();
        Ok(Self {
            ca_pem,
            issuer: Issuer::new(params, key),
        })
    }

    /// A CA from the text of its two files.
    ///
    /// # Errors
    /// [`TlsError::Authority`] when they are no CA, or do not belong together.
    pub fn load(cert_pem: &str, key_pem: &str) -> Result<Self, TlsError> {
        let key = KeyPair::from_pem(key_pem)
            .map_err(|_| TlsError::Authority("the key is not PKCS#8 PEM"))?;
        let der = CertificateDer::from_pem_slice(cert_pem.as_bytes())
            .map_err(|_| TlsError::Authority("the certificate is not PEM"))?;
        let (_, parsed) = X509Certificate::from_der(&der)
            .map_err(|_| TlsError::Authority("the certificate is not X.509"))?;
        if !parsed.is_ca() {
            return Err(TlsError::Authority("the certificate is not a CA's"));
        }
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(TlsError::Authority(
                "key and certificate do not belong together",
            ));
        }
        Ok(Self {
            ca_pem: cert_pem.to_owned(),
            issuer: Issuer::from_ca_cert_der(&der, key)?,
        })
    }

    /// A certificate for `identity`, which may serve (under `dns` and `ips`) and call.
    ///
    /// # Errors
    /// [`TlsError::Issue`] when a DNS name is not one.
    pub fn issue(
        &self,
        identity: &SpiffeId,
        dns: &[&str],
        ips: &[IpAddr],
        days: u32,
    ) -> Result<Issued, TlsError> {
        let now = OffsetDateTime::now_utc();
        self.issue_between(
            identity,
            dns,
            ips,
            now - CLOCK_SKEW,
            now + Duration::days(i64::from(days)),
        )
    }

    /// As [`Authority::issue`], for a period of the caller's choice (tests of expiry).
    ///
    /// # Errors
    /// [`TlsError::Issue`] when a DNS name is not one.
    pub fn issue_between(
        &self,
        identity: &SpiffeId,
        dns: &[&str],
        ips: &[IpAddr],
        not_before: OffsetDateTime,
        not_after: OffsetDateTime,
    ) -> Result<Issued, TlsError> {
        let mut names = vec![SanType::URI(identity.to_string().try_into()?)];
        for name in dns {
            names.push(SanType::DnsName((*name).try_into()?));
        }
        names.extend(ips.iter().copied().map(SanType::IpAddress));
        self.issue_names(identity.name(), names, not_before, not_after)
    }

    /// A leaf with any names; tests make the certificates that must be refused with it.
    pub(crate) fn issue_names(
        &self,
        common: &str,
        names: Vec<SanType>,
        not_before: OffsetDateTime,
        not_after: OffsetDateTime,
    ) -> Result<Issued, TlsError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(common);
        params.not_before = not_before;
        params.not_after = not_after;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.subject_alt_names = names;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            cert_pem: certificate.pem(),
            key_pem: Zeroizing::new(key.serialize_pem()),
        })
    }

    /// A revocation list with the given certificates (PEM) on it, good for `days`.
    ///
    /// # Errors
    /// [`TlsError::Authority`] when one is no certificate, [`TlsError::Issue`] when the list cannot
    /// be signed.
    pub fn revoke(&self, certificates: &[&str], days: u32) -> Result<String, TlsError> {
        let now = OffsetDateTime::now_utc();
        self.revoke_between(
            certificates,
            now - CLOCK_SKEW,
            now + Duration::days(i64::from(days)),
        )
    }

    /// As [`Authority::revoke`], for a period of the caller's choice.
    ///
    /// # Errors
    /// As [`Authority::revoke`].
    pub fn revoke_between(
        &self,
        certificates: &[&str],
        this_update: OffsetDateTime,
        next_update: OffsetDateTime,
    ) -> Result<String, TlsError> {
        let serial = |pem: &&str| {
            let bad = TlsError::Authority("what is to be revoked is no certificate");
            let der = CertificateDer::from_pem_slice(pem.as_bytes());
            let serial = der.ok().and_then(|der| {
                let (_, parsed) = X509Certificate::from_der(&der).ok()?;
                Some(parsed.raw_serial().to_vec())
            });
            serial.ok_or(bad)
        };
        let mut list = RevocationList::at(this_update);
        for pem in certificates {
            list.add(serial(pem)?, this_update);
        }
        self.sign(&list, this_update, next_update)
    }

    /// The CA certificate.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The CA key, PKCS#8. It belongs on no serving machine.
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().serialize_pem())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Issued")
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::OrganizationName, "Cloister");
    distinguished.push(DnType::CommonName, name);
    distinguished
}

#[cfg(test)]
mod tests;
