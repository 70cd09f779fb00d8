//! What is shown of the relay to the archive, and what an operator may do about it.

use cloister_audit::{Action, Event, Reason};
use serde::{Deserialize, Serialize};

use super::operate::{Operation, Refused, named};
use super::{Answer, Done};
use crate::spool::record::{Record, now_unix_ms};
use crate::spool::worklist::Worklist;
use crate::spool::worklist::commitment::{ArchiveStep, Relayed, RequestState};

/// What can be done about the relay.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommitmentRequest {
    /// Send an object to the archive again, or deliver a report again: by its key.
    Retry(String),
    /// Forget a request that nobody is told about any more, or a report that cannot be delivered: by
    /// its key. Asked once more, it is a new one.
    Forget(String),
}

/// A request of a modality, or an object that the archive does not have.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CommitmentRow {
    /// This room's own name for it.
    pub key: String,
    /// `request` or `object`.
    pub what: String,
    /// Of a request `open`, `decided`, `reported` or `dead`; of an object `failed` or `never`: the
    /// second one under its SOP Instance UID, or damaged.
    pub state: String,
    /// Who asked, or sent it.
    pub calling_ae: String,
    /// Since when.
    pub since_unix_ms: i64,
    /// Objects that it names.
    pub objects: u32,
    /// Of these, how many the archive or the time has decided.
    pub decided: u32,
    /// Of these, how many the archive has committed to.
    pub committed: u32,
    /// Why an object failed: a closed code.
    pub reason: Option<String>,
}

pub(super) fn rows(worklist: &Worklist) -> Vec<CommitmentRow> {
    let requests = worklist.requests().map(|(id, request)| {
        let (state, since_unix_ms) = match request.state {
            RequestState::Open => ("open", request.requested.at_unix_ms),
            RequestState::Decided(since) => ("decided", since),
            RequestState::Reported(since) => ("reported", since),
            RequestState::Undeliverable(since) => ("dead", since),
        };
        let (decided, committed) = request.counts();
        CommitmentRow {
            key: id.to_string(),
            what: "request".to_owned(),
            state: state.to_owned(),
            calling_ae: request.requested.calling_ae.clone(),
            since_unix_ms,
            objects: request.requested.wanted.len() as u32,
            decided: decided as u32,
            committed: committed as u32,
            reason: None,
        }
    });
    let objects = worklist
        .archiving_failed()
        .map(|(object, failure)| CommitmentRow {
            key: object.stored.object.to_string(),
            what: "object".to_owned(),
            state: if failure.is_some() { "failed" } else { "never" }.to_owned(),
            calling_ae: object.stored.calling_ae.clone(),
            since_unix_ms: object.stored.at_unix_ms,
            objects: 1,
            decided: 1,
            committed: 0,
            reason: failure.map(|failure| failure.name().to_owned()),
        });
    let objects: Vec<_> = if worklist.is_holding() {
        objects.collect()
    } else {
        Vec::new()
    };
    let mut rows: Vec<_> = requests.chain(objects).collect();
    rows.sort_by_key(|row| row.since_unix_ms);
    rows
}

impl Operation<'_> {
    pub(super) async fn commitments(&self, request: CommitmentRequest) -> Answer {
        match request {
            CommitmentRequest::Retry(key) => {
                let done = self.retry_relay(&key).await;
                self.answer("relay_retry", Action::RelayRetried, done).await
            }
            CommitmentRequest::Forget(key) => {
                let done = self.forget_request(&key).await;
                self.answer("relay_forget", Action::CommitmentReported, done)
                    .await
            }
        }
    }

    /// On record as a report that nobody is going to have.
    async fn forget_request(&self, key: &str) -> Result<Answer, Refused> {
        self.allowed()?;
        let request = named(key)?;
        {
            let worklist = self.desk.spool.worklist();
            let entry = worklist.request(request).ok_or(Refused::NotFound)?;
            if entry.state == RequestState::Open {
                return Err(Refused::Senseless("the archive has not decided it yet"));
            }
        }
        let event = Event::refused(Action::CommitmentReported, Reason::GaveUp);
        self.audited(event).await?;
        let relayed = Box::new(Relayed::Forgot { request });
        self.desk.spool.append(Record::Relayed { relayed }).await?;
        Ok(Answer::Done(Done::CommitmentForgotten))
    }

    async fn retry_relay(&self, key: &str) -> Result<Answer, Refused> {
        self.allowed()?;
        let id = named(key)?;
        let at_unix_ms = now_unix_ms();
        let relayed = {
            let worklist = self.desk.spool.worklist();
            if let Some(request) = worklist.request(id) {
                if !matches!(request.state, RequestState::Undeliverable(_)) {
                    return Err(Refused::Senseless("it is not given up"));
                }
                Relayed::Deliver {
                    request: id,
                    at_unix_ms,
                }
            } else {
                let object = worklist.object(id).ok_or(Refused::NotFound)?;
                if !matches!(object.archiving.step, ArchiveStep::Failed(_)) {
                    return Err(Refused::Senseless("it is not given up"));
                }
                let objects = vec![id];
                Relayed::Again {
                    objects,
                    at_unix_ms,
                }
            }
        };
        self.audited(Event::new(Action::RelayRetried)).await?;
        let relayed = Box::new(relayed);
        self.desk.spool.append(Record::Relayed { relayed }).await?;
        Ok(Answer::Done(Done::RelayRetried))
    }
}
