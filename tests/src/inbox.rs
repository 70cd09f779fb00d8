//! A clinician's program: lists, fetches and opens over the sidecar's mTLS.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use cloister::client::Client;
use cloister::installation::CLINICIAN;
use cloister::opening::{OpenedReport, open_report};
use cloister::recipient::read_private;
use cloister::state::State;
use cloister_proto::v1;
use cloister_seal::RecipientPrivateKey;
use cloister_seal::trust::TrustFile;
use uuid::Uuid;

/// The clinician of an installation.
#[derive(Debug)]
pub struct Inbox {
    client: Client,
    key: RecipientPrivateKey,
    trust: TrustFile,
}

impl Inbox {
    /// With the keys of a state folder.
    ///
    /// # Errors
    /// When the sidecar does not run or a key is missing.
    pub fn of(state: &State) -> Result<Self> {
        Ok(Self {
            client: Client::of_state(state, CLINICIAN)?,
            key: read_private(&state.pki().recipient_key(CLINICIAN), None)?,
            trust: TrustFile::load(&state.pki().trust())?,
        })
    }

    /// What this installation trusts.
    pub fn trust(&self) -> &TrustFile {
        &self.trust
    }

    /// The clinician's key.
    pub fn key(&self) -> &RecipientPrivateKey {
        &self.key
    }

    /// Entries of the inbox.
    ///
    /// # Errors
    /// When the sidecar refuses.
    pub async fn list(&self, current_only: bool) -> Result<Vec<v1::ReportEntry>> {
        let mut inbox = self.client.inbox().await?;
        let request = v1::ListReportsRequest {
            after: 0,
            limit: 1000,
            current_only,
        };
        Ok(inbox.list_reports(request).await?.into_inner().entries)
    }

    /// A report, still sealed.
    ///
    /// # Errors
    /// When the sidecar refuses.
    pub async fn fetch(&self, report: Uuid) -> Result<v1::FetchReportResponse> {
        let request = v1::FetchReportRequest {
            report_id: report.as_bytes().to_vec(),
        };
        Ok(self
            .client
            .inbox()
            .await?
            .fetch_report(request)
            .await?
            .into_inner())
    }

    /// A report, opened after every check.
    ///
    /// # Errors
    /// When the sidecar refuses or a check fails.
    pub async fn open(&self, report: Uuid) -> Result<OpenedReport> {
        Ok(open_report(
            &self.fetch(report).await?,
            &self.key,
            &self.trust,
        )?)
    }

    /// Every current report, opened.
    ///
    /// # Errors
    /// As [`Inbox::open`].
    pub async fn open_current(&self) -> Result<Vec<OpenedReport>> {
        let mut opened = Vec::new();
        for entry in self.list(true).await? {
            let id = Uuid::from_slice(&entry.report_id).context("a report id is no UUID")?;
            opened.push(self.open(id).await?);
        }
        Ok(opened)
    }
}

/// The original SOP Instance UIDs of the films that a report shows.
pub fn original_instances(opened: &OpenedReport) -> BTreeSet<String> {
    let Some(identity) = &opened.joined.identity else {
        return BTreeSet::new();
    };
    let shown: BTreeSet<_> = opened
        .joined
        .report
        .renditions
        .iter()
        .map(|r| r.sop_instance_uid.as_str())
        .collect();
    identity
        .objects
        .iter()
        .filter(|object| shown.contains(object.sop_instance_uid.as_str()))
        .map(|object| object.original_sop_instance_uid.clone())
        .collect()
}
