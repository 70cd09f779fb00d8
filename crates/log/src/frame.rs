//! Bytes of a segment: one head, then records. All integers are little endian.
//!
//! ```text
//! head    magic[8] first_sequence:u64 salt:u64 crc32c:u32                             28 bytes
//! record  magic[4] length:u32 sequence:u64 batch:u64 crc32c(head):u32 crc32c(payload):u32
//!         payload[length]
//! ```
//! `batch` is the first sequence of the group commit that wrote the record. The next batch is
//! written only after the last one was synced, so a record of a later batch proves that everything
//! before its batch was durable: recovery uses that to tell a torn tail from damage. The salt,
//! random per segment, is part of every checksum, so that a payload cannot imitate a record.

use std::hash::{BuildHasher, RandomState};

pub(crate) const SEGMENT_HEAD: usize = 28;
pub(crate) const RECORD_HEAD: usize = 32;
const SEGMENT_MAGIC: [u8; 8] = *b"CLSTLOG1";
pub(crate) const RECORD_MAGIC: [u8; 4] = *b"CLSr";

/// First sequence and salt of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHead {
    pub(crate) first: u64,
    pub(crate) salt: u64,
}

impl SegmentHead {
    pub(crate) fn new(first: u64) -> Self {
        // Not a secret, only unpredictable to whoever writes payloads.
        Self {
            first,
            salt: RandomState::new().hash_one(first),
        }
    }

    pub(crate) fn encode(self) -> [u8; SEGMENT_HEAD] {
        let mut out = Vec::with_capacity(SEGMENT_HEAD);
        out.extend_from_slice(&SEGMENT_MAGIC);
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.salt.to_le_bytes());
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        let mut bytes = [0; SEGMENT_HEAD];
        bytes.copy_from_slice(&out);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let body = bytes.get(..SEGMENT_HEAD - 4)?;
        let crc = u32_at(bytes, SEGMENT_HEAD - 4)?;
        if body.get(..8)? != SEGMENT_MAGIC || crc32c::crc32c(body) != crc {
            return None;
        }
        Some(Self {
            first: u64_at(bytes, 8)?,
            salt: u64_at(bytes, 16)?,
        })
    }
}

/// Head of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHead {
    pub(crate) length: u32,
    pub(crate) sequence: u64,
    pub(crate) batch: u64,
    payload_crc: u32,
}

impl RecordHead {
    /// Appends head and payload to `out`.
    pub(crate) fn encode(salt: u64, sequence: u64, batch: u64, payload: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&RECORD_MAGIC);
        out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        out.extend_from_slice(&sequence.to_le_bytes());
        out.extend_from_slice(&batch.to_le_bytes());
        let head = out.get(start..).unwrap_or_default();
        let head_crc = crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), head);
        out.extend_from_slice(&head_crc.to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c_append(head_crc, payload).to_le_bytes());
        out.extend_from_slice(payload);
    }

    /// The head, if its checksum is right.
    pub(crate) fn decode(salt: u64, bytes: &[u8]) -> Option<Self> {
        let body = bytes.get(..RECORD_HEAD - 8)?;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), body);
        if body.get(..4)? != RECORD_MAGIC || u32_at(bytes, RECORD_HEAD - 8)? != crc {
            return None;
        }
        Some(Self {
            length: u32_at(bytes, 4)?,
            sequence: u64_at(bytes, 8)?,
            batch: u64_at(bytes, 16)?,
            payload_crc: u32_at(bytes, RECORD_HEAD - 4)?,
        })
    }

    /// True if `payload` is what this head was written for.
    pub(crate) fn matches(&self, salt: u64, payload: &[u8]) -> bool {
        let mut body = Vec::with_capacity(RECORD_HEAD - 8);
        body.extend_from_slice(&RECORD_MAGIC);
        body.extend_from_slice(&self.length.to_le_bytes());
        body.extend_from_slice(&self.sequence.to_le_bytes());
        body.extend_from_slice(&self.batch.to_le_bytes());
        let head_crc = crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), &body);
        payload.len() == self.length as usize
            && crc32c::crc32c_append(head_crc, payload) == self.payload_crc
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(
        bytes.get(at..at.checked_add(8)?)?.try_into().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_record_survives_its_encoding_and_no_flipped_bit_does(
            salt: u64, sequence: u64, batch: u64,
            payload in prop::collection::vec(any::<u8>(), 0..64),
            flip in any::<prop::sample::Index>(),
        ) {
            let mut bytes = Vec::new();
            RecordHead::encode(salt, sequence, batch, &payload, &mut bytes);
            let head = RecordHead::decode(salt, &bytes).unwrap();
            prop_assert_eq!((head.sequence, head.batch), (sequence, batch));
            prop_assert!(head.matches(salt, &bytes[RECORD_HEAD..]));
            let bit = flip.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let whole = RecordHead::decode(salt, &bytes)
                .is_some_and(|head| head.matches(salt, &bytes[RECORD_HEAD..]));
            prop_assert!(!whole);
        }

        #[test]
        fn decoding_arbitrary_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(SegmentHead::decode(&bytes).is_none());
            prop_assert!(RecordHead::decode(7, &bytes).is_none());
        }
    }

    #[test]
    fn segment_head_survives_its_encoding() {
        let head = SegmentHead::new(42);
        assert_eq!(SegmentHead::decode(&head.encode()), Some(head));
    }
}
