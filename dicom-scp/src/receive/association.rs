//! One association from its first byte to its last.

use std::net::IpAddr;
use std::sync::Arc;

use cloister_audit::{Action, Reason};
use cloister_phi::AeTitle;
use cloister_runtime::Shutdown;
use cloister_tls::Shown;
use dicom_ul::pdu::{AbortRQServiceProviderReason as Abort, Pdu};
use tokio::time::Instant;

use super::Reception;
use super::negotiate::{Negotiated, negotiate};
use super::object::{Announced, Receiving};
use super::peers::Place;
use super::socket::Socket;
use super::wire::{Wire, WireError};
use crate::metric::{self, Answered, Ended};
use crate::relay::{Asker, Claim, MAX_REFERENCES_BYTES};
use crate::store;
use cloister_dimse::command::{
    C_CANCEL_RQ, C_ECHO_RQ, C_STORE_RQ, Command, MAX_COMMAND_BYTES, N_ACTION_RQ, N_EVENT_REPORT_RQ,
    RESPONSE, Status,
};
use cloister_dimse::pdu::{DataValue, Incoming};

/// Why an association ends, and what is said about it.
struct End {
    ended: Ended,
    abort: Option<Abort>,
    reason: Option<Reason>,
}

impl End {
    const fn quiet(ended: Ended) -> Self {
        Self {
            ended,
            abort: None,
            reason: None,
        }
    }

    const fn abort(ended: Ended, abort: Abort, reason: Reason) -> Self {
        Self {
            ended,
            abort: Some(abort),
            reason: Some(reason),
        }
    }
}

impl From<WireError> for End {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Closed => Self::quiet(Ended::Closed),
            WireError::Cut | WireError::Socket => Self {
                ended: Ended::Closed,
                abort: None,
                reason: Some(Reason::AssociationAborted),
            },
            WireError::Garbage => {
                Self::abort(Ended::Garbage, Abort::UnrecognizedPdu, Reason::NotDicom)
            }
            WireError::Malformed => {
                Self::abort(Ended::Protocol, Abort::InvalidPduParameter, Reason::BadPdu)
            }
            WireError::TooLong => Self::abort(
                Ended::Protocol,
                Abort::InvalidPduParameter,
                Reason::TooLarge,
            ),
            WireError::TimedOut => Self::abort(
                Ended::TimedOut,
                Abort::ReasonNotSpecified,
                Reason::AssociationTimeout,
            ),
        }
    }
}

const UNEXPECTED: End = End::abort(Ended::Protocol, Abort::UnexpectedPdu, Reason::BadPdu);

/// A connection that may become an association.
pub(super) struct Caller {
    pub(super) socket: Socket,
    pub(super) peer: IpAddr,
    /// The verified certificate on the TLS port.
    pub(super) shown: Option<Shown>,
    /// When the A-ASSOCIATE-RQ must have come, the handshake included.
    pub(super) deadline: Instant,
}

/// Serves one connection.
pub(super) async fn serve(
    reception: Arc<Reception>,
    caller: Caller,
    place: &Place,
    shutdown: Shutdown,
) {
    let Caller {
        socket,
        peer,
        shown,
        deadline,
    } = caller;
    let mut wire = Wire::new(socket, reception.config.max_pdu_bytes);
    let mut calling = None;
    let ended = match associate(&reception, &mut wire, peer, shown.as_ref(), deadline).await {
        Ok(Ok(negotiated)) => {
            place.keep();
            calling = Some(negotiated.calling.clone());
            let over_tls = shown.is_some();
            converse(
                &reception,
                &mut wire,
                peer,
                over_tls,
                &shutdown,
                &negotiated,
            )
            .await
        }
        Ok(Err(ended)) => Ok(ended),
        Err(end) => Err(end),
    };
    let end = ended.map_or_else(|end| end, End::quiet);
    metric::association(end.ended);
    if let Some(reason) = end.reason {
        reception.note(peer, calling.as_ref(), Action::AssociationRefused, reason);
    }
    match end.abort {
        Some(abort) => wire.abort(abort).await,
        None => wire.close().await,
    }
}

/// From the first byte to the answer: an association, or how it ended before it began.
async fn associate(
    reception: &Reception,
    wire: &mut Wire,
    peer: IpAddr,
    shown: Option<&Shown>,
    deadline: Instant,
) -> Result<Result<Negotiated, Ended>, End> {
    let request = match wire.read(deadline).await? {
        Incoming::Associate(request) => request,
        Incoming::Abort => return Ok(Err(Ended::Aborted)),
        _ => return Err(UNEXPECTED),
    };
    match negotiate(&request, &reception.config, shown) {
        Ok(mut negotiated) => {
            wire.write(&std::mem::take(&mut negotiated.answer)).await?;
            wire.associated(negotiated.peer_max_bytes);
            Ok(Ok(negotiated))
        }
        Err(refused) => {
            reception.note(peer, None, Action::AssociationRefused, refused.reason);
            wire.send(&Pdu::AssociationRJ(refused.answer)).await?;
            Ok(Err(Ended::Rejected))
        }
    }
}

async fn converse(
    reception: &Reception,
    wire: &mut Wire,
    peer: IpAddr,
    over_tls: bool,
    shutdown: &Shutdown,
    negotiated: &Negotiated,
) -> Result<Ended, End> {
    let config = &reception.config;
    let whole = Instant::now() + config.association_timeout;
    let mut talk = Talk::new(reception, negotiated, peer, over_tls);
    loop {
        // Whoever was promised a report may wait for it, but not in the middle of something.
        let deadline = if talk.awaits_report && talk.is_idle() {
            whole
        } else {
            whole.min(Instant::now() + config.idle_timeout)
        };
        let incoming = tokio::select! {
            // What was begun is finished: the sender needs its answer. The wait is bounded.
            () = shutdown.cancelled(), if talk.is_idle() => {
                return Err(End { ended: Ended::Shutdown, abort: Some(Abort::ReasonNotSpecified), reason: None });
            }
            claim = talk.report_due(), if talk.may_report() => {
                talk.report(wire, claim).await?;
                continue;
            }
            incoming = wire.read_begun(deadline, config.idle_timeout) => incoming?,
        };
        match incoming {
            Incoming::Data(values) => {
                for value in values {
                    let value = value.map_err(WireError::from)?;
                    talk.take(wire, value).await?;
                }
            }
            Incoming::Release if talk.is_idle() => {
                wire.send(&Pdu::ReleaseRP).await?;
                return Ok(Ended::Released);
            }
            Incoming::Abort => {
                return Err(End {
                    ended: Ended::Aborted,
                    abort: None,
                    reason: talk.interrupted(),
                });
            }
            _ => return Err(UNEXPECTED),
        }
    }
}

/// The DIMSE conversation on an association.
struct Talk<'a> {
    reception: &'a Reception,
    negotiated: &'a Negotiated,
    peer: IpAddr,
    over_tls: bool,
    calling: Arc<AeTitle>,
    objects: u32,
    /// What became of a Storage Commitment request, told and not answered yet.
    reporting: Option<Claim>,
    /// The peer has asked for commitment here and was not told yet.
    awaits_report: bool,
    state: State,
}

enum State {
    /// Fragments of a command.
    Command { context: u8, bytes: Vec<u8> },
    /// Fragments of the data set of a C-STORE.
    Store {
        context: u8,
        command: Command,
        receiving: Box<Receiving>,
    },
    /// Fragments of the data set of an N-service: kept, because it is small and not stored as it is.
    Commitment {
        context: u8,
        command: Command,
        bytes: Vec<u8>,
        most: usize,
    },
    /// Fragments of a data set that nobody wants.
    Discard {
        context: u8,
        command: Command,
        status: Status,
    },
}

impl<'a> Talk<'a> {
    fn new(
        reception: &'a Reception,
        negotiated: &'a Negotiated,
        peer: IpAddr,
        over_tls: bool,
    ) -> Self {
        let calling = Arc::new(negotiated.calling.clone());
        Self {
            reception,
            negotiated,
            peer,
            over_tls,
            calling,
            objects: 0,
            reporting: None,
            awaits_report: false,
            state: idle(),
        }
    }

    fn is_idle(&self) -> bool {
        matches!(&self.state, State::Command { bytes, .. } if bytes.is_empty())
    }

    /// Where the peer asks for commitment, and not the other way round.
    fn commitment_context(&self) -> Option<u8> {
        let class = dicom_dictionary_std::uids::STORAGE_COMMITMENT_PUSH_MODEL;
        let mut contexts = self.negotiated.contexts.iter();
        let context = contexts.find(|(_, context)| context.abstract_syntax == class)?;
        (!self.negotiated.from_archive).then_some(*context.0)
    }

    fn is_told_here(&self) -> bool {
        let office = self.reception.relay.as_ref();
        office.is_some_and(|office| office.config.address(&self.calling).is_none())
    }

    fn may_report(&self) -> bool {
        self.is_idle() && self.reporting.is_none() && self.commitment_context().is_some()
    }

    /// Resolves when there is something to tell this peer.
    async fn report_due(&self) -> Claim {
        match &self.reception.relay {
            Some(office) => office.due(&self.calling).await,
            None => std::future::pending().await,
        }
    }

    async fn report(&mut self, wire: &mut Wire, claim: Claim) -> Result<(), End> {
        let (Some(office), Some(context)) = (&self.reception.relay, self.commitment_context())
        else {
            return Ok(());
        };
        let implicit = self.is_implicit(context);
        // What cannot be opened is logged there, and told nobody.
        let Some(event) = office.event(&claim, implicit) else {
            return Ok(());
        };
        wire.respond(context, &event.command(1)).await?;
        wire.data(context, event.data_set(), true).await?;
        self.reporting = Some(claim);
        Ok(())
    }

    fn is_implicit(&self, context: u8) -> bool {
        let context = self.negotiated.contexts.get(&context);
        context.is_none_or(|context| {
            context.transfer_syntax == dicom_dictionary_std::uids::IMPLICIT_VR_LITTLE_ENDIAN
        })
    }

    /// An answer: only the one to our report can be.
    async fn answered(&mut self, command: &Command) -> Result<(), End> {
        let ours = command.field == N_EVENT_REPORT_RQ | RESPONSE && !command.has_data_set;
        match (self.reporting.take(), &self.reception.relay) {
            (Some(claim), Some(office)) if ours => {
                office.told(claim, command.status).await;
                self.awaits_report = false;
                Ok(())
            }
            _ => Err(UNEXPECTED),
        }
    }

    fn interrupted(&self) -> Option<Reason> {
        (!self.is_idle()).then_some(Reason::AssociationAborted)
    }

    async fn take(&mut self, wire: &mut Wire, value: DataValue) -> Result<(), End> {
        match &mut self.state {
            State::Command { context, bytes } => {
                let starts = bytes.is_empty();
                if !value.command || (!starts && *context != value.context) {
                    return Err(UNEXPECTED);
                }
                if bytes.len() + value.data.len() > MAX_COMMAND_BYTES {
                    return Err(WireError::TooLong.into());
                }
                *context = value.context;
                bytes.extend_from_slice(&value.data);
                if value.last {
                    let command =
                        Command::parse(bytes).map_err(|_| End::from(WireError::Malformed))?;
                    self.begin(wire, value.context, command).await?;
                }
                Ok(())
            }
            State::Store { context, .. }
            | State::Discard { context, .. }
            | State::Commitment { context, .. }
                if value.command || *context != value.context =>
            {
                Err(UNEXPECTED)
            }
            State::Store { receiving, .. } => {
                receiving.push(&value.data).await;
                if value.last {
                    self.finish(wire).await
                } else {
                    Ok(())
                }
            }
            State::Commitment { bytes, most, .. } => {
                if bytes.len() + value.data.len() > *most {
                    return Err(WireError::TooLong.into());
                }
                bytes.extend_from_slice(&value.data);
                if value.last {
                    self.finish(wire).await
                } else {
                    Ok(())
                }
            }
            State::Discard { .. } if value.last => self.finish(wire).await,
            State::Discard { .. } => Ok(()),
        }
    }

    async fn begin(&mut self, wire: &mut Wire, context: u8, command: Command) -> Result<(), End> {
        self.state = idle();
        let Some(accepted) = self.negotiated.contexts.get(&context) else {
            return Err(UNEXPECTED);
        };
        let verification = accepted.abstract_syntax == dicom_dictionary_std::uids::VERIFICATION;
        let commitment =
            accepted.abstract_syntax == dicom_dictionary_std::uids::STORAGE_COMMITMENT_PUSH_MODEL;
        match command.field {
            C_ECHO_RQ if verification && !command.has_data_set => {
                wire.respond(context, &command.response(Status::Success))
                    .await?;
            }
            N_ACTION_RQ | N_EVENT_REPORT_RQ if commitment && command.has_data_set => {
                self.state = match self.longest(command.field).await {
                    Ok(most) => State::Commitment {
                        context,
                        command,
                        bytes: Vec::new(),
                        most,
                    },
                    Err(status) => State::Discard {
                        context,
                        command,
                        status,
                    },
                };
            }
            C_STORE_RQ if !verification && !commitment && command.has_data_set => {
                self.objects += 1;
                let config = &self.reception.config;
                if self.objects > config.max_objects {
                    return Err(End::abort(
                        Ended::Limited,
                        Abort::ReasonNotSpecified,
                        Reason::RateLimited,
                    ));
                }
                let spool = &self.reception.store.spool;
                let receiving = Receiving::start(
                    Announced::by(&command, accepted),
                    &self.calling,
                    config.max_object_bytes,
                    spool,
                );
                self.state = State::Store {
                    context,
                    command,
                    receiving: Box::new(receiving),
                };
            }
            C_CANCEL_RQ if !command.has_data_set => {}
            field if field & RESPONSE != 0 => self.answered(&command).await?,
            _ => {
                let status = Status::UnrecognizedOperation;
                if command.has_data_set {
                    self.state = State::Discard {
                        context,
                        command,
                        status,
                    };
                } else {
                    wire.respond(context, &command.response(status)).await?;
                }
            }
        }
        Ok(())
    }

    /// How much of an N-service's data set is kept. Of what this peer may not say, nothing.
    async fn longest(&self, field: u16) -> Result<usize, Status> {
        let Some(office) = &self.reception.relay else {
            return Err(Status::UnrecognizedOperation);
        };
        if field == N_ACTION_RQ {
            return Ok(office.request_bytes());
        }
        let asker = Asker {
            peer: self.peer,
            over_tls: self.over_tls,
            role: self.negotiated.from_archive,
        };
        if office.is_archive(asker).await {
            return Ok(MAX_REFERENCES_BYTES);
        }
        self.reception.note(
            self.peer,
            Some(&self.calling),
            Action::CommitmentHeard,
            Reason::CallingAeTitle,
        );
        Err(Status::NotAuthorized)
    }

    async fn finish(&mut self, wire: &mut Wire) -> Result<(), End> {
        let started = std::time::Instant::now();
        let (context, command, status) = match std::mem::replace(&mut self.state, idle()) {
            State::Command { .. } => return Err(UNEXPECTED),
            State::Discard {
                context,
                command,
                status,
            } => (context, command, status),
            State::Commitment {
                context,
                command,
                bytes,
                ..
            } => {
                let status = self.commitment(context, &command, &bytes).await;
                let asked = command.field == N_ACTION_RQ && status == Status::Success;
                self.awaits_report |= asked && self.is_told_here();
                (context, command, status)
            }
            State::Store {
                context,
                command,
                receiving,
            } => {
                let (answered, status) = match receiving.finish().await {
                    Ok(received) => store::store(&self.reception.store, received).await,
                    Err(status) => (answered(status), status),
                };
                metric::object(answered, started.elapsed());
                if status != Status::Success {
                    self.refused(status);
                }
                (context, command, status)
            }
        };
        wire.respond(context, &command.response(status)).await?;
        Ok(())
    }

    /// An N-ACTION of a modality, or an N-EVENT-REPORT of the archive.
    async fn commitment(&self, context: u8, command: &Command, bytes: &[u8]) -> Status {
        let Some(office) = &self.reception.relay else {
            return Status::UnrecognizedOperation;
        };
        let implicit = self.is_implicit(context);
        if command.field == N_ACTION_RQ {
            let status = office.asked(&self.calling, command, bytes, implicit).await;
            if status != Status::Success {
                self.reception.note(
                    self.peer,
                    Some(&self.calling),
                    Action::CommitmentRequested,
                    reason(status),
                );
            }
            return status;
        }
        // Nothing of a report was kept from anybody but the archive.
        office.heard(command, bytes, implicit).await
    }

    /// The object is refused in any case; merged, or a broken modality fills the audit log.
    fn refused(&self, status: Status) {
        let calling = Some(&*self.calling);
        self.reception
            .note(self.peer, calling, Action::ObjectRefused, reason(status));
    }
}

/// For the audit log.
pub(super) fn reason(status: Status) -> Reason {
    match status {
        Status::DataSetMismatch => Reason::UidMismatch,
        Status::CannotUnderstand
        | Status::InvalidSopInstance
        | Status::InvalidArgument
        | Status::NoSuchAction
        | Status::NoSuchInstance => Reason::Malformed,
        Status::SopClassNotSupported => Reason::UnsupportedSopClass,
        Status::TransferSyntaxNotSupported => Reason::UnknownTransferSyntax,
        Status::Full => Reason::StorageFull,
        Status::TooLarge | Status::ResourceLimitation => Reason::TooLarge,
        _ => Reason::StorageFailed,
    }
}

fn idle() -> State {
    State::Command {
        context: 0,
        bytes: Vec::new(),
    }
}

pub(super) fn answered(status: Status) -> Answered {
    match status {
        Status::DataSetMismatch => Answered::Mismatch,
        Status::CannotUnderstand => Answered::Unparseable,
        Status::OutOfResources | Status::Full | Status::TooLarge => Answered::OutOfResources,
        _ => Answered::Refused,
    }
}
