//! After the caller is known, before a byte goes upstream: may it call this, and name these
//! recipients?
//!
//! The table of roles is code, because a mistake in it is a hole; who may name whom is policy.

use cloister_proto::{METADATA_RECIPIENT, METADATA_REPORT_ID};
use cloister_seal::RecipientPublicKey;
use cloister_tls::{Role, SpiffeId};
use http::HeaderMap;
use uuid::Uuid;

use crate::config::{Policy, RecipientRule};
use crate::directory::Directory;
use crate::error::Refusal;
use crate::identify::Caller;
use crate::route::Method;

/// Recipients that one report may name.
const MAX_RECIPIENTS: usize = 16;
/// Keys that one report is sealed to: groups expand to their members.
const MAX_KEYS: usize = 64;

/// A caller that may use a method. Only [`permit`] makes one.
#[derive(Debug, Clone)]
pub(crate) struct Permitted {
    caller: Caller,
    method: Method,
}

impl Permitted {
    /// Who calls.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What it calls.
    pub(crate) fn method(&self) -> Method {
        self.method
    }
}

/// What a report is made for. Only [`order`] makes one.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    method: Method,
    caller: SpiffeId,
    report_id: Uuid,
    recipients: Vec<String>,
    keys: Vec<RecipientPublicKey>,
}

impl Order {
    /// How it was asked for.
    pub(crate) fn method(&self) -> Method {
        self.method
    }

    /// Who asked.
    pub(crate) fn caller(&self) -> &SpiffeId {
        &self.caller
    }

    /// The idempotency key.
    pub(crate) fn report_id(&self) -> Uuid {
        self.report_id
    }

    /// Recipients as named, sorted, each once.
    pub(crate) fn recipients(&self) -> &[String] {
        &self.recipients
    }

    /// Their keys, each once.
    pub(crate) fn keys(&self) -> &[RecipientPublicKey] {
        &self.keys
    }
}

/// May `caller` use `method` at all?
///
/// # Errors
/// [`Refusal::TrustDomain`], [`Refusal::RoleNotAllowed`].
pub(crate) fn permit(
    policy: &Policy,
    caller: &Caller,
    method: Method,
) -> Result<Permitted, Refusal> {
    if caller.id().trust_domain() != policy.trust_domain {
        return Err(Refusal::TrustDomain);
    }
    if !role_may(caller.id().role(), method) {
        return Err(Refusal::RoleNotAllowed);
    }
    Ok(Permitted {
        caller: caller.clone(),
        method,
    })
}

const fn role_may(role: Role, method: Method) -> bool {
    if method.is_health() {
        return true;
    }
    match role {
        Role::Gateway => matches!(method, Method::SubmitStudy),
        Role::Ehr => matches!(
            method,
            Method::Generate
                | Method::GenerateStream
                | Method::Validate
                | Method::SendFeedback
                | Method::Evaluate
                | Method::Inspect
                | Method::HttpV1
        ),
        Role::Clinician => matches!(
            method,
            Method::ListReports
                | Method::FetchReport
                | Method::WatchReports
                | Method::AcknowledgeReport
                | Method::SendFeedback
        ),
        Role::Auditor => matches!(
            method,
            Method::GetCheckpoint
                | Method::ProveInclusion
                | Method::ListEvents
                | Method::ListEntries
        ),
        Role::Peer | Role::Sidecar | Role::Server | Role::Modality => false,
    }
}

/// Which report for whom, out of the metadata: before the first byte goes upstream.
///
/// # Errors
/// [`Refusal::BadMetadata`], [`Refusal::RecipientUnknown`], [`Refusal::RecipientNotAllowed`].
pub(crate) fn order(
    policy: &Policy,
    directory: &Directory,
    permitted: &Permitted,
    headers: &HeaderMap,
) -> Result<Order, Refusal> {
    let report_id = report_id(headers)?;
    let mut recipients = Vec::new();
    for value in headers.get_all(METADATA_RECIPIENT) {
        let text = value.to_str().map_err(|_| Refusal::BadMetadata)?;
        if recipients.len() == MAX_RECIPIENTS {
            return Err(Refusal::BadMetadata);
        }
        recipients.push(text.to_owned());
    }
    if recipients.is_empty() {
        return Err(Refusal::BadMetadata);
    }
    recipients.sort_unstable();
    recipients.dedup();
    let caller = permitted.caller().id();
    let mut keys: Vec<RecipientPublicKey> = Vec::new();
    for recipient in &recipients {
        // First the policy, so that nobody probes the directory by its answers.
        if !may_name(policy, directory, caller, recipient) {
            return Err(Refusal::RecipientNotAllowed);
        }
        for key in directory.resolve(recipient)? {
            if !keys.iter().any(|known| known.key_id() == key.key_id()) {
                keys.push(key);
            }
        }
    }
    if keys.is_empty() {
        return Err(Refusal::RecipientUnknown);
    }
    if keys.len() > MAX_KEYS {
        return Err(Refusal::BadMetadata);
    }
    Ok(Order {
        method: permitted.method(),
        caller: caller.clone(),
        report_id,
        recipients,
        keys,
    })
}

/// Exactly one `cloister-report-id`, a UUID that is not nil.
fn report_id(headers: &HeaderMap) -> Result<Uuid, Refusal> {
    let mut values = headers.get_all(METADATA_REPORT_ID).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Refusal::BadMetadata);
    };
    let id = value
        .to_str()
        .ok()
        .and_then(|text| Uuid::try_parse(text).ok())
        .ok_or(Refusal::BadMetadata)?;
    if id.is_nil() {
        Err(Refusal::BadMetadata)
    } else {
        Ok(id)
    }
}

fn may_name(policy: &Policy, directory: &Directory, caller: &SpiffeId, recipient: &str) -> bool {
    match caller.role() {
        Role::Gateway => true,
        Role::Ehr => policy
            .ehr
            .iter()
            .filter(|rule| {
                rule.identity
                    .as_ref()
                    .is_none_or(|identity| identity == caller)
            })
            .flat_map(|rule| &rule.recipients)
            .any(|allowed| match allowed {
                RecipientRule::Any => true,
                RecipientRule::Group(group) => {
                    recipient.strip_prefix("group:") == Some(group)
                        || directory.is_member(recipient, group)
                }
                RecipientRule::Identity(identity) => identity.to_string() == recipient,
            }),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
