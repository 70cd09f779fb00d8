//! The TLS profile of Cloister and the identity of a peer.
//!
//! One stack: rustls with aws-lc-rs, TLS 1.3 only, pinned **in code** (another crate of the build
//! may switch rustls' `tls12` feature on), X25519MLKEM768 preferred, certificates on both sides.
//! Who a peer is, is the one SPIFFE URI in the SAN of its certificate; a name in the subject says
//! nothing. The one exception is [`Profile::Dimse`], for modalities: TLS 1.2 too, and certificates
//! of other makes, which a [`Binding`] ties to an AE title.

pub mod channel;
pub mod issue;

mod binding;
mod call;
mod error;
mod identity;
mod profile;
mod serve;
mod watch;

pub use binding::{Binding, Shown};
pub use call::{Client, ClientFiles};
pub use error::{IdentityError, TlsError};
pub use identity::{Role, SpiffeId, identity_of};
pub use profile::{TlsFiles, client_config, server_config};
pub use rustls_pki_types::CertificateDer;
pub use serve::{Profile, Server, ServerFiles};
