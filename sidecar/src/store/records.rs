//! How the mailbox is written: the records of the log (which stay readable for ever: only add
//! fields) and of the index (free to change with its schema).

use cloister_seal::KeyId;
use uuid::Uuid;

use super::{Entry, Holding, Release, StoreError};

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Record {
    #[prost(oneof = "Kind", tags = "1, 2, 3")]
    pub(super) kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Kind {
    #[prost(message, tag = "1")]
    Held(HeldRecord),
    #[prost(message, tag = "2")]
    Released(ReleasedRecord),
    #[prost(message, tag = "3")]
    Acknowledged(AcknowledgedRecord),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HeldRecord {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) report_id: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(super) owner: String,
    #[prost(string, repeated, tag = "3")]
    pub(super) recipients: Vec<String>,
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub(super) key_ids: Vec<Vec<u8>>,
    #[prost(bytes = "vec", tag = "5")]
    pub(super) header: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    pub(super) replaces: Vec<u8>,
    #[prost(bytes = "vec", tag = "7")]
    pub(super) sealed_sha256: Vec<u8>,
    #[prost(bytes = "vec", tag = "8")]
    pub(super) sealed: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ReleasedRecord {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) report_id: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub(super) leaf_index: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AcknowledgedRecord {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) report_id: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(super) identity: String,
    #[prost(uint64, tag = "3")]
    pub(super) leaf_index: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct EntryRecord {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) report_id: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(super) owner: String,
    #[prost(string, repeated, tag = "3")]
    pub(super) recipients: Vec<String>,
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub(super) key_ids: Vec<Vec<u8>>,
    #[prost(bytes = "vec", tag = "5")]
    pub(super) header: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    pub(super) replaces: Vec<u8>,
    #[prost(bytes = "vec", tag = "7")]
    pub(super) sealed_sha256: Vec<u8>,
    #[prost(uint64, tag = "8")]
    pub(super) held_sequence: u64,
    /// 0 while held.
    #[prost(uint64, tag = "9")]
    pub(super) position: u64,
    #[prost(uint64, tag = "10")]
    pub(super) leaf_index: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PlaceRecord {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) report_id: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(super) key_ids: Vec<Vec<u8>>,
}

impl HeldRecord {
    pub(super) fn into_entry(self, held_sequence: u64) -> EntryRecord {
        EntryRecord {
            report_id: self.report_id,
            owner: self.owner,
            recipients: self.recipients,
            key_ids: self.key_ids,
            header: self.header,
            replaces: self.replaces,
            sealed_sha256: self.sealed_sha256,
            held_sequence,
            position: 0,
            leaf_index: 0,
        }
    }
}

impl From<Holding> for HeldRecord {
    fn from(holding: Holding) -> Self {
        Self {
            report_id: holding.report_id.as_bytes().to_vec(),
            owner: holding.owner,
            recipients: holding.recipients,
            key_ids: holding
                .key_ids
                .iter()
                .map(|id| id.as_bytes().to_vec())
                .collect(),
            header: holding.header,
            replaces: holding.replaces,
            sealed_sha256: holding.sealed_sha256.to_vec(),
            sealed: holding.sealed,
        }
    }
}

impl TryFrom<EntryRecord> for Entry {
    type Error = StoreError;

    fn try_from(record: EntryRecord) -> Result<Self, Self::Error> {
        let release = (record.position != 0).then_some(Release {
            position: record.position,
            leaf_index: record.leaf_index,
        });
        Ok(Self {
            report_id: Uuid::from_slice(&record.report_id).map_err(|_| StoreError::Damaged)?,
            owner: record.owner,
            recipients: record.recipients,
            key_ids: key_ids(&record.key_ids)?,
            header: record.header,
            replaces: record.replaces,
            sealed_sha256: record
                .sealed_sha256
                .try_into()
                .map_err(|_| StoreError::Damaged)?,
            release,
            held_sequence: record.held_sequence,
        })
    }
}

pub(super) fn key_ids(stored: &[Vec<u8>]) -> Result<Vec<KeyId>, StoreError> {
    stored
        .iter()
        .map(|bytes| KeyId::from_bytes(bytes).map_err(|_| StoreError::Damaged))
        .collect()
}
