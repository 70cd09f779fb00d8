//! What can go wrong with keys and envelopes. No variant carries key, header or plaintext bytes.

/// A key could not be made, read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not a key of this kind.
    #[error("not a valid key of the expected kind")]
    Malformed,
    /// The suite is not one this version knows.
    #[error("unknown suite")]
    UnknownSuite,
    /// The key is encrypted and no passphrase was given.
    #[error("the key needs a passphrase")]
    PassphraseNeeded,
    /// Wrong passphrase, or the file was altered.
    #[error("wrong passphrase or altered key file")]
    WrongPassphrase,
    /// The operating system gave no random bytes.
    #[error("no random bytes available")]
    Random,
}

/// Nothing was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// An envelope needs a recipient.
    #[error("no recipient")]
    NoRecipient,
    /// More recipients than an envelope may name.
    #[error("too many recipients")]
    TooManyRecipients,
    /// The same key twice.
    #[error("a recipient key is named twice")]
    DuplicateRecipient,
    /// Content kind or report id is missing.
    #[error("the envelope header is incomplete")]
    IncompleteHeader,
    /// The operating system gave no random bytes.
    #[error("no random bytes available")]
    Random,
    /// A recipient's key was refused by its suite.
    #[error("a recipient key was refused")]
    RecipientKey,
    /// The plaintext is too long.
    #[error("plaintext too long")]
    TooLong,
}

/// The envelope was not opened; nothing of its content is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The bytes are no envelope.
    #[error("not a sealed envelope")]
    Malformed,
    /// Signed by a key that is not pinned.
    #[error("sealed by an unknown key")]
    UnknownSigner,
    /// The signature does not fit: something was altered after sealing.
    #[error("the seal's signature does not verify")]
    Signature,
    /// A version this program does not know; never opened by guessing.
    #[error("unknown envelope version")]
    Version,
    /// Header, stanzas or report id contradict each other.
    #[error("the envelope contradicts itself")]
    Inconsistent,
    /// Not sealed to this key.
    #[error("not sealed to this key")]
    NotRecipient,
    /// The stanza did not open: another header, or damaged.
    #[error("the content key does not open")]
    Stanza,
    /// The content key is not the one the envelope commits to.
    #[error("the content key does not match the envelope's commitment")]
    Commitment,
    /// The ciphertext is damaged.
    #[error("the sealed content is damaged")]
    Content,
    /// A capsule where a report was expected, or the other way round.
    #[error("the envelope holds another kind of content")]
    WrongContent,
}

/// The signature does not fit message and key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct SignatureError(pub(crate) ());
