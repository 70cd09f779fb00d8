//! What can go wrong with a token. Says nothing about PIN or key.

use cryptoki::error::{Error, RvError};

/// Why a token does not do what it is asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The URI is none of RFC 7512, or says too little or too much.
    #[error("no PKCS#11 URI that can be used: {0}")]
    Uri(&'static str),
    /// The shared library is not there, or no PKCS#11 module.
    #[error("the PKCS#11 module {path} cannot be loaded: {why}")]
    Module {
        /// As configured.
        path: String,
        /// By the loader or the module.
        why: String,
    },
    /// No slot holds a token of this name.
    #[error("no slot of the module holds the token that the URI names")]
    TokenMissing,
    /// More than one does.
    #[error("several tokens fit the URI: name its serial")]
    TokenAmbiguous,
    /// The PIN was refused, and is not tried again.
    #[error("the token refuses the PIN; it is not tried again, so that the token is not locked")]
    PinIncorrect,
    /// Somebody entered a wrong one lately.
    #[error(
        "the token says that a wrong PIN was entered since the last login, so ours is not tried: \
         log in once by hand with the right one"
    )]
    PinDoubtful,
    /// Too many wrong ones.
    #[error("the token's PIN is locked, or was never set")]
    PinLocked,
    /// Not text, or empty.
    #[error("the PIN is empty or no text")]
    PinUnusable,
    /// The token has no such key.
    #[error("the token does not hold the key that the URI names")]
    KeyMissing,
    /// It has several.
    #[error("several keys of the token fit the URI: name the id")]
    KeyAmbiguous,
    /// The key can leave the token.
    #[error("the key can be read out of the token (CKA_EXTRACTABLE, or not CKA_SENSITIVE)")]
    KeyExtractable,
    /// Wrong kind, length or use.
    #[error("the key cannot be used: {0}")]
    KeyUnfit(&'static str),
    /// Wrong key, or the data was changed.
    #[error("wrong key, or the data was changed")]
    Opening,
    /// The token did not answer in time.
    #[error("the token did not answer in time")]
    Timeout,
    /// Anything else that the module says.
    #[error("the token failed: {0}")]
    Failed(String),
}

impl TokenError {
    /// Whether the token took a try off its count, or has none left.
    pub(crate) fn is_refused_pin(&self) -> bool {
        matches!(self, Self::PinIncorrect | Self::PinLocked)
    }
}

/// The session is of no use any more, but another may be: the token was away, or restarted, or the
/// key's handle changed.
pub(crate) fn is_lost(error: &Error) -> bool {
    matches!(
        error,
        Error::Pkcs11(
            RvError::CryptokiNotInitialized
                | RvError::DeviceError
                | RvError::DeviceRemoved
                | RvError::KeyHandleInvalid
                | RvError::ObjectHandleInvalid
                | RvError::OperationActive
                | RvError::SessionClosed
                | RvError::SessionHandleInvalid
                | RvError::TokenNotPresent
                | RvError::TokenNotRecognized
                | RvError::UserNotLoggedIn,
            _
        )
    )
}

/// `C_Decrypt` was unwilling, for what may be the data's fault: modules do not agree on the code
/// for a tag that does not fit (SoftHSM: CKR_GENERAL_ERROR, which is also said of a broken token).
pub(crate) fn may_be_the_data(error: &Error) -> bool {
    matches!(
        error,
        Error::Pkcs11(
            RvError::ArgumentsBad
                | RvError::DataInvalid
                | RvError::DataLenRange
                | RvError::EncryptedDataInvalid
                | RvError::EncryptedDataLenRange
                | RvError::FunctionFailed
                | RvError::GeneralError
                | RvError::SignatureInvalid
                | RvError::VendorDefined(_),
            _
        )
    )
}

impl From<Error> for TokenError {
    fn from(error: Error) -> Self {
        match error {
            Error::Pkcs11(
                RvError::PinIncorrect | RvError::PinLenRange | RvError::PinInvalid,
                _,
            ) => Self::PinIncorrect,
            Error::Pkcs11(
                RvError::PinLocked | RvError::PinExpired | RvError::UserPinNotInitialized,
                _,
            ) => Self::PinLocked,
            // The code and the function; the crate's own text for the code is a paragraph.
            Error::Pkcs11(code, function) => Self::Failed(format!("{code:?} by {function}")),
            other => Self::Failed(other.to_string()),
        }
    }
}
