//! One association from its first byte to its last.

use std::net::IpAddr;
use std::sync::Arc;

use cloister_audit::{Action, Actor, Event, Reason};
use cloister_phi::AeTitle;
use cloister_runtime::Shutdown;
use dicom_ul::pdu::{AbortRQServiceProviderReason as Abort, Pdu};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Reception;
use super::command::{C_CANCEL_RQ, C_ECHO_RQ, C_STORE_RQ, Command, MAX_COMMAND_BYTES, Status};
use super::negotiate::{Negotiated, negotiate};
use super::object::Receiving;
use super::wire::{DataValue, Incoming, Wire, WireError};
use crate::metric::{self, Answered, Ended};
use crate::store;

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

/// Serves one connection.
pub(super) async fn serve(
    reception: Arc<Reception>,
    stream: TcpStream,
    peer: IpAddr,
    shutdown: Shutdown,
) {
    let mut wire = Wire::new(stream, reception.config.max_pdu_bytes);
    let mut calling = None;
    let end = match converse(&reception, &mut wire, peer, &shutdown, &mut calling).await {
        Ok(ended) => End::quiet(ended),
        Err(end) => end,
    };
    metric::association(end.ended);
    if let Some(reason) = end.reason {
        match &calling {
            // Nobody has been identified: merged, or a port scanner fills the audit log.
            None => reception
                .merger
                .note(peer, Action::AssociationRefused, reason),
            Some(calling) => {
                let event = Event::failed(Action::AssociationRefused, reason)
                    .actor(Actor::ae_title(calling));
                if let Err(error) = reception.audit.record(event).await {
                    tracing::error!(%error, "An aborted association is not in the audit log.");
                }
            }
        }
    }
    match end.abort {
        Some(abort) => wire.abort(abort).await,
        None => wire.close().await,
    }
}

async fn converse(
    reception: &Reception,
    wire: &mut Wire,
    peer: IpAddr,
    shutdown: &Shutdown,
    who: &mut Option<AeTitle>,
) -> Result<Ended, End> {
    let config = &reception.config;
    let request = match wire.read(Instant::now() + config.request_timeout).await? {
        Incoming::Associate(request) => request,
        Incoming::Abort => return Ok(Ended::Aborted),
        _ => return Err(UNEXPECTED),
    };
    let negotiated = match negotiate(&request, config) {
        Ok(negotiated) => negotiated,
        Err(refused) => {
            reception
                .merger
                .note(peer, Action::AssociationRefused, refused.reason);
            wire.send(&Pdu::AssociationRJ(refused.answer)).await?;
            return Ok(Ended::Rejected);
        }
    };
    drop(request);
    *who = Some(negotiated.calling.clone());
    wire.send(&Pdu::AssociationAC(negotiated.answer.clone()))
        .await?;
    wire.associated();

    let whole = Instant::now() + config.association_timeout;
    let mut talk = Talk::new(reception, &negotiated);
    loop {
        let deadline = whole.min(Instant::now() + config.idle_timeout);
        let incoming = tokio::select! {
            // What was begun is finished: the sender needs its answer. The wait is bounded.
            () = shutdown.cancelled(), if talk.is_idle() => {
                return Err(End { ended: Ended::Shutdown, abort: Some(Abort::ReasonNotSpecified), reason: None });
            }
            incoming = wire.read(deadline) => incoming?,
        };
        match incoming {
            Incoming::Data(values) => {
                for value in values {
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
    calling: Arc<AeTitle>,
    objects: u32,
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
    /// Fragments of a data set that nobody wants.
    Discard {
        context: u8,
        command: Command,
        status: Status,
    },
}

impl<'a> Talk<'a> {
    fn new(reception: &'a Reception, negotiated: &'a Negotiated) -> Self {
        let calling = Arc::new(negotiated.calling.clone());
        Self {
            reception,
            negotiated,
            calling,
            objects: 0,
            state: idle(),
        }
    }

    fn is_idle(&self) -> bool {
        matches!(&self.state, State::Command { bytes, .. } if bytes.is_empty())
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
            State::Store { context, .. } | State::Discard { context, .. }
                if value.command || *context != value.context =>
            {
                Err(UNEXPECTED)
            }
            State::Store { receiving, .. } => {
                receiving.push(&value.data);
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
        match command.field {
            C_ECHO_RQ if verification && !command.has_data_set => {
                wire.respond(context, &command.response(Status::Success))
                    .await?;
            }
            C_STORE_RQ if !verification && command.has_data_set => {
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
                    &command,
                    accepted,
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

    async fn finish(&mut self, wire: &mut Wire) -> Result<(), End> {
        let started = std::time::Instant::now();
        let (context, command, status) = match std::mem::replace(&mut self.state, idle()) {
            State::Command { .. } => return Err(UNEXPECTED),
            State::Discard {
                context,
                command,
                status,
            } => (context, command, status),
            State::Store {
                context,
                command,
                receiving,
            } => {
                let (answered, status) = match receiving.finish() {
                    Ok(received) => store::store(&self.reception.store, received).await,
                    Err(status) => (answered(status), status),
                };
                metric::object(answered, started.elapsed());
                if status != Status::Success {
                    self.refused(status).await;
                }
                (context, command, status)
            }
        };
        wire.respond(context, &command.response(status)).await?;
        Ok(())
    }

    async fn refused(&self, status: Status) {
        let reason = match status {
            Status::DataSetMismatch => Reason::UidMismatch,
            Status::CannotUnderstand | Status::InvalidSopInstance => Reason::Malformed,
            Status::SopClassNotSupported => Reason::UnsupportedSopClass,
            _ => Reason::StorageFailed,
        };
        let event =
            Event::refused(Action::ObjectRefused, reason).actor(Actor::ae_title(&self.calling));
        if let Err(error) = self.reception.audit.record(event).await {
            // The object is refused in any case.
            tracing::error!(%error, "A refused object is not in the audit log.");
        }
    }
}

fn idle() -> State {
    State::Command {
        context: 0,
        bytes: Vec::new(),
    }
}

fn answered(status: Status) -> Answered {
    match status {
        Status::DataSetMismatch => Answered::Mismatch,
        Status::CannotUnderstand => Answered::Unparseable,
        Status::OutOfResources => Answered::OutOfResources,
        _ => Answered::Refused,
    }
}
