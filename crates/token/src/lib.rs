//! Keys that stay on a PKCS#11 token (an HSM, a smart card, SoftHSM): named by an RFC 7512 URI, used
//! where they are. This crate knows sessions, PINs and keys, and nothing of what is done with them.
//!
//! A token may hang, so every call is made on a thread of its own and given up after a deadline; the
//! callers here block for that long, and an async caller puts them on a blocking thread.
//!
//! **The PIN is never guessed.** A token locks itself after a few wrong ones. A PIN that a token refused
//! is not tried on it again by this process, whichever of its keys is asked for. Over restarts nothing is
//! remembered here: a token that sets CKF_USER_PIN_COUNT_LOW says that somebody entered a wrong one lately,
//! and is left alone until a login with the right one has taken that flag away, so whoever restarts us over
//! and over costs it one try and no more. A token that does not set the flag (PKCS#11 lets it) loses one
//! try at each start with a wrong PIN: there, do not let a service manager restart without limit.
//!
//! **The key is recognized.** What bears the URI's name after the token was away has to open what the key
//! sealed at the start; another one is [`TokenError::KeyUnfit`] and never makes data look damaged.

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
