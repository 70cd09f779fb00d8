//! Beside the path: Storage Commitment for modalities, where an archive stands behind us.
//!
//! Every original goes to the archive as it was received (`archive`), and the archive is asked to
//! commit to it; its report (`answer::heard`) is the only thing that makes an object committed. What a
//! modality asks (`answer::asked`) is durable before it is answered, waits until the archive has said
//! something about each of its objects, or for its time, and is told (`report`) what the archive said.
//! Everything is a record of the spool: a kill at any moment leaves what the next start goes on with.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cloister_audit::AuditLog;
use cloister_phi::AeTitle;
use cloister_runtime::Shutdown;
use cloister_tls::{Client, Profile, TlsError};
use tokio::time::Instant;

use crate::config::commitment::RelayConfig;
use crate::error::SpoolError;
use crate::metric;
use crate::spool::record::{Record, now_unix_ms};
use crate::spool::worklist::commitment::{Failure, Load, Question, Relayed, RequestState};
use crate::spool::{Id, Spool};

mod answer;
mod archive;
mod call;
mod original;
mod report;

pub(crate) use answer::Asker;

/// Longest data set of the archive's N-EVENT-REPORT: 50,000 references fit.
pub(crate) const MAX_REFERENCES_BYTES: usize = 8 << 20;
/// Of a modality's N-ACTION, for each reference that it may name: two UIDs of 64 bytes, and the heads
/// of two elements and an item in either VR; and for all else.
const REFERENCE_BYTES: usize = 200;
const REQUEST_BYTES: usize = 4096;
/// The one SOP instance of Storage Commitment (PS3.4 section J.3.5).
const INSTANCE: &str = "1.2.840.10008.1.20.1.1";
/// Requests that are remembered at a time, and references in them: some 200 bytes each. The part of
/// one title is smaller: see [`Office::room`].
const ROOM: Load = Load {
    requests: 10_000,
    references: 1_000_000,
};
/// What is over for so long makes room for others: not faster, or the log grows with every request.
const SETTLED_MS: i64 = 60_000;
/// Objects that late questions may name: with so many the oldest are not believed any more.
const MAX_LATE_OBJECTS: usize = 1_000_000;
/// How long a request that is over is remembered: asked again, it is told the same again.
const REMEMBERED_MS: i64 = 7 * 24 * 3_600_000;
/// Between a change and the look at it: this looks at every object.
const PAUSE: Duration = Duration::from_millis(200);
/// Looked at anyway, for times that are over.
const AGAIN: Duration = Duration::from_secs(15);

/// What the receiving ports and the calls share.
pub(crate) struct Office {
    pub(crate) config: RelayConfig,
    spool: Spool,
    audit: AuditLog,
    tls: Option<Client>,
    started_unix_ms: i64,
    /// One request at a time is compared with those before; one report of the archive is taken down.
    asking: tokio::sync::Mutex<()>,
    hearing: tokio::sync::Mutex<()>,
    /// Reports that somebody is delivering.
    claims: Arc<Mutex<BTreeSet<Id>>>,
    resting: Mutex<HashMap<Id, Rest>>,
}

impl std::fmt::Debug for Office {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Office")
    }
}

/// The sole right to deliver one report, until it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    request: Id,
    claims: Arc<Mutex<BTreeSet<Id>>>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&self.claims).remove(&self.request);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long something that failed is left alone.
#[derive(Debug, Clone, Copy)]
struct Rest {
    until: Instant,
    wait: Duration,
}

impl Rest {
    /// After one more failure.
    fn longer(before: Option<Self>, config: &RelayConfig) -> Self {
        let wait = before.map_or(config.retry_initial, |rest| {
            (rest.wait * 2).min(config.retry_max)
        });
        let until = Instant::now() + crate::pipeline::jittered(wait);
        Self { until, wait }
    }

    fn is_over(self) -> bool {
        self.until <= Instant::now()
    }
}

impl Office {
    /// # Errors
    /// [`TlsError`] when a file of `[commitment.tls]` cannot be used.
    pub(crate) fn open(
        config: RelayConfig,
        spool: Spool,
        audit: AuditLog,
    ) -> Result<Self, TlsError> {
        let tls = config.tls.clone();
        let tls = tls.map(|files| Client::load(files, Profile::Dimse));
        Ok(Self {
            tls: tls.transpose()?,
            config,
            spool,
            audit,
            started_unix_ms: now_unix_ms(),
            asking: tokio::sync::Mutex::default(),
            hearing: tokio::sync::Mutex::default(),
            claims: Arc::default(),
            resting: Mutex::default(),
        })
    }

    async fn append(&self, relayed: Relayed) -> Result<(), SpoolError> {
        let relayed = Box::new(relayed);
        Ok(self.spool.append(Record::Relayed { relayed }).await?)
    }

    fn rests(&self, id: Id) -> bool {
        lock(&self.resting)
            .get(&id)
            .is_some_and(|rest| !rest.is_over())
    }

    fn rest(&self, id: Id) {
        let mut resting = lock(&self.resting);
        let rest = Rest::longer(resting.get(&id).copied(), &self.config);
        resting.insert(id, rest);
    }

    fn woken(&self, id: Id) {
        lock(&self.resting).remove(&id);
    }

    /// The first report that is due to `calling`, and the right to deliver it.
    fn claim(&self, calling: &str) -> Option<Claim> {
        let mut claims = lock(&self.claims);
        let worklist = self.spool.worklist();
        let due = worklist.untold().get(calling)?.iter();
        let mut due = due.filter(|id| !claims.contains(id) && !self.rests(**id));
        let request = *due.next()?;
        claims.insert(request);
        Some(Claim {
            request,
            claims: Arc::clone(&self.claims),
        })
    }

    /// Longest data set that a peer's N-ACTION is worth.
    pub(crate) const fn request_bytes(&self) -> usize {
        self.config.max_references * REFERENCE_BYTES + REQUEST_BYTES
    }

    /// What has to be forgotten before one more request fits, or `None` if it does not fit.
    fn room(&self, calling: &AeTitle, references: usize) -> Option<Vec<Id>> {
        let known = |title: &str| {
            AeTitle::parse(title).is_ok_and(|title| self.config.modalities.contains_key(&title))
        };
        let worklist = self.spool.worklist();
        let before = now_unix_ms() - SETTLED_MS;
        worklist.room_for_request(calling.as_str(), references, ROOM, before, known)
    }

    /// The right to one report, unless somebody has it.
    fn claim_this(&self, request: Id) -> Option<Claim> {
        lock(&self.claims).insert(request).then(|| Claim {
            request,
            claims: Arc::clone(&self.claims),
        })
    }

    /// Resolves when there is something to tell `calling` on an association that it has open.
    pub(crate) async fn due(&self, calling: &AeTitle) -> Claim {
        // Whoever has an address is told there.
        if self.config.address(calling).is_some() {
            return std::future::pending().await;
        }
        loop {
            let changed = self.spool.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(claim) = self.claim(calling.as_str()) {
                return claim;
            }
            changed.await;
        }
    }

    /// What is over by time: questions to the archive, objects, requests, memories.
    async fn clean_up(&self) -> Result<(), SpoolError> {
        let now = now_unix_ms();
        let config = &self.config;
        let (unheard, closed, lost, late, dead, old) = {
            let worklist = self.spool.worklist();
            let (mut unheard, mut closed, mut asked_late) = (Vec::new(), Vec::new(), Vec::new());
            for (transaction, asked) in worklist.transactions() {
                let age = now - asked.at_unix_ms;
                match asked.state {
                    Question::Open if age >= config.event_ms => unheard.push(*transaction),
                    Question::Open => {}
                    _ if age >= config.give_up_ms.max(config.event_ms) => closed.push(*transaction),
                    Question::Late => {
                        asked_late.push((asked.at_unix_ms, asked.objects.len(), *transaction));
                    }
                    Question::Answered => {}
                }
            }
            closed.extend(too_many(asked_late));
            let (mut late, mut dead, mut old) = (Vec::new(), Vec::new(), Vec::new());
            for (id, request) in worklist.requests() {
                match request.state {
                    RequestState::Open if now - request.requested.at_unix_ms >= config.limit_ms => {
                        late.push(*id);
                    }
                    RequestState::Decided(since) if now - since >= config.give_up_ms => {
                        dead.push(*id);
                    }
                    RequestState::Reported(since) | RequestState::Undeliverable(since)
                        if now - since >= REMEMBERED_MS =>
                    {
                        old.push(*id);
                    }
                    _ => {}
                }
            }
            // What came before there was an archive, or while we were away, has its time as well.
            let lost = if now - self.started_unix_ms >= config.give_up_ms {
                worklist.archiving_overdue(now - config.give_up_ms)
            } else {
                Vec::new()
            };
            (unheard, closed, lost, late, dead, old)
        };
        for transaction in unheard {
            tracing::warn!(%transaction, "The archive has not reported in time; it is asked again.");
            self.append(Relayed::Unheard { transaction }).await?;
        }
        for transaction in closed {
            self.append(Relayed::Closed { transaction }).await?;
        }
        if !lost.is_empty() {
            self.give_up(lost, Failure::Processing).await?;
        }
        let at_unix_ms = now;
        for request in late {
            self.append(Relayed::Overdue {
                request,
                at_unix_ms,
            })
            .await?;
        }
        for request in dead {
            report::dead_letter(self, request).await?;
        }
        for request in old {
            self.append(Relayed::Forgot { request }).await?;
        }
        self.spool.compact_if_long().await?;
        let worklist = self.spool.worklist();
        lock(&self.resting)
            .retain(|id, _| worklist.object(*id).is_some() || worklist.request(*id).is_some());
        Ok(())
    }

    /// These are not tried any more, and whoever asked is told so.
    async fn give_up(&self, objects: Vec<Id>, failure: Failure) -> Result<(), SpoolError> {
        use cloister_audit::{Action, Event, Reason};
        let count = objects.len() as u32;
        let event = Event::failed(Action::OriginalsArchived, Reason::GaveUp).count(count);
        self.audit
            .record(event)
            .await
            .map_err(|_| SpoolError::Log(cloister_log::LogError::Closed))?;
        tracing::error!(
            count,
            "Objects are given up: the archive does not have them."
        );
        metric::archived(metric::Archived::GivenUp, count);
        self.append(Relayed::GivenUp {
            objects,
            failure,
            at_unix_ms: now_unix_ms(),
        })
        .await
    }
}

/// The oldest of the late questions, where all of them name more objects than we want to hold.
fn too_many(mut late: Vec<(i64, usize, uuid::Uuid)>) -> Vec<uuid::Uuid> {
    late.sort_unstable();
    let mut named: usize = late.iter().map(|(_, objects, _)| objects).sum();
    let oldest = late.into_iter().take_while(|(_, objects, _)| {
        let over = named > MAX_LATE_OBJECTS;
        named = named.saturating_sub(*objects);
        over
    });
    oldest.map(|(_, _, transaction)| transaction).collect()
}

/// Works until `shutdown`.
pub(crate) async fn run(office: Arc<Office>, shutdown: Shutdown) {
    let work = async {
        tokio::join!(
            archive::run(&office),
            report::run(Arc::clone(&office)),
            clean_up(&office)
        )
    };
    tokio::select! {
        // Every finished step is durable: what is cut off here is done again at the next start.
        () = shutdown.cancelled() => {}
        _ = work => {}
    }
}

async fn clean_up(office: &Office) {
    loop {
        if let Err(error) = office.clean_up().await {
            tracing::error!(%error, "The archive's bookkeeping failed; trying again.");
        }
        tokio::time::sleep(AGAIN.min(office.config.retry_initial * 10)).await;
    }
}

/// Whether a peer that calls itself the archive is believed.
impl Office {
    pub(crate) async fn is_archive(&self, asker: Asker) -> bool {
        // Over TLS the title was believed for its certificate; without, it takes the address.
        if !asker.role || asker.over_tls {
            return asker.role;
        }
        let addresses = tokio::net::lookup_host(&self.config.archive).await;
        let known = |ip: IpAddr| ip.to_canonical() == asker.peer;
        addresses.is_ok_and(|mut all| all.any(|address| known(address.ip())))
    }
}
