//! After the handshake, before authorization: the certificate becomes a caller.

use cloister_tls::{CertificateDer, IdentityError, SpiffeId, identity_of};

/// A caller whose certificate the TLS stack has verified. Only this step makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller(SpiffeId);

impl Caller {
    /// Reads the identity out of the peer's verified chain.
    ///
    /// # Errors
    /// [`IdentityError`] when the leaf names none, several or one outside the scheme.
    pub(crate) fn identify(
        chain: Option<&[CertificateDer<'static>]>,
    ) -> Result<Self, IdentityError> {
        let leaf = chain.and_then(<[_]>::first).ok_or(IdentityError::Missing)?;
        identity_of(leaf).map(Self)
    }

    /// Who it is.
    pub(crate) fn id(&self) -> &SpiffeId {
        &self.0
    }

    #[cfg(test)]
    pub(crate) fn for_test(uri: &str) -> Self {
        Self(SpiffeId::parse(uri).unwrap())
    }
}
