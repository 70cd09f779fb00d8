//! Originals to the archive, and the question whether it commits to them.

use cloister_dimse::references::{Reference, References};
use std::collections::BTreeSet;
use std::time::Duration;

use cloister_audit::{Action, Event};
use cloister_phi::{Phi, Uid};
use dicom_dictionary_std::uids;
use tokio::time::Instant;
use uuid::Uuid;

use super::call::{Call, CallError, Callee, MOST_CONTEXTS, Proposal};
use super::original::Original;
use super::{AGAIN, INSTANCE, MAX_REFERENCES_BYTES, Office, PAUSE, Rest, lock};
use crate::error::SpoolError;
use crate::keys::KeyError;
use crate::metric::{self, Archived};
use crate::spool::Id;
use crate::spool::record::now_unix_ms;
use crate::spool::worklist::Underway;
use crate::spool::worklist::commitment::{Failure, Question, Relayed};
use cloister_dimse::command::{N_EVENT_REPORT_RQ, Status, action_request, store_request};

/// Objects of one association.
const BATCH: usize = 200;
/// Objects of one question.
const QUESTION: usize = 2000;
/// Stored, as it came or with elements coerced, or with a data set that does not match its class
/// (PS3.4 table B.2-1). B006H, elements discarded, is not what we want committed.
const TAKEN: [u16; 3] = [0x0000, 0xB000, 0xB007];

/// Visits the archive whenever there is something for it.
pub(super) async fn run(office: &Office) {
    let mut rest: Option<Rest> = None;
    loop {
        let changed = office.spool.changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let (to_send, to_ask) = work(office);
        let waiting = to_send.len() + to_ask.len();
        if waiting > 0 && rest.is_none_or(Rest::is_over) {
            match visit(office, to_send, to_ask).await {
                Ok(true) => {
                    rest = None;
                    continue;
                }
                // Nothing of it was taken: each has its own rest.
                Ok(false) => rest = None,
                Err(error) => {
                    metric::visit_failed();
                    let longer = Rest::longer(rest, &office.config);
                    let wait_ms = longer.wait.as_millis() as u64;
                    tracing::warn!(%error, waiting, wait_ms, "The archive has to wait.");
                    rest = Some(longer);
                }
            }
        }
        let resting = rest.map(|rest| rest.until).filter(|_| waiting > 0);
        let now = Instant::now();
        let rests = {
            let resting = lock(&office.resting);
            let ahead = resting.values().map(|rest| rest.until);
            ahead.filter(|until| *until > now).min()
        };
        let next = resting.or(rests);
        let next = next.map_or(AGAIN, |until| {
            until.saturating_duration_since(Instant::now()).max(PAUSE)
        });
        tokio::select! {
            () = async { changed.await; tokio::time::sleep(PAUSE).await } => {}
            () = tokio::time::sleep(next.min(AGAIN)) => {}
        }
    }
}

/// Objects to be sent, and to be asked about.
fn work(office: &Office) -> (Vec<Id>, Vec<Id>) {
    let worklist = office.spool.worklist();
    let (unsent, sent) = (
        worklist.underway(Underway::Unsent),
        worklist.underway(Underway::Sent),
    );
    metric::archive_waiting(unsent.len() + sent.len());
    let awake = |id: &Id| !office.rests(*id);
    (
        unsent.filter(awake).take(BATCH).collect(),
        sent.filter(awake).take(QUESTION).collect(),
    )
}

/// One association. Whether anything went forward.
async fn visit(office: &Office, to_send: Vec<Id>, to_ask: Vec<Id>) -> Result<bool, CallError> {
    let originals = open(office, to_send).await?;
    let mut kinds: BTreeSet<(String, String)> = BTreeSet::new();
    for original in &originals {
        if kinds.len() < MOST_CONTEXTS {
            kinds.insert((original.class.clone(), original.syntax.clone()));
        }
    }
    if originals.is_empty() && to_ask.is_empty() {
        return Ok(true);
    }
    let kinds: Vec<_> = kinds.into_iter().collect();
    // As received and in nothing else: one transfer syntax a context.
    let mut proposals: Vec<_> = kinds
        .iter()
        .map(|(class, syntax)| Proposal {
            class: class.clone(),
            syntaxes: vec![syntax.clone()],
        })
        .collect();
    proposals.push(commitment());
    let config = &office.config;
    let callee = Callee {
        address: &config.archive,
        called: &config.archive_ae,
        calling: &config.ae,
        tls: office.tls.as_ref().map(|tls| (tls, &*config.identity)),
        timeout: config.timeout,
    };
    let mut call = Call::open(callee, &proposals, None).await?;
    match talk(office, &mut call, originals, &kinds, to_ask).await {
        Ok(Talked {
            forward,
            cut: false,
        }) => {
            call.release().await;
            Ok(forward)
        }
        Ok(Talked { forward, cut: true }) => {
            call.abort().await;
            Ok(forward)
        }
        Err(error) => {
            call.abort().await;
            Err(error)
        }
    }
}

/// The context of Storage Commitment.
pub(super) fn commitment() -> Proposal {
    Proposal {
        class: uids::STORAGE_COMMITMENT_PUSH_MODEL.to_owned(),
        syntaxes: vec![
            uids::EXPLICIT_VR_LITTLE_ENDIAN.to_owned(),
            uids::IMPLICIT_VR_LITTLE_ENDIAN.to_owned(),
        ],
    }
}

/// What an object is, for the contexts: it is opened again when it is sent.
struct Kind {
    id: Id,
    class: String,
    syntax: String,
}

async fn open(office: &Office, ids: Vec<Id>) -> Result<Vec<Kind>, CallError> {
    let spool = office.spool.clone();
    let opened = tokio::task::spawn_blocking(move || {
        read_each(ids, |id| {
            let head = Original::open(&spool, id)?.head;
            Ok(Kind {
                id,
                class: head.class.clone(),
                syntax: head.syntax.clone(),
            })
        })
    });
    let opened = opened.await.map_err(|_| stopped())??;
    opened.sorted_out(office).await
}

/// What could be read of some objects, and what could not.
struct Opened<T> {
    read: Vec<T>,
    unread: Vec<(Id, Fault)>,
}

/// Why an object cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Waiting mends none of it.
    Damage,
    /// The disk may read it the next time. The others do not wait for that.
    Unreadable,
}

impl<T> Opened<T> {
    /// The damaged ones are given up, and the unreadable ones are left alone for a while.
    async fn sorted_out(self, office: &Office) -> Result<Vec<T>, CallError> {
        sort_out(office, self.unread).await?;
        Ok(self.read)
    }
}

async fn sort_out(office: &Office, unread: Vec<(Id, Fault)>) -> Result<(), CallError> {
    let mut damaged = Vec::new();
    for (object, fault) in unread {
        match fault {
            Fault::Damage => damaged.push(object),
            Fault::Unreadable => {
                tracing::warn!(%object, "An original cannot be read now; the others go on.");
                office.rest(object);
            }
        }
    }
    if !damaged.is_empty() {
        office.give_up(damaged, Failure::Processing).await?;
    }
    Ok(())
}

/// # Errors
/// Only what is no one object's fault.
fn read_each<T>(
    ids: Vec<Id>,
    mut read: impl FnMut(Id) -> Result<T, SpoolError>,
) -> Result<Opened<T>, SpoolError> {
    let mut opened = Opened {
        read: Vec::new(),
        unread: Vec::new(),
    };
    for id in ids {
        match read(id) {
            Ok(one) => opened.read.push(one),
            Err(error) => match fault(&error) {
                Some(fault) => opened.unread.push((id, fault)),
                None => return Err(error),
            },
        }
    }
    Ok(opened)
}

/// What one association came to.
#[derive(Debug, Clone, Copy)]
struct Talked {
    forward: bool,
    /// In the middle of a data set that could not be read to its end.
    cut: bool,
}

async fn talk(
    office: &Office,
    call: &mut Call,
    originals: Vec<Kind>,
    kinds: &[(String, String)],
    mut to_ask: Vec<Id>,
) -> Result<Talked, CallError> {
    let mut taken = Vec::new();
    let mut result = Ok(());
    let mut unread = None;
    for original in originals {
        let kind = |(class, syntax): &(String, String)| {
            *class == original.class && *syntax == original.syntax
        };
        let Some(proposal) = kinds.iter().position(kind) else {
            continue;
        };
        let Some((context, _)) = call.context(proposal) else {
            tracing::warn!(object = %original.id, "The archive takes no such object.");
            office.rest(original.id);
            continue;
        };
        match send(office, call, context, original.id).await {
            Ok(status) if TAKEN.contains(&status) => taken.push(original.id),
            Ok(status) => {
                tracing::warn!(object = %original.id, status, "The archive refuses an object.");
                office.rest(original.id);
            }
            Err(error) => {
                if let CallError::Spool(error) = &error
                    && let Some(fault) = fault(error)
                {
                    unread = Some((original.id, fault));
                    break;
                }
                // It may be the object's fault: the others go first the next time.
                office.rest(original.id);
                result = Err(error);
                break;
            }
        }
    }
    let mut forward = !taken.is_empty();
    if forward {
        let count = taken.len() as u32;
        let event = Event::new(Action::OriginalsArchived).count(count);
        office
            .audit
            .record(event)
            .await
            .map_err(|_| CallError::Audit)?;
        office
            .append(Relayed::Sent {
                objects: taken.clone(),
            })
            .await?;
        metric::archived(Archived::Sent, count);
        to_ask.extend(taken);
    }
    result?;
    if let Some(unread) = unread {
        sort_out(office, vec![unread]).await?;
        return Ok(Talked { forward, cut: true });
    }
    if !to_ask.is_empty() {
        ask(office, call, kinds.len(), to_ask).await?;
        forward = true;
    }
    Ok(Talked {
        forward,
        cut: false,
    })
}

/// One C-STORE, streamed. The status that answers it.
async fn send(office: &Office, call: &mut Call, context: u8, id: Id) -> Result<u16, CallError> {
    let spool = office.spool.clone();
    let opened = tokio::task::spawn_blocking(move || Original::open(&spool, id));
    let original = opened.await.map_err(|_| stopped())??;
    let message = call.next_message();
    let command = store_request(message, &original.head.class, &original.head.instance);
    call.command(context, &command).await?;
    let mut pieces = original.pieces();
    // The last one has to be marked, so one is kept back.
    let mut kept = pieces.recv().await.ok_or_else(stopped)??;
    while let Some(next) = pieces.recv().await {
        call.data(context, &kept, false).await?;
        kept = next?;
    }
    call.data(context, &kept, true).await?;
    call.status(message).await
}

/// N-ACTION, and the archive's report if it comes on the same association.
async fn ask(
    office: &Office,
    call: &mut Call,
    proposal: usize,
    objects: Vec<Id>,
) -> Result<(), CallError> {
    let (context, syntax) = call.context(proposal).ok_or(CallError::NoCommitment)?;
    let implicit = syntax == uids::IMPLICIT_VR_LITTLE_ENDIAN;
    let spool = office.spool.clone();
    let named = tokio::task::spawn_blocking(move || {
        read_each(objects, |id| {
            let head = Original::open(&spool, id)?.head;
            let uid = |text: &str| Uid::parse(text).map_err(|_| SpoolError::Sealed);
            let reference = Reference {
                class: uid(&head.class)?,
                instance: Phi::new(uid(&head.instance)?),
            };
            Ok((id, reference))
        })
    });
    let named = named.await.map_err(|_| stopped())??;
    let named = named.sorted_out(office).await?;
    if named.is_empty() {
        return Ok(());
    }
    let (objects, references): (Vec<_>, Vec<_>) = named.into_iter().unzip();
    let transaction = Uuid::new_v4();
    let references = References {
        transaction: Phi::new(uid_of(transaction)?),
        referenced: references,
        failed: Vec::new(),
    };
    // Before the question: its answer may come while we are away.
    office
        .append(Relayed::Asked {
            transaction,
            objects,
            at_unix_ms: now_unix_ms(),
        })
        .await?;
    let asked = question(call, context, &references.encode(implicit)).await;
    if let Err(error) = asked {
        // Asked anew under another name: if the archive has this question after all, its report is a
        // late one.
        office.append(Relayed::Unheard { transaction }).await?;
        return Err(error);
    }
    listen(office, call, context, transaction, implicit).await
}

async fn question(call: &mut Call, context: u8, data: &[u8]) -> Result<(), CallError> {
    let message = call.next_message();
    let class = uids::STORAGE_COMMITMENT_PUSH_MODEL;
    let command = action_request(message, class, INSTANCE, 1);
    call.command(context, &command).await?;
    call.data(context, data, true).await?;
    match call.status(message).await? {
        0 => Ok(()),
        status => Err(CallError::Status(status)),
    }
}

/// Waits a while for the report.
async fn listen(
    office: &Office,
    call: &mut Call,
    context: u8,
    transaction: Uuid,
    implicit: bool,
) -> Result<(), CallError> {
    let deadline = Instant::now() + office.config.wait;
    while is_open(office, transaction) {
        let message = tokio::select! {
            // It may come on another association.
            () = heard(office, transaction) => break,
            message = call.message(deadline, MAX_REFERENCES_BYTES) => message,
        };
        let message = match message {
            Ok(message) => message,
            // Not here, then.
            Err(CallError::Wire(crate::receive::wire::WireError::TimedOut)) => break,
            Err(error) => return Err(error),
        };
        let known = message.context == context && message.command.field == N_EVENT_REPORT_RQ;
        if !known {
            return Err(CallError::Protocol);
        }
        let status = office
            .heard(&message.command, &message.data, implicit)
            .await;
        call.command(context, &message.command.response(status))
            .await?;
        if status != Status::Success {
            break;
        }
    }
    Ok(())
}

async fn heard(office: &Office, transaction: Uuid) {
    while is_open(office, transaction) {
        let changed = office.spool.changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if !is_open(office, transaction) {
            return;
        }
        // A record in between is not missed: armed before looking.
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

fn is_open(office: &Office, transaction: Uuid) -> bool {
    let worklist = office.spool.worklist();
    let asked = worklist.transaction(transaction);
    asked.is_some_and(|asked| asked.state == Question::Open)
}

/// A reading thread did not come to its end: no object's fault.
const fn stopped() -> SpoolError {
    SpoolError::Log(cloister_log::LogError::Closed)
}

/// `None` where it is not this one object's: the log, the keys, or all of the disk.
const fn fault(error: &SpoolError) -> Option<Fault> {
    match error {
        SpoolError::Sealed | SpoolError::Missing { .. } | SpoolError::Key(KeyError::Opening) => {
            Some(Fault::Damage)
        }
        SpoolError::Io(_) => Some(Fault::Unreadable),
        _ => None,
    }
}

/// PS3.5 section B.2.
pub(super) fn uid_of(transaction: Uuid) -> Result<Uid, SpoolError> {
    let text = format!("2.25.{}", transaction.as_u128());
    Uid::parse(&text).map_err(|_| SpoolError::Randomness)
}

/// The other way round.
pub(super) fn transaction_of(uid: &Uid) -> Option<Uuid> {
    let number = uid.as_str().strip_prefix("2.25.")?.parse().ok()?;
    let transaction = Uuid::from_u128(number);
    // One spelling only.
    (uid_of(transaction).ok()?.as_str() == uid.as_str()).then_some(transaction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> Id {
        Id::of_hash(&[byte; 32])
    }

    #[test]
    fn one_sector_that_cannot_be_read_stops_no_other_object() {
        let read = |one: Id| match one {
            one if one == id(2) => Err(SpoolError::from(std::io::Error::other("a sector"))),
            one if one == id(3) => Err(SpoolError::Sealed),
            one => Ok(one),
        };
        let opened = read_each(vec![id(1), id(2), id(3), id(4)], read).unwrap();
        assert_eq!(opened.read, [id(1), id(4)]);
        let unread = [(id(2), Fault::Unreadable), (id(3), Fault::Damage)];
        assert_eq!(opened.unread, unread);
        // The disk, the log and the token are everybody's.
        for of_all in [
            || SpoolError::Distrusted,
            || SpoolError::Log(cloister_log::LogError::Closed),
            || SpoolError::Key(KeyError::Unreadable),
        ] {
            assert!(read_each(vec![id(1)], |_| Err::<(), _>(of_all())).is_err());
        }
    }

    #[test]
    fn a_transaction_is_found_by_its_uid_and_by_no_other_spelling() {
        let transaction = Uuid::from_u128(77);
        let uid = uid_of(transaction).unwrap();
        assert_eq!(transaction_of(&uid), Some(transaction));
        for other in [
            "2.25.1.77",
            "1.2.77",
            "2.25.999999999999999999999999999999999999999999",
        ] {
            let other = Uid::parse(other).unwrap();
            assert_eq!(transaction_of(&other), None, "{}", other.as_str());
        }
    }
}
