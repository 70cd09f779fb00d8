//! After the handshake, before authorization: who is at the other end.

use std::fmt;
use std::str::FromStr;

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::error::IdentityError;

/// Longest identity, as in the SPIFFE-ID specification, section 2.3.
const MAX_BYTES: usize = 2048;

/// What an identity may be used for. Closed: a new role is a decision, not a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// dicom-scp, which submits studies.
    Gateway,
    /// A hospital information system that asks for reports.
    Ehr,
    /// A person who reads reports.
    Clinician,
    /// Somebody who reads the audit trail.
    Auditor,
    /// A sidecar of another pod.
    Peer,
    /// This pod's sidecar: the identity that clients pin.
    Sidecar,
    /// An inference server reached over the network.
    Server,
    /// A sender of films: it may call dicom-scp, and nothing else.
    Modality,
}

impl Role {
    /// Every role, in path order of the identity scheme.
    pub const ALL: [Self; 8] = [
        Self::Gateway,
        Self::Ehr,
        Self::Clinician,
        Self::Auditor,
        Self::Peer,
        Self::Sidecar,
        Self::Server,
        Self::Modality,
    ];

    /// The word in the identity.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Ehr => "ehr",
            Self::Clinician => "clinician",
            Self::Auditor => "auditor",
            Self::Peer => "peer",
            Self::Sidecar => "sidecar",
            Self::Server => "server",
            Self::Modality => "modality",
        }
    }
}

impl FromStr for Role {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or(IdentityError::Role)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `spiffe://<trust-domain>/<role>/<name>`, validated.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    trust_domain: Box<str>,
    role: Role,
    name: Box<str>,
}

impl SpiffeId {
    /// An identity from its parts.
    ///
    /// # Errors
    /// [`IdentityError::Syntax`] when a part is empty or has a character outside the scheme.
    pub fn new(trust_domain: &str, role: Role, name: &str) -> Result<Self, IdentityError> {
        // SPIFFE-ID section 2.1 (trust domain) and 2.2 (path segment).
        let domain_ok =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        let name_ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let long = trust_domain.len() > 255 || name.len() > MAX_BYTES - 512;
        if trust_domain.is_empty()
            || name.is_empty()
            || long
            || name == "."
            || name == ".."
            || !trust_domain.bytes().all(domain_ok)
            || !name.bytes().all(name_ok)
        {
            return Err(IdentityError::Syntax);
        }
        Ok(Self {
            trust_domain: trust_domain.into(),
            role,
            name: name.into(),
        })
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The role.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The name within the role.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Parses the URI form.
    ///
    /// # Errors
    /// [`IdentityError::Syntax`] or [`IdentityError::Role`].
    pub fn parse(uri: &str) -> Result<Self, IdentityError> {
        uri.parse()
    }
}

impl FromStr for SpiffeId {
    type Err = IdentityError;

    fn from_str(uri: &str) -> Result<Self, Self::Err> {
        if uri.len() > MAX_BYTES {
            return Err(IdentityError::Syntax);
        }
        let rest = uri.strip_prefix("spiffe://").ok_or(IdentityError::Syntax)?;
        let mut parts = rest.split('/');
        let (Some(domain), Some(role), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(IdentityError::Syntax);
        };
        Self::new(domain, role.parse()?, name)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "spiffe://{}/{}/{}",
            self.trust_domain, self.role, self.name
        )
    }
}

/// The one SPIFFE URI in the subject alternative name of a verified certificate.
///
/// # Errors
/// [`IdentityError`] when the certificate has no URI, more than one, or one outside the scheme.
pub fn identity_of(certificate: &CertificateDer<'_>) -> Result<SpiffeId, IdentityError> {
    let (rest, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| IdentityError::Certificate)?;
    if !rest.is_empty() {
        return Err(IdentityError::Certificate);
    }
    // Errors on a duplicated extension, so a second SAN cannot hide behind the first.
    let san = parsed
        .subject_alternative_name()
        .map_err(|_| IdentityError::Certificate)?;
    let names = san
        .as_ref()
        .map(|san| san.value.general_names.as_slice())
        .unwrap_or_default();
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let uri = uris.next().ok_or(IdentityError::Missing)?;
    if uris.next().is_some() {
        return Err(IdentityError::Ambiguous);
    }
    SpiffeId::parse(uri)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{IdentityError, Role, SpiffeId};

    #[test]
    fn refuses_what_is_not_exactly_domain_role_and_name() {
        for text in [
            "",
            "spiffe://",
            "spiffe:///ehr/x",
            "spiffe://a/ehr",
            "spiffe://a/ehr/",
            "spiffe://a/ehr/x/",
            "spiffe://a/ehr/x/y",
            "spiffe://A/ehr/x",
            "spiffe://a:1/ehr/x",
            "spiffe://u@a/ehr/x",
            "spiffe://a/ehr/x?y",
            "spiffe://a/ehr/x#y",
            "spiffe://a/ehr/..",
            "spiffe://a/ehr/x%41",
            "SPIFFE://a/ehr/x",
            "http://a/ehr/x",
        ] {
            assert_eq!(SpiffeId::parse(text), Err(IdentityError::Syntax), "{text}");
        }
        assert_eq!(
            SpiffeId::parse("spiffe://a/Ehr/x"),
            Err(IdentityError::Role)
        );
    }

    proptest! {
        #[test]
        fn any_text_parses_to_itself_or_is_refused(text in ".{0,80}") {
            if let Ok(id) = SpiffeId::parse(&text) {
                prop_assert_eq!(id.to_string(), text);
            }
        }

        #[test]
        fn every_well_formed_identity_round_trips(domain in "[a-z0-9.-]{1,20}", role in 0..8usize, name in "[A-Za-z0-9_-]{1,20}") {
            let id = SpiffeId::new(&domain, Role::ALL[role], &name).unwrap();
            prop_assert_eq!(SpiffeId::parse(&id.to_string()), Ok(id));
        }
    }
}
