//! PDUs on a socket (PS3.8 section 9.3): how long one may be, how long it may take and when to give
//! up is decided here. A claimed length allocates nothing: the buffer grows with bytes that really
//! came.

use bytes::{Buf as _, Bytes, BytesMut};
use dicom_ul::pdu::{AbortRQServiceProviderReason, AbortRQSource, Pdu, write_pdu};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Duration, Instant, timeout_at};

use super::request::Request;
use super::socket::Socket;

/// Longest A-ASSOCIATE-RQ: 128 presentation contexts with two dozen transfer syntaxes each fit.
const MAX_REQUEST_BYTES: u32 = 256 << 10;
/// Some senders ignore the length that we declare. So much more is taken from them.
const TOLERATED_PDU_BYTES: u32 = 1 << 20;
const HEADER_BYTES: usize = 6;
/// Room for one read: of a stranger, and of a sender.
const FIRST_READ_BYTES: usize = 4 << 10;
const READ_BYTES: usize = 128 << 10;
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
    Associate(Box<Request>),
    Data(Values),
    Release,
    Abort,
    /// The body of an A-ASSOCIATE-AC, which only an acceptor sends.
    Accepted(Bytes),
    /// Any other PDU that only an acceptor sends.
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
    socket: Socket,
    buffer: BytesMut,
    max_pdu_bytes: u32,
    /// Longest PDU that the peer takes.
    peer_max_bytes: u32,
    associated: bool,
    /// We have asked for the association.
    calling: bool,
    exceeded: bool,
}

/// Data of one PDU where the peer takes any length.
const DATA_BYTES: usize = 64 << 10;

impl Wire {
    pub(crate) fn new(socket: Socket, max_pdu_bytes: u32) -> Self {
        Self {
            socket,
            buffer: BytesMut::new(),
            max_pdu_bytes,
            peer_max_bytes: u32::MAX,
            associated: false,
            calling: false,
            exceeded: false,
        }
    }

    /// The first PDU to come is an answer.
    pub(crate) fn calling(socket: Socket, max_pdu_bytes: u32) -> Self {
        Self {
            calling: true,
            ..Self::new(socket, max_pdu_bytes)
        }
    }

    /// From now on P-DATA may come, and goes in PDUs of at most `peer_max_bytes` (0 = any).
    pub(crate) fn associated(&mut self, peer_max_bytes: u32) {
        self.associated = true;
        if peer_max_bytes > 0 {
            self.peer_max_bytes = peer_max_bytes;
        }
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
            self.socket.quickack();
            let room = if self.associated {
                READ_BYTES
            } else {
                FIRST_READ_BYTES
            };
            self.buffer.reserve(room);
            let read = timeout_at(deadline, self.socket.read_buf(&mut self.buffer)).await;
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
    fn length(&mut self) -> Result<Option<usize>, WireError> {
        let Some(kind) = self.buffer.first() else {
            return Ok(None);
        };
        let expected = if self.associated {
            (1..=7).contains(kind)
        } else if self.calling {
            matches!(kind, 2 | 3 | 7)
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
            4 => self.max_pdu_bytes.max(TOLERATED_PDU_BYTES),
            _ => 4,
        };
        if length > longest {
            return Err(WireError::TooLong);
        }
        if *kind == 4 && length > self.max_pdu_bytes && !self.exceeded {
            self.exceeded = true;
            tracing::warn!(
                length,
                "A sender exceeds the PDU length that was agreed on."
            );
        }
        Ok(Some(length as usize))
    }

    /// Sends a PDU in one write.
    pub(crate) async fn send(&mut self, pdu: &Pdu) -> Result<(), WireError> {
        let mut bytes = Vec::with_capacity(16);
        write_pdu(&mut bytes, pdu).map_err(|_| WireError::Malformed)?;
        self.write(&bytes).await
    }

    /// Sends a command set in one write: as one P-DATA-TF, or as many as the peer's length asks for.
    pub(crate) async fn respond(&mut self, context: u8, command: &[u8]) -> Result<(), WireError> {
        // Fragments have an even number of bytes (PS3.8 annex E.1), behind six of their own.
        let most = (self.peer_max_bytes as usize).saturating_sub(6) & !1;
        if most == 0 {
            return Err(WireError::Malformed);
        }
        let mut bytes = Vec::with_capacity(command.len() + 12);
        let mut left = command.len();
        for part in command.chunks(most) {
            left -= part.len();
            // Message control header (PS3.8 annex E.2): 1 = command, 2 = last fragment.
            let control = if left == 0 { 3 } else { 1 };
            bytes.extend_from_slice(&[4, 0]);
            bytes.extend_from_slice(&(part.len() as u32 + 6).to_be_bytes());
            bytes.extend_from_slice(&(part.len() as u32 + 2).to_be_bytes());
            bytes.extend_from_slice(&[context, control]);
            bytes.extend_from_slice(part);
        }
        self.write(&bytes).await
    }

    /// Sends a piece of a data set. `last` only with the last one.
    pub(crate) async fn data(
        &mut self,
        context: u8,
        data: &[u8],
        last: bool,
    ) -> Result<(), WireError> {
        let most = (self.peer_max_bytes as usize)
            .saturating_sub(6)
            .min(DATA_BYTES)
            & !1;
        if most == 0 {
            return Err(WireError::Malformed);
        }
        let mut left = data.len();
        for part in data.chunks(most) {
            left -= part.len();
            let control = if left == 0 && last { 2 } else { 0 };
            let mut bytes = Vec::with_capacity(part.len() + 12);
            bytes.extend_from_slice(&[4, 0]);
            bytes.extend_from_slice(&(part.len() as u32 + 6).to_be_bytes());
            bytes.extend_from_slice(&(part.len() as u32 + 2).to_be_bytes());
            bytes.extend_from_slice(&[context, control]);
            bytes.extend_from_slice(part);
            self.write(&bytes).await?;
        }
        Ok(())
    }

    /// Sends whole PDUs in one write.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        let writing = async {
            self.socket.write_all(bytes).await?;
            self.socket.flush().await
        };
        match timeout_at(Instant::now() + WRITE_TIMEOUT, writing).await {
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
        let deadline = Instant::now() + LINGER;
        drop(timeout_at(deadline, self.socket.shutdown()).await);
        let mut left = LINGER_BYTES;
        let mut sink = vec![0; 4096];
        while let Ok(Ok(read)) = timeout_at(deadline, self.socket.read(&mut sink)).await {
            left = left.saturating_sub(read);
            if read == 0 || left == 0 {
                break;
            }
        }
    }
}

fn decode(mut pdu: Bytes) -> Result<Incoming, WireError> {
    let kind = pdu.first().copied();
    if pdu.len() < HEADER_BYTES {
        return Err(WireError::Malformed);
    }
    pdu.advance(HEADER_BYTES);
    match kind {
        Some(1) => match Request::parse(pdu) {
            Ok(request) => Ok(Incoming::Associate(Box::new(request))),
            Err(_) => Err(WireError::Malformed),
        },
        Some(2) => Ok(Incoming::Accepted(pdu)),
        Some(3 | 6) => Ok(Incoming::Unexpected),
        Some(4) if pdu.is_empty() => Err(WireError::Malformed),
        Some(4) => Ok(Incoming::Data(Values(pdu))),
        Some(5) if pdu.len() == 4 => Ok(Incoming::Release),
        Some(7) => Ok(Incoming::Abort),
        _ => Err(WireError::Malformed),
    }
}

/// The presentation data values of a P-DATA-TF (PS3.8 section 9.3.5.1): length, context, control
/// header, data; not copied, and read one by one, or a PDU of empty values would cost many times
/// its length.
#[derive(Debug)]
pub(crate) struct Values(Bytes);

impl Iterator for Values {
    type Item = Result<DataValue, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        Some(self.value().ok_or_else(|| {
            self.0.clear();
            WireError::Malformed
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

    use super::*;

    proptest! {
        #[test]
        fn no_pdu_makes_it_panic(kind in 0u8..9, body in proptest::collection::vec(any::<u8>(), 0..400)) {
            let length = (body.len() as u32).to_be_bytes();
            let pdu = [&[kind, 0][..], &length, &body].concat();
            if let Ok(Incoming::Data(values)) = decode(pdu.into()) {
                let read: usize = values.flatten().map(|value| value.data.len() + 6).sum();
                prop_assert!(read <= body.len());
            }
        }
    }

    #[tokio::test]
    async fn a_claimed_length_allocates_nothing_and_ends_the_reading() {
        for head in [
            [1, 0, 0xFF, 0xFF, 0xFF, 0xF0],
            [4, 0, 0xFF, 0xFF, 0xFF, 0xFF],
            [4, 0, 0, 0x20, 0, 0],
            [5, 0, 0, 0, 0, 5],
        ] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let mut peer = tokio::net::TcpStream::connect(address).await.unwrap();
            let (socket, _) = listener.accept().await.unwrap();
            peer.write_all(&head).await.unwrap();
            let mut wire = Wire::new(Socket::Plain(socket), 1 << 17);
            if head[0] != 1 {
                wire.associated(0);
            }
            let deadline = Instant::now() + Duration::from_secs(20);
            assert_eq!(wire.read(deadline).await.unwrap_err(), WireError::TooLong);
            assert!(wire.buffer.capacity() <= 256 << 10);
        }
    }
}
