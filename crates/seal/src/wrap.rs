//! One recipient's stanza: the content key under that recipient's key, bound to the header.

use cloister_proto::v1::RecipientStanza;
use hpke::aead::{Aead, AesGcm256, ChaCha20Poly1305};
use hpke::kdf::HkdfSha256;
use hpke::kem::{DhP256HkdfSha256, X25519HkdfSha256, XWing};
use hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable, single_shot_open, single_shot_seal,
};
use zeroize::Zeroizing;

use crate::key::{KeyId, RecipientPrivateKey, RecipientPublicKey};
use crate::{Suite, sha256};

pub(crate) type ContentKey = Zeroizing<[u8; 32]>;

/// info = protocol tag || suite || key id.
fn info(suite: Suite, key_id: KeyId) -> Vec<u8> {
    let mut info = b"cloister-seal-v1".to_vec();
    info.push(suite as u8);
    info.extend_from_slice(key_id.as_bytes());
    info
}

/// The content key for `recipient`; `None` if its suite refuses the key.
pub(crate) fn wrap(
    recipient: &RecipientPublicKey,
    header: &[u8],
    content_key: &ContentKey,
) -> Option<RecipientStanza> {
    let (suite, key_id) = (recipient.suite(), recipient.key_id());
    let info = info(suite, key_id);
    let key = recipient.as_bytes();
    let (encapsulated_key, wrapped_key) = match suite {
        Suite::HpkeXwing => seal::<ChaCha20Poly1305, XWing>(key, &info, header, content_key)?,
        Suite::HpkeP256 => seal::<AesGcm256, DhP256HkdfSha256>(key, &info, header, content_key)?,
        Suite::HpkeX25519 => {
            seal::<ChaCha20Poly1305, X25519HkdfSha256>(key, &info, header, content_key)?
        }
        Suite::EciesSecp256k1 => {
            // ECIES has no associated data: the header's hash travels inside.
            let mut message = Zeroizing::new(content_key.to_vec());
            message.extend_from_slice(&sha256(header));
            (Vec::new(), ecies::encrypt(key, &message).ok()?)
        }
        Suite::Unspecified => return None,
    };
    let key_id = key_id.as_bytes().to_vec();
    Some(RecipientStanza {
        suite: suite.into(),
        key_id,
        encapsulated_key,
        wrapped_key,
    })
}

/// The content key, if `stanza` was made for `key` and `header`.
pub(crate) fn unwrap(
    key: &RecipientPrivateKey,
    header: &[u8],
    stanza: &RecipientStanza,
) -> Option<ContentKey> {
    let suite = key.public_ref().suite();
    let info = info(suite, key.public_ref().key_id());
    let secret = key.secret();
    let opened = match suite {
        Suite::HpkeXwing => open::<ChaCha20Poly1305, XWing>(secret, &info, header, stanza)?,
        Suite::HpkeP256 => open::<AesGcm256, DhP256HkdfSha256>(secret, &info, header, stanza)?,
        Suite::HpkeX25519 => {
            open::<ChaCha20Poly1305, X25519HkdfSha256>(secret, &info, header, stanza)?
        }
        Suite::EciesSecp256k1 => {
            if !stanza.encapsulated_key.is_empty() {
                return None;
            }
            let message = Zeroizing::new(ecies::decrypt(secret, &stanza.wrapped_key).ok()?);
            let content_key = message.strip_suffix(&sha256(header))?;
            Zeroizing::new(content_key.to_vec())
        }
        Suite::Unspecified => return None,
    };
    let mut content_key = Zeroizing::new([0; 32]);
    if opened.len() != content_key.len() {
        return None;
    }
    content_key.copy_from_slice(&opened);
    Some(content_key)
}

fn seal<A: Aead, K: Kem>(
    key: &[u8],
    info: &[u8],
    header: &[u8],
    content_key: &ContentKey,
) -> Option<(Vec<u8>, Vec<u8>)> {
    let key = K::PublicKey::from_bytes(key).ok()?;
    let mode = OpModeS::Base;
    let sealed = single_shot_seal::<A, HkdfSha256, K>(&mode, &key, info, &content_key[..], header);
    let (encapsulated, wrapped) = sealed.ok()?;
    Some((encapsulated.to_bytes().to_vec(), wrapped))
}

fn open<A: Aead, K: Kem>(
    secret: &[u8],
    info: &[u8],
    header: &[u8],
    stanza: &RecipientStanza,
) -> Option<Zeroizing<Vec<u8>>> {
    let secret = K::PrivateKey::from_bytes(secret).ok()?;
    let encapsulated = K::EncappedKey::from_bytes(&stanza.encapsulated_key).ok()?;
    let mode = OpModeR::Base;
    let wrapped = &stanza.wrapped_key;
    let opened =
        single_shot_open::<A, HkdfSha256, K>(&mode, &secret, &encapsulated, info, wrapped, header);
    opened.ok().map(Zeroizing::new)
}
