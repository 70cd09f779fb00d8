//! Protocol data units of the upper layer (PS3.8 section 9.3).

use bytes::{Buf as _, Bytes};

use crate::request::Request;

/// Type, reserved byte and length.
pub const HEADER_BYTES: usize = 6;
/// Longest A-ASSOCIATE-RQ: 128 presentation contexts with two dozen transfer syntaxes each fit.
const MAX_REQUEST_BYTES: u32 = 256 << 10;
/// Some senders ignore the length that we declare. So much more is taken from them.
const TOLERATED_PDU_BYTES: u32 = 1 << 20;

/// Why bytes are no PDU that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PduError {
    /// No type of PDU that may come now: HTTP, TLS or HL7, for example.
    #[error("not DICOM")]
    Garbage,
    /// A PDU whose inside is not as the standard says.
    #[error("a PDU is malformed")]
    Malformed,
    /// Longer than its type may be.
    #[error("a PDU is longer than allowed")]
    TooLong,
}

/// What came.
#[derive(Debug)]
pub enum Incoming {
    /// A-ASSOCIATE-RQ.
    Associate(Box<Request>),
    /// P-DATA-TF.
    Data(Values),
    /// A-RELEASE-RQ.
    Release,
    /// A-ABORT.
    Abort,
    /// The body of an A-ASSOCIATE-AC, which only an acceptor sends.
    Accepted(Bytes),
    /// Any other PDU that only an acceptor sends.
    Unexpected,
}

/// Where an association stands, and so what may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// A peer has connected: a request.
    Accepting,
    /// We have asked for the association: an answer.
    Calling,
    /// It stands: anything.
    Associated,
}

/// A presentation data value.
#[derive(Debug, Clone)]
pub struct DataValue {
    /// Number of the presentation context.
    pub context: u8,
    /// Part of a command set; otherwise of a data set.
    pub command: bool,
    /// The last fragment of its set.
    pub last: bool,
    /// The fragment.
    pub data: Bytes,
}

/// Length in bytes of what follows the header of the PDU at the front, as soon as it is known to be
/// acceptable; `None` while that cannot be said. The first byte alone tells HTTP, TLS and HL7 from
/// DICOM. `max_pdu_bytes` is what we declared.
///
/// # Errors
/// [`PduError::Garbage`] and [`PduError::TooLong`].
pub fn length(buffer: &[u8], phase: Phase, max_pdu_bytes: u32) -> Result<Option<usize>, PduError> {
    let Some(kind) = buffer.first() else {
        return Ok(None);
    };
    let expected = match phase {
        Phase::Accepting => matches!(kind, 1 | 7),
        Phase::Calling => matches!(kind, 2 | 3 | 7),
        Phase::Associated => (1..=7).contains(kind),
    };
    if !expected {
        return Err(PduError::Garbage);
    }
    let Some(&[_, _, a, b, c, d]) = buffer.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]);
    let longest = match kind {
        1 | 2 => MAX_REQUEST_BYTES,
        4 => max_pdu_bytes.max(TOLERATED_PDU_BYTES),
        _ => 4,
    };
    if length > longest {
        return Err(PduError::TooLong);
    }
    Ok(Some(length as usize))
}

/// Reads one whole PDU, header included.
///
/// # Errors
/// [`PduError::Malformed`].
pub fn decode(mut pdu: Bytes) -> Result<Incoming, PduError> {
    let kind = pdu.first().copied();
    if pdu.len() < HEADER_BYTES {
        return Err(PduError::Malformed);
    }
    pdu.advance(HEADER_BYTES);
    match kind {
        Some(1) => match Request::parse(pdu) {
            Ok(request) => Ok(Incoming::Associate(Box::new(request))),
            Err(_) => Err(PduError::Malformed),
        },
        Some(2) => Ok(Incoming::Accepted(pdu)),
        Some(3 | 6) => Ok(Incoming::Unexpected),
        Some(4) if pdu.is_empty() => Err(PduError::Malformed),
        Some(4) => Ok(Incoming::Data(Values(pdu))),
        Some(5) if pdu.len() == 4 => Ok(Incoming::Release),
        Some(7) => Ok(Incoming::Abort),
        _ => Err(PduError::Malformed),
    }
}

/// The presentation data values of a P-DATA-TF (PS3.8 section 9.3.5.1): length, context, control
/// header, data; not copied, and read one by one, or a PDU of empty values would cost many times
/// its length.
#[derive(Debug)]
pub struct Values(Bytes);

impl Iterator for Values {
    type Item = Result<DataValue, PduError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        Some(self.value().ok_or_else(|| {
            self.0.clear();
            PduError::Malformed
        }))
    }
}

impl Values {
    fn value(&mut self) -> Option<DataValue> {
        if self.0.len() < 6 {
            return None;
        }
        let length = self.0.get_u32() as usize;
        if length < 2 || length > self.0.len() {
            return None;
        }
        let mut value = self.0.split_to(length);
        let (context, control) = (value.get_u8(), value.get_u8());
        Some(DataValue {
            context,
            command: control & 1 == 1,
            last: control & 2 == 2,
            data: value,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::fuzzing;

    proptest! {
        #[test]
        fn no_stream_of_bytes_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            fuzzing::pdu(&bytes);
        }

        #[test]
        fn no_pdu_makes_it_panic(kind in 0u8..9, body in proptest::collection::vec(any::<u8>(), 0..400)) {
            let length = (body.len() as u32).to_be_bytes();
            fuzzing::pdu(&[&[1, kind, 0][..], &length, &body].concat());
        }
    }
}
