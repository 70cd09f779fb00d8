//! One audit event: who, what, when, the pseudonymous object, the decision, the reason code.
//!
//! Logged as one JSON object, so that a reviewer can read the log with any text tool. There is no
//! free text and never an unkeyed hash of an identifier, a query, a report text or an identified
//! object: `object_sha256` is for ciphertexts, bundles and policies.

use cloister_phi::Pseudonym;
use cloister_seal::KeyId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::EventError;
use crate::vocabulary::{Action, Actor, Decision, Reason};

/// An audit event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    at_unix_ms: i64,
    action: Action,
    decision: Decision,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    actor: Option<Actor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    report_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "pseudonym")]
    study: Option<Pseudonym>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "hash")]
    object_sha256: Option<[u8; 32]>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "key_ids")]
    recipients: Vec<KeyId>,
    /// How many alike events this record stands for.
    count: u32,
}

impl Event {
    /// An allowed action, now.
    pub fn new(action: Action) -> Self {
        Self {
            at_unix_ms: now_unix_ms(),
            action,
            decision: Decision::Allowed,
            reason: None,
            actor: None,
            report_id: None,
            study: None,
            object_sha256: None,
            recipients: Vec::new(),
            count: 1,
        }
    }

    /// An action declined by policy.
    pub fn refused(action: Action, reason: Reason) -> Self {
        Self {
            decision: Decision::Refused,
            reason: Some(reason),
            ..Self::new(action)
        }
    }

    /// An action that failed.
    pub fn failed(action: Action, reason: Reason) -> Self {
        Self {
            decision: Decision::Failed,
            reason: Some(reason),
            ..Self::new(action)
        }
    }

    /// Who acted.
    pub fn actor(mut self, actor: Actor) -> Self {
        self.actor = Some(actor);
        self
    }

    /// The report it is about.
    pub fn report(mut self, id: Uuid) -> Self {
        self.report_id = Some(id);
        self
    }

    /// The study's pseudonym.
    pub fn study(mut self, pseudonym: Pseudonym) -> Self {
        self.study = Some(pseudonym);
        self
    }

    /// SHA-256 of a ciphertext, a bundle or a policy. Never of identified data.
    pub fn object_sha256(mut self, hash: [u8; 32]) -> Self {
        self.object_sha256 = Some(hash);
        self
    }

    /// Keys that a report was sealed to.
    pub fn recipients(mut self, keys: impl IntoIterator<Item = KeyId>) -> Self {
        self.recipients = keys.into_iter().collect();
        self
    }

    /// Why, beside the decision.
    pub fn reason(mut self, reason: Reason) -> Self {
        self.reason = Some(reason);
        self
    }

    /// How many alike events the record stands for.
    pub fn count(mut self, count: u32) -> Self {
        self.count = count;
        self
    }

    /// When, if not now.
    pub fn at_unix_ms(mut self, at: i64) -> Self {
        self.at_unix_ms = at;
        self
    }

    /// The record as logged.
    ///
    /// # Errors
    /// [`EventError::Malformed`] if encoding fails, which no event that this type allows does.
    pub fn to_bytes(&self) -> Result<Vec<u8>, EventError> {
        serde_json::to_vec(self).map_err(|_| EventError::Malformed)
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`EventError::Malformed`] for anything but an event with known fields and words.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EventError> {
        serde_json::from_slice(bytes).map_err(|_| EventError::Malformed)
    }

    /// The report it is about.
    pub fn report_id(&self) -> Option<Uuid> {
        self.report_id
    }

    /// What happened.
    pub fn action(&self) -> Action {
        self.action
    }

    /// How it ended.
    pub fn decision(&self) -> Decision {
        self.decision
    }

    /// Why.
    pub fn why(&self) -> Option<Reason> {
        self.reason
    }

    /// Who acted.
    pub fn who(&self) -> Option<&Actor> {
        self.actor.as_ref()
    }

    /// Milliseconds since 1970 UTC.
    pub fn unix_ms(&self) -> i64 {
        self.at_unix_ms
    }

    /// SHA-256 of the ciphertext, bundle or policy.
    pub fn sha256(&self) -> Option<&[u8; 32]> {
        self.object_sha256.as_ref()
    }

    /// How many alike events the record stands for.
    pub fn occurrences(&self) -> u32 {
        self.count
    }
}

fn now_unix_ms() -> i64 {
    let nanoseconds = time::OffsetDateTime::now_utc().unix_timestamp_nanos();
    i64::try_from(nanoseconds / 1_000_000).unwrap_or(i64::MAX)
}

mod pseudonym {
    use cloister_phi::Pseudonym;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        value: &Option<Pseudonym>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(pseudonym) => serializer.serialize_str(pseudonym.as_str()),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Pseudonym>, D::Error> {
        let text = String::deserialize(deserializer)?;
        Pseudonym::parse(&text).map(Some).map_err(D::Error::custom)
    }
}

mod hash {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        value: &Option<[u8; 32]>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(hash) => serializer.serialize_str(&hex::encode(hash)),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<[u8; 32]>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).map_err(D::Error::custom)?;
        Ok(Some(hash))
    }
}

mod key_ids {
    use cloister_seal::KeyId;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(keys: &[KeyId], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(keys.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<KeyId>, D::Error> {
        Vec::<String>::deserialize(deserializer)?
            .iter()
            .map(|text| KeyId::parse_hex(text).map_err(D::Error::custom))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_survives_the_log_and_unknown_words_do_not() {
        let event = Event::refused(Action::RequestRefused, Reason::RoleNotAllowed)
            .actor(Actor::spiffe("spiffe://hospital.test/ehr/main").unwrap())
            .report(Uuid::from_u128(7))
            .study(Pseudonym::parse("S-1").unwrap())
            .object_sha256([9; 32])
            .count(3);
        let bytes = event.to_bytes().unwrap();
        assert_eq!(Event::from_bytes(&bytes).unwrap(), event);
        let text = String::from_utf8(bytes).unwrap();
        for bad in [
            text.replace("request_refused", "free text"),
            text.replace("\"count\"", "\"note\":\"x\",\"count\""),
            text.replace("spiffe://", "Jane Doe "),
        ] {
            assert_eq!(
                Event::from_bytes(bad.as_bytes()),
                Err(EventError::Malformed)
            );
        }
    }

    #[test]
    fn an_actor_is_a_plain_identity() {
        for bad in [
            "",
            "spiffe://",
            "spiffe://a/b c",
            "http://a",
            "spiffe://a/\n",
        ] {
            assert_eq!(Actor::spiffe(bad), Err(EventError::Actor), "{bad:?}");
        }
    }
}
