//! PDUs on a socket (PS3.8 section 9.3): how long one may be, how long it may take and when to give
//! up is decided here. A claimed length allocates nothing: the buffer grows with bytes that really
//! came.

use bytes::BytesMut;
use cloister_dimse::pdu::{self, HEADER_BYTES, Incoming, PduError, Phase};
use dicom_ul::pdu::{AbortRQServiceProviderReason, AbortRQSource, Pdu, write_pdu};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Duration, Instant, timeout_at};

use super::socket::Socket;

/// Room for one read: of a stranger, and of a sender.
const FIRST_READ_BYTES: usize = 4 << 10;
const READ_BYTES: usize = 128 << 10;
/// Data of one PDU where the peer takes any length.
const DATA_BYTES: usize = 64 << 10;
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

impl From<PduError> for WireError {
    fn from(error: PduError) -> Self {
        match error {
            PduError::Garbage => Self::Garbage,
            PduError::Malformed => Self::Malformed,
            PduError::TooLong => Self::TooLong,
        }
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: Socket,
    buffer: BytesMut,
    max_pdu_bytes: u32,
    /// Longest PDU that the peer takes.
    peer_max_bytes: u32,
    phase: Phase,
    exceeded: bool,
}

impl Wire {
    pub(crate) fn new(socket: Socket, max_pdu_bytes: u32) -> Self {
        Self {
            socket,
            buffer: BytesMut::new(),
            max_pdu_bytes,
            peer_max_bytes: u32::MAX,
            phase: Phase::Accepting,
            exceeded: false,
        }
    }

    /// The first PDU to come is an answer.
    pub(crate) fn calling(socket: Socket, max_pdu_bytes: u32) -> Self {
        Self {
            phase: Phase::Calling,
            ..Self::new(socket, max_pdu_bytes)
        }
    }

    /// From now on P-DATA may come, and goes in PDUs of at most `peer_max_bytes` (0 = any).
    pub(crate) fn associated(&mut self, peer_max_bytes: u32) {
        self.phase = Phase::Associated;
        if peer_max_bytes > 0 {
            self.peer_max_bytes = peer_max_bytes;
        }
    }

    /// The next PDU, whole before `deadline`.
    pub(crate) async fn read(&mut self, deadline: Instant) -> Result<Incoming, WireError> {
        self.read_in(deadline, None).await
    }

    /// The next PDU: its first byte before `deadline`, and whole before `each` has passed since.
    pub(crate) async fn read_begun(
        &mut self,
        deadline: Instant,
        each: Duration,
    ) -> Result<Incoming, WireError> {
        self.read_in(deadline, Some(each)).await
    }

    async fn read_in(
        &mut self,
        mut deadline: Instant,
        mut each: Option<Duration>,
    ) -> Result<Incoming, WireError> {
        loop {
            if let Some(length) = self.length()?
                && self.buffer.len() >= HEADER_BYTES + length
            {
                let pdu = self.buffer.split_to(HEADER_BYTES + length).freeze();
                return Ok(pdu::decode(pdu)?);
            }
            if !self.buffer.is_empty()
                && let Some(each) = each.take()
            {
                deadline = deadline.min(Instant::now() + each);
            }
            self.socket.quickack();
            let room = if self.phase == Phase::Associated {
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

    /// Length of the PDU at the front, as soon as it is known to be acceptable.
    fn length(&mut self) -> Result<Option<usize>, WireError> {
        let length = pdu::length(&self.buffer, self.phase, self.max_pdu_bytes)?;
        let exceeds = length.is_some_and(|length| length > self.max_pdu_bytes as usize);
        if exceeds && self.phase == Phase::Associated && !self.exceeded {
            self.exceeded = true;
            tracing::warn!(
                length,
                "A sender exceeds the PDU length that was agreed on."
            );
        }
        Ok(length)
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

#[cfg(test)]
mod tests {
    use super::*;

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
