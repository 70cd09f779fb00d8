//! Keys that stay on a PKCS#11 token (an HSM, a smart card, SoftHSM): named by an RFC 7512 URI, used
//! where they are. This crate knows sessions, PINs and keys, and nothing of what is done with them.
//!
//! A token may hang, so every call is made on a thread of its own and given up after a deadline; the
//! callers here block for that long, and an async caller puts them on a blocking thread.
//!
//! **The PIN is never guessed.** A token locks itself after a few wrong ones. A PIN that was refused is
//! not tried again by this process, and a token that says that somebody entered a wrong one lately is
//! left alone until a login with the right one has taken that flag away: whoever restarts us over and
//! over costs the token one try and no more.

mod aes;

mod error;

mod pin;

mod session;

mod uri;

mod worker;

pub use aes::AesKey;
pub use error::TokenError;
pub use pin::Pin;
pub use session::Place;
pub use uri::TokenUri;
