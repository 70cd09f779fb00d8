//! Which certificate stands for an AE title. An AE title is only claimed; the binding says which
//! verified certificate may claim it.

use std::fmt;
use std::str::FromStr;

use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::error::IdentityError;
use crate::identity::{SpiffeId, identity_of};

/// What a verified certificate must show. No wildcards: a binding names one holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// `spiffe://<trust-domain>/<role>/<name>`: the one URI of the subject alternative name.
    Spiffe(SpiffeId),
    /// `dns:NAME`: one of the DNS names of the subject alternative name; case does not count.
    Dns(Box<str>),
    /// `cn:NAME`: the only common name of the subject, to the letter. For certificates of older
    /// modalities that have nothing else.
    CommonName(Box<str>),
    /// `sha256:HEX`: this certificate (SHA-256 of its DER form) and no renewal of it.
    Fingerprint([u8; 32]),
}

impl FromStr for Binding {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        if text.starts_with("spiffe://") {
            return text.parse().map(Self::Spiffe);
        }
        let (kind, value) = text.split_once(':').ok_or(IdentityError::Binding)?;
        match kind {
            "dns" if is_host(value) => Ok(Self::Dns(value.to_ascii_lowercase().into())),
            "cn" if !value.is_empty() && value.len() <= 64 => Ok(Self::CommonName(value.into())),
            "sha256" => fingerprint(value).map(Self::Fingerprint),
            _ => Err(IdentityError::Binding),
        }
    }
}

/// A host name of RFC 1123; never a wildcard.
fn is_host(name: &str) -> bool {
    let label = |label: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(allowed)
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// 64 hex digits; colons between the bytes, as `openssl x509 -fingerprint` prints them, are fine.
fn fingerprint(text: &str) -> Result<[u8; 32], IdentityError> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|c| *c != ':')
        .map(|c| c.to_digit(16).ok_or(IdentityError::Binding))
        .collect::<Result<_, _>>()?;
    if digits.len() != 64 {
        return Err(IdentityError::Binding);
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8);
    }
    Ok(bytes)
}

/// What a verified certificate shows of its holder.
#[derive(Clone, PartialEq, Eq)]
pub struct Shown {
    spiffe: Option<SpiffeId>,
    dns: Vec<String>,
    common_name: Option<String>,
    sha256: [u8; 32],
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}

impl Shown {
    /// Reads a certificate that the handshake has verified.
    ///
    /// # Errors
    /// [`IdentityError::Certificate`] when it cannot be parsed to its end.
    pub fn read(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let (rest, parsed) =
            X509Certificate::from_der(certificate).map_err(|_| IdentityError::Certificate)?;
        if !rest.is_empty() {
            return Err(IdentityError::Certificate);
        }
        let san = parsed
            .subject_alternative_name()
            .map_err(|_| IdentityError::Certificate)?;
        let dns = san
            .iter()
            .flat_map(|san| &san.value.general_names)
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
                _ => None,
            })
            .collect();
        let mut names = parsed.subject().iter_common_name();
        let common_name = match (names.next(), names.next()) {
            (Some(name), None) => name.as_str().ok().map(str::to_owned),
            _ => None,
        };
        Ok(Self {
            spiffe: identity_of(certificate).ok(),
            dns,
            common_name,
            sha256: Sha256::digest(certificate).into(),
        })
    }

    /// Whether the holder is the one that `binding` names.
    pub fn is(&self, binding: &Binding) -> bool {
        match binding {
            Binding::Spiffe(id) => self.spiffe.as_ref() == Some(id),
            Binding::Dns(name) => self.dns.iter().any(|dns| **dns == **name),
            Binding::CommonName(name) => self.common_name.as_deref() == Some(name),
            Binding::Fingerprint(sha256) => self.sha256 == *sha256,
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::pem::PemObject as _;

    use super::*;
    use crate::Role;
    use crate::issue::Authority;

    #[test]
    fn a_binding_is_one_of_four_forms() {
        for good in [
            "spiffe://example.org/modality/ct-1",
            "dns:CT1.radiology.example",
            "cn:CT 1",
            "sha256:0000000000000000000000000000000000000000000000000000000000000000",
        ] {
            assert!(good.parse::<Binding>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "CT1",
            "dns:",
            "dns:*.example",
            "dns:a..b",
            "cn:",
            "sha256:00",
            "sha256:zz",
            "md5:00",
            "spiffe://example.org/radiologist/x",
        ] {
            assert!(bad.parse::<Binding>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_certificate_is_who_it_shows_and_nobody_else() {
        let authority = Authority::generate("ca", 1).unwrap();
        let id = SpiffeId::new("example.org", Role::Modality, "ct-1").unwrap();
        let issued = authority.issue(&id, &["CT1.example"], &[], 1).unwrap();
        let der = CertificateDer::from_pem_slice(issued.cert_pem.as_bytes()).unwrap();
        let shown = Shown::read(&der).unwrap();
        let print = Sha256::digest(&der)
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect::<Vec<_>>()
            .join(":");
        for (binding, expected) in [
            (id.to_string(), true),
            ("spiffe://example.org/modality/ct-2".to_owned(), false),
            ("dns:ct1.example".to_owned(), true),
            ("dns:example".to_owned(), false),
            ("cn:ct-1".to_owned(), true),
            ("cn:CT-1".to_owned(), false),
            (format!("sha256:{print}"), true),
            (format!("sha256:{}", "0".repeat(64)), false),
        ] {
            let parsed: Binding = binding.parse().unwrap();
            assert_eq!(shown.is(&parsed), expected, "{binding}");
        }
        assert!(Shown::read(&CertificateDer::from(vec![0x30, 0])).is_err());
    }
}
