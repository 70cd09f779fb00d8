//! PDUs on a socket (PS3.8 section 9.3). dicom-ul decodes and encodes them; how long one may be,
//! how long it may take and when to give up is decided here. A claimed length allocates nothing:
//! the buffer grows with bytes that really came.

use bytes::{Buf as _, Bytes, BytesMut};
use dicom_ul::pdu::{AbortRQServiceProviderReason, AbortRQSource, Pdu, read_pdu, write_pdu};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, timeout_at};

/// Longest A-ASSOCIATE-RQ: 128 presentation contexts with two dozen transfer syntaxes each fit.
const MAX_REQUEST_BYTES: u32 = 256 << 10;
const HEADER_BYTES: usize = 6;
const READ_BYTES: usize = 64 << 10;
/// How long an answer may take to leave.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long, and how much, is read from a peer that was turned away: closing with unread bytes
/// would reset the connection and the peer would lose our last PDU.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 256 << 10;

/// Why reading stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("closed between PDUs")]
    Closed,
    #[error("closed inside a PDU")]
    Cut,
    #[error("not DICOM")]
    Garbage,
    #[error("a PDU is malformed")]
    Malformed,
    #[error("a PDU is longer than allowed")]
    TooLong,
    #[error("too slow")]
    TimedOut,
    #[error("the socket failed")]
    Socket,
}

/// What came.
#[derive(Debug)]
pub(crate) enum Incoming {
    Associate(Box<dicom_ul::pdu::AssociationRQ>),
    Data(Vec<DataValue>),
    Release,
    Abort,
    /// A PDU that only an acceptor sends.
    Unexpected,
}

/// A presentation data value.
#[derive(Debug, Clone)]
pub(crate) struct DataValue {
    pub(crate) context: u8,
    pub(crate) command: bool,
    pub(crate) last: bool,
    pub(crate) data: Bytes,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: BytesMut,
    max_pdu_bytes: u32,
    associated: bool,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, max_pdu_bytes: u32) -> Self {
        // Without it a response waits for the acknowledgement of the one before.
        drop(stream.set_nodelay(true));
        Self {
            stream,
            buffer: BytesMut::new(),
            max_pdu_bytes,
            associated: false,
        }
    }

    /// From now on P-DATA may come.
    pub(crate) fn associated(&mut self) {
        self.associated = true;
    }

    /// The next PDU, whole before `deadline`.
    pub(crate) async fn read(&mut self, deadline: Instant) -> Result<Incoming, WireError> {
        loop {
            if let Some(length) = self.length()?
                && self.buffer.len() >= HEADER_BYTES + length
            {
                let pdu = self.buffer.split_to(HEADER_BYTES + length).freeze();
                return decode(pdu);
            }
            self.quickack();
            self.buffer.reserve(READ_BYTES);
            let read = timeout_at(deadline, self.stream.read_buf(&mut self.buffer)).await;
            match read {
                Err(_) => return Err(WireError::TimedOut),
                Ok(Err(_)) => return Err(WireError::Socket),
                Ok(Ok(0)) if self.buffer.is_empty() => return Err(WireError::Closed),
                Ok(Ok(0)) => return Err(WireError::Cut),
                Ok(Ok(_)) => {}
            }
        }
    }

    /// Length of the PDU at the front, as soon as it is known to be acceptable. The first byte
    /// alone tells HTTP, TLS and HL7 from DICOM.
    fn length(&self) -> Result<Option<usize>, WireError> {
        let Some(kind) = self.buffer.first() else {
            return Ok(None);
        };
        let expected = if self.associated {
            (1..=7).contains(kind)
        } else {
            matches!(kind, 1 | 7)
        };
        if !expected {
            return Err(WireError::Garbage);
        }
        let Some(&[_, _, a, b, c, d]) = self.buffer.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]);
        let longest = match kind {
            1 | 2 => MAX_REQUEST_BYTES,
            4 => self.max_pdu_bytes,
            _ => 4,
        };
        if length > longest {
            return Err(WireError::TooLong);
        }
        Ok(Some(length as usize))
    }

    fn quickack(&self) {
        // Stock senders wait for an acknowledgement before the second half of a message; the
        // kernel would delay it by 40 ms. It forgets the option, so it is set before every read.
        drop(socket2::SockRef::from(&self.stream).set_tcp_quickack(true));
    }

    /// Sends a PDU in one write.
    pub(crate) async fn send(&mut self, pdu: &Pdu) -> Result<(), WireError> {
        let mut bytes = Vec::with_capacity(512);
        write_pdu(&mut bytes, pdu).map_err(|_| WireError::Malformed)?;
        self.write(&bytes).await
    }

    /// Sends a command set as one P-DATA-TF PDU in one write.
    pub(crate) async fn respond(&mut self, context: u8, command: &[u8]) -> Result<(), WireError> {
        let value = (command.len() as u32 + 2).to_be_bytes();
        let length = (command.len() as u32 + 6).to_be_bytes();
        // Message control header 3: command, last fragment (PS3.8 annex E.2).
        let bytes = [&[4, 0][..], &length, &value, &[context, 3], command].concat();
        self.write(&bytes).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        match timeout_at(Instant::now() + WRITE_TIMEOUT, self.stream.write_all(bytes)).await {
            Err(_) => Err(WireError::TimedOut),
            Ok(written) => written.map_err(|_| WireError::Socket),
        }
    }

    /// Sends A-ABORT and closes.
    pub(crate) async fn abort(mut self, reason: AbortRQServiceProviderReason) {
        let source = AbortRQSource::ServiceProvider(reason);
        self.send(&Pdu::AbortRQ { source }).await.ok();
        self.close().await;
    }

    /// Closes so that the peer can still read what was sent.
    pub(crate) async fn close(mut self) {
        drop(self.stream.shutdown().await);
        let deadline = Instant::now() + LINGER;
        let mut left = LINGER_BYTES;
        let mut sink = vec![0; 4096];
        while let Ok(Ok(read)) = timeout_at(deadline, self.stream.read(&mut sink)).await {
            left = left.saturating_sub(read);
            if read == 0 || left == 0 {
                break;
            }
        }
    }
}

fn decode(pdu: Bytes) -> Result<Incoming, WireError> {
    match pdu.first() {
        Some(4) => return values(pdu.slice(HEADER_BYTES..)).map(Incoming::Data),
        Some(2 | 3 | 6) => return Ok(Incoming::Unexpected),
        Some(7) => return Ok(Incoming::Abort),
        _ => {}
    }
    match read_pdu(pdu, MAX_REQUEST_BYTES, true) {
        Ok(Some(Pdu::AssociationRQ(request))) => Ok(Incoming::Associate(Box::new(request))),
        Ok(Some(Pdu::ReleaseRQ)) => Ok(Incoming::Release),
        _ => Err(WireError::Malformed),
    }
}

/// PS3.8 section 9.3.5.1: length, context, control header, data; not copied.
fn values(mut body: Bytes) -> Result<Vec<DataValue>, WireError> {
    let mut values = Vec::new();
    while !body.is_empty() {
        if body.len() < 6 {
            return Err(WireError::Malformed);
        }
        let length = body.get_u32() as usize;
        if length < 2 || length > body.len() {
            return Err(WireError::Malformed);
        }
        let mut value = body.split_to(length);
        let (context, control) = (value.get_u8(), value.get_u8());
        values.push(DataValue {
            context,
            command: control & 1 == 1,
            last: control & 2 == 2,
            data: value,
        });
    }
    if values.is_empty() {
        Err(WireError::Malformed)
    } else {
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_pdu_makes_it_panic(kind in 0u8..9, body in proptest::collection::vec(any::<u8>(), 0..400)) {
            let length = (body.len() as u32).to_be_bytes();
            let pdu = [&[kind, 0][..], &length, &body].concat();
            drop(decode(pdu.into()));
        }

        #[test]
        fn no_association_request_makes_it_panic(cut in 0usize..300, at in 0usize..300, byte in any::<u8>()) {
            let request = Pdu::AssociationRQ(dicom_ul::pdu::AssociationRQ {
                protocol_version: 1,
                calling_ae_title: "A".into(),
                called_ae_title: "B".into(),
                application_context_name: "1.2.840.10008.3.1.1.1".into(),
                presentation_contexts: vec![dicom_ul::pdu::PresentationContextProposed {
                    id: 1,
                    abstract_syntax: "1.2.840.10008.1.1".into(),
                    transfer_syntaxes: vec!["1.2.840.10008.1.2".into()],
                }],
                user_variables: vec![dicom_ul::pdu::UserVariableItem::MaxLength(16384)],
            });
            let mut bytes = Vec::new();
            write_pdu(&mut bytes, &request).unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(bytes.len().saturating_sub(cut / 8));
            let length = (bytes.len().saturating_sub(6) as u32).to_be_bytes();
            if bytes.len() >= 6 {
                bytes[2..6].copy_from_slice(&length);
            }
            drop(decode(bytes.into()));
        }
    }
}
