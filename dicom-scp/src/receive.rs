//! First step: associations on the DIMSE port. After it stands `store`.
//!
//! Limits bound what a peer can cost: connections in all and per address, time for the request, for
//! each PDU and for the whole association, PDU and object size, objects per association. Memory of
//! an association is one PDU and one chunk, whatever the object's size.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cloister_audit::merge::Merger;
use cloister_audit::{Action, AuditLog, Reason};
use cloister_runtime::Shutdown;
use dicom_ul::pdu::{
    AssociationRJ, AssociationRJResult,
    AssociationRJServiceProviderPresentationReason as Presentation, AssociationRJSource, Pdu,
};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::config::ReceiveConfig;
use crate::metric::{self, Ended};
use crate::store::Store;

mod association;
pub(crate) mod command;
pub(crate) mod dataset;
pub(crate) mod negotiate;
pub(crate) mod object;
mod peers;
mod storage_classes;
mod wire;

use peers::Peers;
use wire::Wire;

/// Retired in 2006 (PS3.5 annex A.3) and still sent.
pub(crate) const EXPLICIT_VR_BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";
/// Peers over the limit that are told so at a time; the others are just closed.
const TURNED_AWAY: usize = 32;

/// What every association needs.
#[derive(Debug)]
pub(crate) struct Reception {
    pub(crate) config: ReceiveConfig,
    pub(crate) store: Store,
    pub(crate) audit: AuditLog,
    pub(crate) merger: Merger,
}

/// Accepts until `shutdown`, then waits for what was begun, for `grace` at most.
pub(crate) async fn listen(
    reception: Reception,
    listener: TcpListener,
    shutdown: Shutdown,
    grace: Duration,
) {
    let reception = Arc::new(reception);
    let peers = Peers::new(
        reception.config.max_connections,
        reception.config.max_connections_per_peer,
    );
    let turning_away = Arc::new(Semaphore::new(TURNED_AWAY));
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
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
        let Some(place) = peers.place(peer) else {
            metric::association(Ended::Limited);
            reception.merger.note(
                peer,
                Action::AssociationRefused,
                Reason::TooManyAssociations,
            );
            if let Ok(permit) = Arc::clone(&turning_away).try_acquire_owned() {
                let max_pdu_bytes = reception.config.max_pdu_bytes;
                tasks.spawn(async move {
                    turn_away(Wire::new(stream, max_pdu_bytes)).await;
                    drop(permit);
                });
            }
            continue;
        };
        let (reception, shutdown) = (Arc::clone(&reception), shutdown.clone());
        tasks.spawn(async move {
            let open = metric::Open::new();
            association::serve(reception, stream, peer, shutdown).await;
            drop((open, place));
        });
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(grace, tasks.wait()).await.is_err() {
        tracing::warn!("Associations were cut off at the end of the grace time.");
    }
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
