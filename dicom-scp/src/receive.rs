//! First step: associations on the DIMSE ports, and STOW-RS. After it stands `store`.
//!
//! Limits bound what a peer can cost: connections in all and per address, time for the handshake
//! and the request, for each PDU and for the whole association, PDU and object size, objects per
//! association. Memory of an association is one PDU and two batches, whatever the object's size.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cloister_audit::merge::Merger;
use cloister_audit::{Action, Actor, Reason};
use cloister_phi::AeTitle;
use cloister_runtime::Shutdown;
use cloister_tls::Server;
use dicom_ul::pdu::{
    AssociationRJ, AssociationRJResult,
    AssociationRJServiceProviderPresentationReason as Presentation, AssociationRJSource, Pdu,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::config::{ReceiveConfig, StowConfig};
use crate::metric::{self, Ended};
use crate::relay::Office;
use crate::store::Store;

mod association;
pub(crate) mod dataset;
pub(crate) mod negotiate;
pub(crate) mod object;
mod peers;
pub(crate) mod socket;
mod storage_classes;
mod stow;
mod tls;
pub(crate) mod wire;

use association::Caller;
use peers::{Peers, Place};
use socket::Socket;
use wire::Wire;

/// Retired in 2006 (PS3.5 annex A.3) and still sent.
pub(crate) const EXPLICIT_VR_BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";
/// What the STOW-RS port speaks (RFC 7301).
pub(crate) const STOW_ALPN: &[&[u8]] = &[b"http/1.1"];
/// Peers over the limit that are told so at a time; the others are just closed.
const TURNED_AWAY: usize = 32;

/// What every connection needs.
#[derive(Debug)]
pub(crate) struct Reception {
    pub(crate) config: ReceiveConfig,
    pub(crate) store: Store,
    pub(crate) merger: Merger,
    /// Where Storage Commitment is relayed; absent, its SOP class is not negotiated.
    pub(crate) relay: Option<Arc<Office>>,
}

impl Reception {
    /// Puts a failure on record, merged. Only a title of the configuration names the peer: with any
    /// other a peer could make up a new one, and a new record, each time.
    fn note(&self, peer: IpAddr, calling: Option<&AeTitle>, action: Action, reason: Reason) {
        match calling.filter(|calling| self.config.names(calling)) {
            Some(calling) => self
                .merger
                .note_by(Actor::ae_title(calling), action, reason),
            None => self.merger.note(peer, action, reason),
        }
    }
}

/// A port.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) listener: TcpListener,
    pub(crate) kind: Kind,
}

/// What is spoken on a port.
#[derive(Debug)]
pub(crate) enum Kind {
    Dimse,
    DimseTls(Server),
    Stow(Server, StowConfig),
}

impl Kind {
    /// In `ready.json`.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Dimse => "dimse",
            Self::DimseTls(_) => "dimse_tls",
            Self::Stow(..) => "stow",
        }
    }
}

/// Accepts on every port until `shutdown`, then waits for what was begun, for `grace` at most.
pub(crate) async fn listen(
    reception: Reception,
    doors: Vec<Door>,
    shutdown: Shutdown,
    grace: Duration,
) {
    raise_open_files();
    let peers = Peers::new(
        reception.config.max_connections,
        reception.config.max_connections_per_peer,
    );
    let hall = Arc::new(Hall {
        reception: Arc::new(reception),
        peers,
        turning_away: Arc::new(Semaphore::new(TURNED_AWAY)),
        connections: TaskTracker::new(),
        shutdown,
    });
    let accepting = TaskTracker::new();
    for door in doors {
        accepting.spawn(accept(Arc::clone(&hall), door));
    }
    accepting.close();
    accepting.wait().await;
    hall.connections.close();
    if tokio::time::timeout(grace, hall.connections.wait())
        .await
        .is_err()
    {
        tracing::warn!("Associations were cut off at the end of the grace time.");
    }
}

/// A socket and a file for each connection do not fit the usual soft limit of 1,024.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "The limit of open files cannot be raised.");
    }
}

/// What the ports share.
struct Hall {
    reception: Arc<Reception>,
    peers: Peers,
    turning_away: Arc<Semaphore>,
    connections: TaskTracker,
    shutdown: Shutdown,
}

async fn accept(hall: Arc<Hall>, door: Door) {
    let kind = Arc::new(door.kind);
    loop {
        let accepted = tokio::select! {
            () = hall.shutdown.cancelled() => return,
            accepted = door.listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok((stream, peer)) => (stream, canonical(peer)),
            Err(error) => {
                // Out of file descriptors: others have to close first.
                tracing::warn!(%error, "A connection cannot be accepted.");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Without it a response waits for the acknowledgement of the one before.
        drop(stream.set_nodelay(true));
        let Some(place) = hall.peers.place(peer) else {
            hall.full(&kind, stream, peer);
            continue;
        };
        let (hall, kind) = (Arc::clone(&hall), Arc::clone(&kind));
        let connections = hall.connections.clone();
        connections.spawn(async move {
            let open = metric::Open::new();
            let reception = Arc::clone(&hall.reception);
            tokio::select! {
                () = connection(&hall, &kind, stream, peer, &place) => {}
                () = place.evicted() => {
                    metric::association(Ended::Limited);
                    reception.note(
                        peer,
                        None,
                        Action::AssociationRefused,
                        Reason::TooManyAssociations,
                    );
                }
            }
            drop((open, place));
        });
    }
}

impl Hall {
    fn full(&self, kind: &Kind, stream: TcpStream, peer: IpAddr) {
        metric::association(Ended::Limited);
        self.reception.note(
            peer,
            None,
            Action::AssociationRefused,
            Reason::TooManyAssociations,
        );
        // Over TLS it would take a handshake to say so.
        if matches!(kind, Kind::Dimse)
            && let Ok(permit) = Arc::clone(&self.turning_away).try_acquire_owned()
        {
            let wire = Wire::new(Socket::Plain(stream), self.reception.config.max_pdu_bytes);
            self.connections.spawn(async move {
                turn_away(wire).await;
                drop(permit);
            });
        }
    }
}

/// From the handshake, where there is one, to the last byte.
async fn connection(hall: &Hall, kind: &Kind, stream: TcpStream, peer: IpAddr, place: &Place) {
    let reception = Arc::clone(&hall.reception);
    let deadline = Instant::now() + reception.config.request_timeout;
    let server = match kind {
        Kind::Dimse => None,
        Kind::DimseTls(server) | Kind::Stow(server, _) => Some(server),
    };
    let (socket, shown) = match server {
        None => (Socket::Plain(stream), None),
        Some(server) => match tls::shake(server, stream, deadline).await {
            Ok((stream, shown)) => (Socket::Tls(stream), Some(shown)),
            Err(reason) => {
                metric::association(Ended::Handshake);
                reception.note(peer, None, Action::ConnectionRefused, reason);
                return;
            }
        },
    };
    if let (Kind::Stow(_, config), Some(shown)) = (kind, &shown) {
        let shutdown = hall.shutdown.clone();
        return stow::serve(reception, socket, peer, config, shown, place, shutdown).await;
    }
    let caller = Caller {
        socket,
        peer,
        shown,
        deadline,
    };
    association::serve(reception, caller, place, hall.shutdown.clone()).await;
}

fn canonical(peer: SocketAddr) -> IpAddr {
    peer.ip().to_canonical()
}

/// A-ASSOCIATE-RJ, transient, local limit exceeded (PS3.8 table 9-21).
async fn turn_away(mut wire: Wire) {
    let source = AssociationRJSource::ServiceProviderPresentation(Presentation::LocalLimitExceeded);
    let answer = AssociationRJ {
        result: AssociationRJResult::Transient,
        source,
    };
    wire.send(&Pdu::AssociationRJ(answer)).await.ok();
    wire.close().await;
}
