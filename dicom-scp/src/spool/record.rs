//! What the spool's log says. Keyed hashes and sealed values only: a reader without the keys
//! learns when something came and what became of it, and nothing about whom.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Id;
use super::worklist::commitment::Relayed;
use super::worklist::{Forgotten, Snapshot};
use crate::quarantine::{DeadReason, Reason};

/// One durable change.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Record {
    /// An object's file is durable; written before its `0000H`.
    Stored(StoredRecord),
    /// A study was quiet: these objects make this version, under this report id.
    Assembled {
        study: Id,
        version: u32,
        report: Uuid,
        replaces: Option<Uuid>,
        objects: Vec<Id>,
        at_unix_ms: i64,
    },
    /// A process began to work on an object; `boot` is that process. An object that no process
    /// survives must not stop the gateway for ever.
    Attempted { object: Id, boot: Id },
    /// An object was cleared; `meta` is sealed under the study's key.
    Cleared {
        object: Id,
        file: Id,
        study_pseudonym: String,
        #[serde(with = "hex_bytes")]
        meta: Vec<u8>,
    },
    /// An object does not go on.
    Quarantined {
        object: Id,
        reason: Reason,
        at_unix_ms: i64,
    },
    /// The sidecar has released this version's report.
    Accepted {
        study: Id,
        version: u32,
        at_unix_ms: i64,
    },
    /// No object of the study could be cleared, so there is no report.
    Withheld {
        study: Id,
        version: u32,
        at_unix_ms: i64,
    },
    /// This version is not tried again by itself.
    DeadLettered {
        study: Id,
        version: u32,
        reason: DeadReason,
        at_unix_ms: i64,
    },
    /// An operator has it tried again.
    Retried {
        study: Id,
        version: u32,
        at_unix_ms: i64,
    },
    /// An operator sent an object of the quarantine through the path again.
    Released { object: Id, at_unix_ms: i64 },
    /// An operator had an object of the quarantine erased. Written before its file is destroyed.
    Purged { object: Id, at_unix_ms: i64 },
    /// Everything identified of a study is erased; written before its key is destroyed, so that no
    /// replay brings back what cannot be opened any more.
    Erased {
        study: Id,
        objects: Vec<Id>,
        left: Forgotten,
    },
    /// A study as it stood when the log was compacted.
    Snapshot(Box<Snapshot>),
    /// About the archive and those who ask for its commitment.
    Relayed { relayed: Box<Relayed> },
}

/// An acknowledged object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredRecord {
    pub(crate) object: Id,
    pub(crate) study: Id,
    /// Keyed hash of the SOP Instance UID.
    #[serde(with = "hex_hash")]
    pub(crate) instance: [u8; 32],
    /// Keyed hash of transfer syntax and data set.
    #[serde(with = "hex_hash")]
    pub(crate) content: [u8; 32],
    pub(crate) calling_ae: String,
    pub(crate) bytes: u64,
    pub(crate) at_unix_ms: i64,
    /// The same SOP Instance UID came before with other bytes.
    pub(crate) conflict: bool,
    /// Absent in the records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sop_class: Option<String>,
}

mod hex_hash {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(
        hash: &[u8; 32],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(hash))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<[u8; 32], D::Error> {
        let mut hash = [0; 32];
        hex::decode_to_slice(String::deserialize(deserializer)?, &mut hash)
            .map_err(de::Error::custom)?;
        Ok(hash)
    }
}

pub(super) mod hex_bytes {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        hex::decode(String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_unix_ms() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
