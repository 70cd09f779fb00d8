//! One event: JSON without free text.
//!
//! Hashes are of ciphertexts, bundles and policies only. An unkeyed hash of an identifier, query
//! or report text could be guessed, so there is no field for one.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use cloister_phi::{AeTitle, Pseudonym};
use cloister_seal::KeyId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::EventError;
use crate::reason::{Action, Decision, Reason};

const FORMAT: u32 = 1;

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Actor {
    /// `spiffe://<trust-domain>/<role>/<name>` of a verified certificate.
    Spiffe(String),
    /// A calling AE title, as claimed.
    AeTitle(AeTitle),
    /// A source address.
    Ip(IpAddr),
    /// An operator at this machine: the user id that the kernel names for a Unix socket's peer.
    Operator(u32),
}

impl Actor {
    /// Checks a SPIFFE URI.
    ///
    /// # Errors
    /// [`EventError::Identity`].
    pub fn spiffe(uri: &str) -> Result<Self, EventError> {
        let name = |part: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !part.is_empty() && part.bytes().all(allowed)
        };
        let path = uri.strip_prefix("spiffe://").filter(|_| uri.len() <= 512);
        let parts: Vec<_> = path.ok_or(EventError::Identity)?.split('/').collect();
        if parts.len() != 3 || !parts.into_iter().all(name) {
            return Err(EventError::Identity);
        }
        Ok(Self::Spiffe(uri.to_owned()))
    }

    /// A calling AE title.
    pub fn ae_title(title: &AeTitle) -> Self {
        Self::AeTitle(title.clone())
    }

    /// A source address.
    pub fn ip(address: IpAddr) -> Self {
        Self::Ip(address)
    }

    /// An operator, by user id.
    pub fn operator(uid: u32) -> Self {
        Self::Operator(uid)
    }
}

/// What goes on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    at_unix_ms: i64,
    action: Action,
    decision: Decision,
    reason: Option<Reason>,
    actor: Option<Actor>,
    report: Option<Uuid>,
    study: Option<Pseudonym>,
    object: Option<Pseudonym>,
    sha256: Option<[u8; 32]>,
    count: u32,
    recipients: Vec<KeyId>,
}

impl Event {
    /// `action`, allowed, now, once.
    pub fn new(action: Action) -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            at_unix_ms: i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
            action,
            decision: Decision::Allowed,
            reason: None,
            actor: None,
            report: None,
            study: None,
            object: None,
            sha256: None,
            count: 1,
            recipients: Vec::new(),
        }
    }

    /// `action`, refused by a rule.
    pub fn refused(action: Action, reason: Reason) -> Self {
        Self {
            decision: Decision::Refused,
            reason: Some(reason),
            ..Self::new(action)
        }
    }

    /// `action`, prevented by a fault.
    pub fn failed(action: Action, reason: Reason) -> Self {
        Self {
            decision: Decision::Failed,
            reason: Some(reason),
            ..Self::new(action)
        }
    }

    /// Who did it.
    pub fn actor(self, actor: Actor) -> Self {
        Self {
            actor: Some(actor),
            ..self
        }
    }

    /// Which report it was about.
    pub fn report(self, report: Uuid) -> Self {
        Self {
            report: Some(report),
            ..self
        }
    }

    /// Which study it was about.
    pub fn study(self, study: Pseudonym) -> Self {
        Self {
            study: Some(study),
            ..self
        }
    }

    /// Which object it was about: a random or keyed name that the room made for it, never its UID.
    pub fn object(self, object: Pseudonym) -> Self {
        Self {
            object: Some(object),
            ..self
        }
    }

    /// SHA-256 of a ciphertext, bundle or policy; never of anything in clear about a patient.
    pub fn object_sha256(self, sha256: [u8; 32]) -> Self {
        Self {
            sha256: Some(sha256),
            ..self
        }
    }

    /// To which keys.
    pub fn recipients(self, recipients: impl IntoIterator<Item = KeyId>) -> Self {
        Self {
            recipients: recipients.into_iter().collect(),
            ..self
        }
    }

    /// Why.
    pub fn reason(self, reason: Reason) -> Self {
        Self {
            reason: Some(reason),
            ..self
        }
    }

    /// How often, for merged events.
    pub fn count(self, count: u32) -> Self {
        Self { count, ..self }
    }

    /// When, if not now.
    pub fn at_unix_ms(self, at_unix_ms: i64) -> Self {
        Self { at_unix_ms, ..self }
    }

    /// What happened.
    pub fn action(&self) -> Action {
        self.action
    }

    /// How it was decided.
    pub fn decision(&self) -> Decision {
        self.decision
    }

    /// Why, if it says.
    pub fn why(&self) -> Option<Reason> {
        self.reason
    }

    /// Who did it, if it says.
    pub fn who(&self) -> Option<&Actor> {
        self.actor.as_ref()
    }

    /// When.
    pub fn unix_ms(&self) -> i64 {
        self.at_unix_ms
    }

    /// How often.
    pub fn occurrences(&self) -> u32 {
        self.count
    }

    /// Which report it was about.
    pub fn report_id(&self) -> Option<Uuid> {
        self.report
    }

    /// Which study it was about.
    pub fn study_pseudonym(&self) -> Option<&Pseudonym> {
        self.study.as_ref()
    }

    /// Which object it was about.
    pub fn object_pseudonym(&self) -> Option<&Pseudonym> {
        self.object.as_ref()
    }

    /// The ciphertext's, bundle's or policy's SHA-256.
    pub fn sha256(&self) -> Option<&[u8; 32]> {
        self.sha256.as_ref()
    }

    /// To which keys.
    pub fn recipient_key_ids(&self) -> &[KeyId] {
        &self.recipients
    }

    /// The record: compact JSON.
    ///
    /// # Errors
    /// [`EventError::Malformed`], never seen.
    pub fn to_bytes(&self) -> Result<Vec<u8>, EventError> {
        serde_json::to_vec(&Raw::from(self)).map_err(|_| EventError::Malformed)
    }

    /// Reads a record, refusing unknown fields and values.
    ///
    /// # Errors
    /// [`EventError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EventError> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(|_| EventError::Malformed)?;
        raw.try_into()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    format: u32,
    at_unix_ms: i64,
    action: Action,
    decision: Decision,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    actor: Option<RawActor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    report_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    study: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    object: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    object_sha256: Option<String>,
    #[serde(default = "once", skip_serializing_if = "is_once")]
    count: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    recipients: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawActor {
    Spiffe(String),
    AeTitle(String),
    Ip(IpAddr),
    OperatorUid(u32),
}

fn once() -> u32 {
    1
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_once(count: &u32) -> bool {
    *count == 1
}

impl From<&Event> for Raw {
    fn from(event: &Event) -> Self {
        Self {
            format: FORMAT,
            at_unix_ms: event.at_unix_ms,
            action: event.action,
            decision: event.decision,
            reason: event.reason,
            actor: event.actor.as_ref().map(|actor| match actor {
                Actor::Spiffe(uri) => RawActor::Spiffe(uri.clone()),
                Actor::AeTitle(title) => RawActor::AeTitle(title.as_str().to_owned()),
                Actor::Ip(address) => RawActor::Ip(*address),
                Actor::Operator(uid) => RawActor::OperatorUid(*uid),
            }),
            report_id: event.report,
            study: event.study.as_ref().map(|study| study.as_str().to_owned()),
            object: event
                .object
                .as_ref()
                .map(|object| object.as_str().to_owned()),
            object_sha256: event.sha256.map(hex::encode),
            count: event.count,
            recipients: event.recipients.iter().map(ToString::to_string).collect(),
        }
    }
}

impl TryFrom<Raw> for Event {
    type Error = EventError;

    fn try_from(raw: Raw) -> Result<Self, EventError> {
        let malformed = |()| EventError::Malformed;
        if raw.format != FORMAT {
            return Err(EventError::Malformed);
        }
        let actor = match raw.actor {
            None => None,
            Some(RawActor::Spiffe(uri)) => Some(Actor::spiffe(&uri)?),
            Some(RawActor::AeTitle(title)) => Some(Actor::AeTitle(
                AeTitle::parse(&title).map_err(|_| EventError::Malformed)?,
            )),
            Some(RawActor::Ip(address)) => Some(Actor::Ip(address)),
            Some(RawActor::OperatorUid(uid)) => Some(Actor::Operator(uid)),
        };
        let pseudonym = |text: Option<String>| {
            text.map(|text| Pseudonym::parse(&text).map_err(drop))
                .transpose()
        };
        let sha256 = raw.object_sha256.map(|sha256| {
            let mut bytes = [0; 32];
            hex::decode_to_slice(sha256, &mut bytes)
                .map_err(drop)
                .map(|()| bytes)
        });
        let recipients = raw
            .recipients
            .iter()
            .map(|id| KeyId::parse_hex(id).map_err(drop));
        Ok(Self {
            at_unix_ms: raw.at_unix_ms,
            action: raw.action,
            decision: raw.decision,
            reason: raw.reason,
            actor,
            report: raw.report_id,
            study: pseudonym(raw.study).map_err(malformed)?,
            object: pseudonym(raw.object).map_err(malformed)?,
            sha256: sha256.transpose().map_err(malformed)?,
            count: raw.count,
            recipients: recipients.collect::<Result<_, _>>().map_err(malformed)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Event {
        Event::refused(Action::ReportWithheld, Reason::NoAssessment)
            .actor(Actor::spiffe("spiffe://hospital.example/gateway/a").unwrap())
            .report(Uuid::from_u128(7))
            .study(Pseudonym::parse("study-1").unwrap())
            .object(Pseudonym::parse("object-1").unwrap())
            .object_sha256([3; 32])
            .recipients([KeyId::from_bytes(&[4; 16]).unwrap()])
            .count(12)
            .at_unix_ms(99)
    }

    #[test]
    fn events_survive_their_json_and_absent_fields_take_no_room() {
        for event in [
            full(),
            Event::new(Action::Started),
            full().actor(Actor::ip("2001:db8::1".parse().unwrap())),
            full().actor(Actor::ae_title(&AeTitle::parse("CT_1").unwrap())),
            full().actor(Actor::operator(1000)),
        ] {
            assert_eq!(
                Event::from_bytes(&event.to_bytes().unwrap()).unwrap(),
                event
            );
        }
        let bytes = Event::new(Action::Started)
            .at_unix_ms(1)
            .to_bytes()
            .unwrap();
        let text = r#"{"format":1,"at_unix_ms":1,"action":"started","decision":"allowed"}"#;
        assert_eq!(String::from_utf8(bytes).unwrap(), text);
    }

    #[test]
    fn unknown_fields_values_and_formats_are_refused() {
        let text = String::from_utf8(full().to_bytes().unwrap()).unwrap();
        for (from, to) in [
            (r#""format":1"#, r#""format":2"#),
            (r#""count":12"#, r#""count":12,"note":"Doe^Jane""#),
            ("report_withheld", "Doe^Jane"),
            ("no_assessment", "because"),
            ("study-1", "Doe^Jane"),
            ("object-1", "Doe^Jane"),
            ("spiffe://", "https://"),
            ("03030303", "0303030"),
            ("04040404", "0404040404"),
        ] {
            let altered = text.replacen(from, to, 1);
            assert_ne!(altered, text, "{from}");
            assert!(Event::from_bytes(altered.as_bytes()).is_err(), "{to}");
        }
        for bad in [
            "spiffe://a/b",
            "spiffe://a/b/c/d",
            "spiffe://a/b/ü",
            "spiffe://a//c",
            "x",
        ] {
            assert!(Actor::spiffe(bad).is_err(), "{bad}");
        }
    }
}
