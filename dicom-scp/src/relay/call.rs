//! An association that we ask for: to the archive, and to a modality that has an address.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use bytes::{Buf as _, Bytes};
use cloister_phi::AeTitle;
use cloister_tls::{Binding, Client, TlsError};
use dicom_ul::pdu::{AbortRQServiceProviderReason as Abort, Pdu};
use rustls::CertificateError;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, timeout_at};
use tokio_rustls::TlsConnector;

use crate::error::SpoolError;
use crate::receive::negotiate::{
    APPLICATION_CONTEXT, IMPLEMENTATION_CLASS, IMPLEMENTATION_VERSION, put,
};
use crate::receive::socket::Socket;
use crate::receive::wire::{Wire, WireError};
use cloister_dimse::command::{Command, MAX_COMMAND_BYTES};
use cloister_dimse::pdu::{DataValue, Incoming};
use cloister_dimse::request::item;

/// Longest PDU that we take: answers are short.
const MAX_PDU_BYTES: u32 = 64 << 10;
/// Odd numbers of a byte, less the one for Storage Commitment.
pub(super) const MOST_CONTEXTS: usize = 126;

/// Why a call came to nothing. No identifiers.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("the connection cannot be made: {0}")]
    Connect(#[source] io::Error),
    #[error("the TLS files cannot be used: {0}")]
    Tls(#[from] TlsError),
    #[error("the name is none for TLS")]
    Name,
    #[error("the certificate is not the one of the configuration")]
    Identity,
    #[error("the association is refused")]
    Refused,
    #[error("the peer does not take part in Storage Commitment as we need it")]
    NoCommitment,
    #[error("the peer: {0}")]
    Wire(#[from] WireError),
    #[error("the peer breaks the protocol")]
    Protocol,
    #[error("the peer answers {0:04X}H")]
    Status(u16),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("the audit log refuses")]
    Audit,
}

/// Who is called, and as whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Callee<'a> {
    /// `host:port`.
    pub(super) address: &'a str,
    pub(super) called: &'a AeTitle,
    pub(super) calling: &'a AeTitle,
    /// With TLS, and then only to a holder of one of these.
    pub(super) tls: Option<(&'a Client, &'a [Binding])>,
    pub(super) timeout: Duration,
}

/// A presentation context that we propose.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Proposal {
    pub(super) class: String,
    pub(super) syntaxes: Vec<String>,
}

/// A message from the other end.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) context: u8,
    pub(super) command: Command,
    pub(super) data: Vec<u8>,
}

/// An open association.
#[derive(Debug)]
pub(super) struct Call {
    wire: Wire,
    /// Transfer syntax by context, of those accepted.
    accepted: BTreeMap<u8, String>,
    /// Roles that the peer gives us, as SCP.
    scp_of: Vec<String>,
    timeout: Duration,
    message: u16,
    pending: VecDeque<DataValue>,
}

impl Call {
    /// Connects and associates. Context n proposes the n-th of `proposals`: see [`Call::context`].
    /// With `as_scp` we would be SCP of that class.
    pub(super) async fn open(
        callee: Callee<'_>,
        proposals: &[Proposal],
        as_scp: Option<&str>,
    ) -> Result<Self, CallError> {
        let deadline = Instant::now() + callee.timeout;
        let socket = timeout_at(deadline, connect(callee))
            .await
            .unwrap_or_else(|_| Err(CallError::Connect(io::ErrorKind::TimedOut.into())))?;
        let mut wire = Wire::calling(socket, MAX_PDU_BYTES);
        wire.write(&request(callee, proposals, as_scp)).await?;
        let answer = match wire.read(deadline).await? {
            Incoming::Accepted(body) => Answer::parse(body).ok_or(CallError::Protocol)?,
            _ => return Err(CallError::Refused),
        };
        wire.associated(answer.max_pdu_bytes);
        Ok(Self {
            wire,
            accepted: proposed(answer.accepted, proposals),
            scp_of: answer.scp_of,
            timeout: callee.timeout,
            message: 0,
            pending: VecDeque::new(),
        })
    }

    /// Context and transfer syntax of the n-th proposal, if it was accepted.
    pub(super) fn context(&self, proposal: usize) -> Option<(u8, &str)> {
        let id = number(proposal)?;
        let syntax = self.accepted.get(&id)?;
        Some((id, syntax))
    }

    pub(super) fn is_scp_of(&self, class: &str) -> bool {
        self.scp_of.iter().any(|other| other == class)
    }

    /// The number of the next message.
    pub(super) fn next_message(&mut self) -> u16 {
        self.message = self.message.wrapping_add(1).max(1);
        self.message
    }

    pub(super) async fn command(&mut self, context: u8, command: &[u8]) -> Result<(), CallError> {
        Ok(self.wire.respond(context, command).await?)
    }

    pub(super) async fn data(
        &mut self,
        context: u8,
        data: &[u8],
        last: bool,
    ) -> Result<(), CallError> {
        Ok(self.wire.data(context, data, last).await?)
    }

    /// The next whole message, with at most `most` bytes of data.
    pub(super) async fn message(
        &mut self,
        deadline: Instant,
        most: usize,
    ) -> Result<Message, CallError> {
        let mut bytes = Vec::new();
        let context = loop {
            let value = self.value(deadline).await?;
            if !value.command || bytes.len() + value.data.len() > MAX_COMMAND_BYTES {
                return Err(CallError::Protocol);
            }
            bytes.extend_from_slice(&value.data);
            if value.last {
                break value.context;
            }
        };
        let command = Command::parse(&bytes).map_err(|_| CallError::Protocol)?;
        let mut data = Vec::new();
        let mut more = command.has_data_set;
        while more {
            let value = self.value(deadline).await?;
            let wrong = value.command || value.context != context;
            if wrong || data.len() + value.data.len() > most {
                return Err(CallError::Protocol);
            }
            data.extend_from_slice(&value.data);
            more = !value.last;
        }
        Ok(Message {
            context,
            command,
            data,
        })
    }

    /// The status that answers our message. Nothing else may come first.
    pub(super) async fn status(&mut self, message: u16) -> Result<u16, CallError> {
        let deadline = Instant::now() + self.timeout;
        let answer = self.message(deadline, 0).await?;
        let is_response = answer.command.field & cloister_dimse::command::RESPONSE != 0;
        if !is_response || answer.command.message_id != message {
            return Err(CallError::Protocol);
        }
        Ok(answer.command.status)
    }

    async fn value(&mut self, deadline: Instant) -> Result<DataValue, CallError> {
        while self.pending.is_empty() {
            match self.wire.read(deadline).await? {
                Incoming::Data(values) => {
                    for value in values {
                        self.pending.push_back(value.map_err(WireError::from)?);
                    }
                }
                _ => return Err(CallError::Protocol),
            }
        }
        self.pending.pop_front().ok_or(CallError::Protocol)
    }

    /// Releases; a peer that does not answer has nothing to lose.
    pub(super) async fn release(mut self) {
        let deadline = Instant::now() + self.timeout.min(Duration::from_secs(5));
        if self.wire.send(&Pdu::ReleaseRQ).await.is_ok() {
            drop(self.wire.read(deadline).await);
        }
        self.wire.close().await;
    }

    pub(super) async fn abort(self) {
        self.wire.abort(Abort::ReasonNotSpecified).await;
    }
}

async fn connect(callee: Callee<'_>) -> Result<Socket, CallError> {
    let tcp = TcpStream::connect(callee.address)
        .await
        .map_err(CallError::Connect)?;
    tcp.set_nodelay(true).map_err(CallError::Connect)?;
    let Some((client, identity)) = callee.tls else {
        return Ok(Socket::Plain(tcp));
    };
    let config = client.config(identity)?;
    let (host, _) = callee.address.rsplit_once(':').ok_or(CallError::Name)?;
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let name = ServerName::try_from(host).map_err(|_| CallError::Name)?;
    let stream = TlsConnector::from(config)
        .connect(name, tcp)
        .await
        .map_err(|error| {
            if is_stranger(&error) {
                CallError::Identity
            } else {
                CallError::Connect(error)
            }
        })?;
    Ok(Socket::Called(Box::new(stream)))
}

/// Accepted in a transfer syntax that we proposed for it: bytes in one syntax under the name of another
/// are no image any more.
fn proposed(accepted: BTreeMap<u8, String>, proposals: &[Proposal]) -> BTreeMap<u8, String> {
    let mut accepted = accepted;
    accepted.retain(|id, syntax| {
        let mut numbered = proposals.iter().enumerate();
        let known = numbered
            .any(|(at, proposal)| number(at) == Some(*id) && proposal.syntaxes.contains(syntax));
        if !known {
            tracing::warn!(id, "A peer accepts what was not proposed.");
        }
        known
    });
    accepted
}

/// Whether the certificate is good, and somebody else's.
fn is_stranger(error: &io::Error) -> bool {
    let stranger = CertificateError::ApplicationVerificationFailure;
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    inner == Some(&rustls::Error::InvalidCertificate(stranger))
}

/// 1, 3, 5, … (PS3.8 table 9-13).
fn number(proposal: usize) -> Option<u8> {
    u8::try_from(proposal.checked_mul(2)?.checked_add(1)?).ok()
}

/// A-ASSOCIATE-RQ (PS3.8 section 9.3.2).
fn request(callee: Callee<'_>, proposals: &[Proposal], as_scp: Option<&str>) -> Vec<u8> {
    let mut user = Vec::new();
    put(&mut user, 0x51, &MAX_PDU_BYTES.to_be_bytes());
    put(&mut user, 0x52, IMPLEMENTATION_CLASS.as_bytes());
    if let Some(class) = as_scp {
        let length = (class.len() as u16).to_be_bytes();
        put(
            &mut user,
            0x54,
            &[&length[..], class.as_bytes(), &[0, 1]].concat(),
        );
    }
    put(&mut user, 0x55, IMPLEMENTATION_VERSION.as_bytes());
    let mut body = vec![0, 1, 0, 0];
    for title in [callee.called, callee.calling] {
        let mut field = title.as_str().as_bytes().to_vec();
        field.resize(16, b' ');
        body.extend_from_slice(&field);
    }
    body.extend_from_slice(&[0; 32]);
    put(&mut body, 0x10, APPLICATION_CONTEXT.as_bytes());
    for (at, proposal) in proposals.iter().enumerate() {
        let Some(id) = number(at) else { break };
        let mut context = vec![id, 0, 0, 0];
        put(&mut context, 0x30, proposal.class.as_bytes());
        for syntax in &proposal.syntaxes {
            put(&mut context, 0x40, syntax.as_bytes());
        }
        put(&mut body, 0x20, &context);
    }
    put(&mut body, 0x50, &user);
    let mut pdu = vec![1, 0];
    pdu.extend_from_slice(&(body.len() as u32).to_be_bytes());
    pdu.extend_from_slice(&body);
    pdu
}

/// What of an A-ASSOCIATE-AC counts (PS3.8 section 9.3.3).
#[derive(Debug, Default)]
struct Answer {
    accepted: BTreeMap<u8, String>,
    scp_of: Vec<String>,
    max_pdu_bytes: u32,
}

impl Answer {
    fn parse(mut body: Bytes) -> Option<Self> {
        // Protocol version, titles and reserved fields say nothing that counts.
        (body.len() >= 68).then(|| body.advance(68))?;
        let text = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes).ok()?;
            Some(text.trim_end_matches(['\0', ' ']).to_owned())
        };
        let mut answer = Self::default();
        while let Some((kind, mut value)) = item(&mut body).ok()? {
            match kind {
                0x21 => {
                    (value.len() >= 4).then_some(())?;
                    let (id, _, result, _) = (
                        value.get_u8(),
                        value.get_u8(),
                        value.get_u8(),
                        value.get_u8(),
                    );
                    let Some((0x40, syntax)) = item(&mut value).ok()? else {
                        continue;
                    };
                    if result == 0 {
                        answer.accepted.insert(id, text(&syntax)?);
                    }
                }
                0x50 => {
                    while let Some((kind, mut value)) = item(&mut value).ok()? {
                        match kind {
                            0x51 if value.len() == 4 => answer.max_pdu_bytes = value.get_u32(),
                            0x54 if value.len() >= 4 => {
                                let length = usize::from(value.get_u16());
                                (value.len() == length + 2).then_some(())?;
                                let class = text(&value.split_to(length))?;
                                value.advance(1);
                                if value.get_u8() == 1 {
                                    answer.scp_of.push(class);
                                }
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use cloister_dimse::request::Request;

    #[test]
    fn what_we_ask_for_is_what_a_receiver_reads() {
        let (called, calling) = (AeTitle::parse("A").unwrap(), AeTitle::parse("B").unwrap());
        let callee = Callee {
            address: "localhost:1",
            called: &called,
            calling: &calling,
            tls: None,
            timeout: Duration::from_secs(1),
        };
        let proposal = |class: &str| Proposal {
            class: class.to_owned(),
            syntaxes: vec!["1.2".to_owned(), "1.2.1".to_owned()],
        };
        let pdu = request(callee, &[proposal("1.5"), proposal("1.6")], Some("1.6"));
        let read = Request::parse(Bytes::from(pdu).slice(6..)).unwrap();
        assert_eq!(&read.called, b"A               ");
        assert_eq!(&read.calling, b"B               ");
        let contexts: Vec<_> = read
            .contexts
            .iter()
            .map(|one| (one.id, one.transfer_syntaxes().count()))
            .collect();
        assert_eq!(contexts, [(1, 2), (3, 2)]);
        assert!(read.roles[0].scp && !read.roles[0].scu);
    }

    #[tokio::test]
    async fn a_context_that_is_accepted_in_another_syntax_than_proposed_is_none() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut body = vec![0; 68];
        for (id, syntax) in [(1, "1.2.1"), (3, "1.2.2"), (5, "1.2"), (9, "1.2")] {
            let mut context = vec![id, 0, 0, 0];
            put(&mut context, 0x40, syntax.as_bytes());
            put(&mut body, 0x21, &context);
        }
        let mut answer = vec![2, 0];
        answer.extend_from_slice(&(body.len() as u32).to_be_bytes());
        answer.extend_from_slice(&body);
        let peer = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(&answer).await.unwrap();
            // Held until the caller hangs up.
            stream.read_to_end(&mut Vec::new()).await.ok();
        });
        let (called, calling) = (AeTitle::parse("A").unwrap(), AeTitle::parse("B").unwrap());
        let callee = Callee {
            address: &address,
            called: &called,
            calling: &calling,
            tls: None,
            timeout: Duration::from_secs(20),
        };
        let proposal = || Proposal {
            class: "1.5".to_owned(),
            syntaxes: vec!["1.2".to_owned(), "1.2.1".to_owned()],
        };
        let call = Call::open(callee, &[proposal(), proposal(), proposal()], None).await;
        let call = call.unwrap();
        assert_eq!(call.context(0), Some((1, "1.2.1")));
        assert_eq!(call.context(1), None, "never proposed");
        assert_eq!(call.context(2), Some((5, "1.2")));
        assert_eq!(call.context(4), None, "no such context");
        call.abort().await;
        peer.await.unwrap();
    }

    #[tokio::test]
    async fn over_tls_only_the_holder_of_the_configured_certificate_is_called() {
        use cloister_tls::issue::Authority;
        use cloister_tls::{ClientFiles, Profile, Role, Server, ServerFiles, SpiffeId, TlsFiles};
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let authority = Authority::generate("test", 1).unwrap();
        let public = |name: &str, text: &str| {
            cloister_log::durable::write_atomic(&at(name), text.as_bytes(), 0o644).unwrap();
        };
        public("ca.crt", authority.ca_pem());
        let files = |name: &str| {
            let id = SpiffeId::new("example.org", Role::Modality, name).unwrap();
            // As `cloister pki modality issue` does: no name that one could dial.
            let issued = authority.issue(&id, &[], &[], 1).unwrap();
            public(&format!("{name}.crt"), &issued.cert_pem);
            let key = at(&format!("{name}.key"));
            cloister_seal::files::write_secret(&key, issued.key_pem.as_bytes()).unwrap();
            TlsFiles {
                certificate: at(&format!("{name}.crt")),
                key,
                peer_ca: at("ca.crt"),
            }
        };
        let tls = files("archive");
        let server = Server::load(ServerFiles { tls, crl: None }, Profile::Dimse, &[]).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let listening = tokio::spawn(async move {
            let acceptor = tokio_rustls::TlsAcceptor::from(server.config().unwrap());
            // Hangs up as soon as it knows who calls.
            while let Ok((stream, _)) = listener.accept().await {
                drop(acceptor.accept(stream).await);
            }
        });
        let (tls, crl) = (files("gateway"), None);
        let client = Client::load(ClientFiles { tls, crl }, Profile::Dimse).unwrap();
        let (called, calling) = (AeTitle::parse("A").unwrap(), AeTitle::parse("B").unwrap());
        for (identity, known) in [
            ("spiffe://example.org/modality/archive", true),
            ("spiffe://example.org/modality/other", false),
            ("dns:pacs.example", false),
        ] {
            let identity = [identity.parse().unwrap()];
            let callee = Callee {
                address: &address,
                called: &called,
                calling: &calling,
                tls: Some((&client, &identity)),
                timeout: Duration::from_secs(20),
            };
            let error = Call::open(callee, &[], None).await.unwrap_err();
            assert_eq!(!matches!(error, CallError::Identity), known, "{error}");
            assert!(!matches!(error, CallError::Connect(_)), "{error}");
        }
        listening.abort();
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(Answer::parse(bytes.into()));
        }
    }
}
