//! Originals to the archive, and the question whether it commits to them.

use std::collections::BTreeSet;
use std::time::Duration;

use cloister_audit::{Action, Event};
use cloister_phi::{Phi, Uid};
use dicom_dictionary_std::uids;
use tokio::time::Instant;
use uuid::Uuid;

use super::call::{Call, CallError, Callee, MOST_CONTEXTS, Proposal};
use super::original::Original;
use super::references::{Reference, References};
use super::{AGAIN, INSTANCE, MAX_REFERENCES_BYTES, Office, PAUSE, Rest, lock};
use crate::error::SpoolError;
use crate::keys::KeyError;
use crate::metric::{self, Archived};
use crate::spool::Id;
use crate::spool::record::now_unix_ms;
use crate::spool::worklist::commitment::{ArchiveStep, Failure, Relayed};
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
        let resting = rest.map(|rest| rest.until);
        let rests = lock(&office.resting).values().map(|rest| rest.until).min();
        let next = resting.or(rests).filter(|_| waiting > 0);
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
    let (send, ask) = {
        let worklist = office.spool.worklist();
        let ask = worklist.archiving(ArchiveStep::Sent, QUESTION);
        (worklist.archiving(ArchiveStep::Not, usize::MAX), ask)
    };
    metric::archive_waiting(send.len() + ask.len());
    let awake = send.into_iter().map(|(id, _)| id);
    let awake = awake.filter(|id| !office.rests(*id)).take(BATCH);
    (awake.collect(), ask.into_iter().map(|(id, _)| id).collect())
}

/// One association. Whether anything went forward.
async fn visit(office: &Office, to_send: Vec<Id>, to_ask: Vec<Id>) -> Result<bool, CallError> {
    let (originals, damaged) = open(office, to_send).await?;
    if !damaged.is_empty() {
        office.give_up(damaged, Failure::Processing).await?;
    }
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
        Ok(forward) => {
            call.release().await;
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

async fn open(office: &Office, ids: Vec<Id>) -> Result<(Vec<Kind>, Vec<Id>), CallError> {
    let spool = office.spool.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let (mut kinds, mut damaged) = (Vec::new(), Vec::new());
        for id in ids {
            match Original::open(&spool, id) {
                Ok(original) => kinds.push(Kind {
                    id,
                    class: original.head.class.clone(),
                    syntax: original.head.syntax.clone(),
                }),
                Err(error) if is_damage(&error) => damaged.push(id),
                Err(error) => return Err(error),
            }
        }
        Ok((kinds, damaged))
    });
    Ok(opened.await.map_err(|_| SpoolError::Sealed)??)
}

async fn talk(
    office: &Office,
    call: &mut Call,
    originals: Vec<Kind>,
    kinds: &[(String, String)],
    mut to_ask: Vec<Id>,
) -> Result<bool, CallError> {
    let mut taken = Vec::new();
    let mut result = Ok(());
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
            Ok(status) if TAKEN.contains(&status) => {
                office.woken(original.id);
                taken.push(original.id);
            }
            Ok(status) => {
                tracing::warn!(object = %original.id, status, "The archive refuses an object.");
                office.rest(original.id);
            }
            Err(error) => {
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
    if !to_ask.is_empty() {
        ask(office, call, kinds.len(), to_ask).await?;
        forward = true;
    }
    Ok(forward)
}

/// One C-STORE, streamed. The status that answers it.
async fn send(office: &Office, call: &mut Call, context: u8, id: Id) -> Result<u16, CallError> {
    let spool = office.spool.clone();
    let opened = tokio::task::spawn_blocking(move || Original::open(&spool, id));
    let original = opened.await.map_err(|_| SpoolError::Sealed)??;
    let message = call.next_message();
    let command = store_request(message, &original.head.class, &original.head.instance);
    call.command(context, &command).await?;
    let mut pieces = original.pieces();
    // The last one has to be marked, so one is kept back.
    let mut kept = pieces.recv().await.ok_or(SpoolError::Sealed)??;
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
    let named = objects.clone();
    let references = tokio::task::spawn_blocking(move || references(&spool, &named));
    let (objects, references, damaged) = references.await.map_err(|_| SpoolError::Sealed)??;
    if !damaged.is_empty() {
        office.give_up(damaged, Failure::Processing).await?;
    }
    if objects.is_empty() {
        return Ok(());
    }
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
        // Asked anew under another name: if the archive has this question after all, its report is
        // about a transaction that is not known any more, and commits nothing.
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
    while office.spool.worklist().transaction(transaction).is_some() {
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
    while office.spool.worklist().transaction(transaction).is_some() {
        let changed = office.spool.changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if office.spool.worklist().transaction(transaction).is_none() {
            return;
        }
        // A record in between is not missed: armed before looking.
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

/// Objects, what the archive calls them, and those that cannot be opened.
type Named = (Vec<Id>, Vec<Reference>, Vec<Id>);

fn references(spool: &crate::spool::Spool, objects: &[Id]) -> Result<Named, SpoolError> {
    let (mut ids, mut references, mut damaged) = (Vec::new(), Vec::new(), Vec::new());
    for id in objects {
        let head = match Original::open(spool, *id) {
            Ok(original) => original.head,
            Err(error) if is_damage(&error) => {
                damaged.push(*id);
                continue;
            }
            Err(error) => return Err(error),
        };
        let (Ok(class), Ok(instance)) = (Uid::parse(&head.class), Uid::parse(&head.instance))
        else {
            damaged.push(*id);
            continue;
        };
        ids.push(*id);
        references.push(Reference {
            class,
            instance: Phi::new(instance),
        });
    }
    Ok((ids, references, damaged))
}

/// Waiting mends none of it.
fn is_damage(error: &SpoolError) -> bool {
    matches!(
        error,
        SpoolError::Sealed | SpoolError::Missing { .. } | SpoolError::Key(KeyError::Opening)
    )
}

/// PS3.5 section B.2.
pub(super) fn uid_of(transaction: Uuid) -> Result<Uid, SpoolError> {
    let text = format!("2.25.{}", transaction.as_u128());
    Uid::parse(&text).map_err(|_| SpoolError::Randomness)
}
