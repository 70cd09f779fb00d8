//! A small certificate authority for `cloister pki init` and for tests. Not used by a serving room.

use std::net::IpAddr;

use zeroize::Zeroizing;

use crate::error::TlsError;
use crate::identity::SpiffeId;

/// A CA certificate with its key.
pub struct Authority {
    _ca_pem: String,
}

/// A certificate and its key, as PEM.
pub struct Issued {
    /// Leaf certificate followed by the CA's.
    pub cert_pem: String,
    /// PKCS#8 key.
    pub key_pem: Zeroizing<String>,
}

impl Authority {
    /// A new self-signed CA.
    pub fn generate(_name: &str, _days: u32) -> Result<Self, TlsError> {
        todo!()
    }

    /// A CA from its files' text.
    pub fn load(_cert_pem: &str, _key_pem: &str) -> Result<Self, TlsError> {
        todo!()
    }

    /// A certificate for `identity`, which may serve and call.
    pub fn issue(&self, _identity: &SpiffeId, _dns: &[&str], _ips: &[IpAddr], _days: u32) -> Result<Issued, TlsError> {
        todo!()
    }

    /// The CA certificate.
    pub fn ca_pem(&self) -> &str {
        todo!()
    }

    /// The CA key, PKCS#8.
    pub fn key_pem(&self) -> Zeroizing<String> {
        todo!()
    }
}
