//! One installation per test: started in a temporary folder that stays when the test fails.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use cloister::control;
use cloister::installation::Installation;
use cloister::rooms::LogTo;
use cloister::scu::{Association, Film, Peer, Status};
use cloister::settings::Settings;
use cloister::state::{Room, State};
use cloister_dicom_scp::control::{QuarantineRow, StudyRow};
use tempfile::TempDir;

use crate::binaries::{binaries, workspace_root};
use crate::inbox::Inbox;
use crate::tools::note;
use crate::waiting::until;

/// AE title of the tests' modality.
const CALLING: &str = "TEST_DX";

/// Three processes and a folder.
#[derive(Debug)]
pub struct Harness {
    /// The installation, to kill and restart rooms of.
    pub installation: Installation,
    // After `installation`: the processes end before their folder goes.
    dir: Option<TempDir>,
    // A test that returns an error does not panic: only `stop` says that all went well.
    stopped: bool,
}

impl Harness {
    /// Starts everything with the scripted model and a short quiet time.
    ///
    /// # Errors
    /// When a binary is missing or a room does not start.
    pub async fn start() -> Result<Self> {
        Self::start_with(|_| ()).await
    }

    /// The same with changed settings.
    ///
    /// # Errors
    /// As [`Harness::start`].
    pub async fn start_with(change: impl FnOnce(&mut Settings)) -> Result<Self> {
        let mut harness = Self::prepare(change)?;
        harness.installation.start().await?;
        Ok(harness)
    }

    /// Makes keys and configurations and starts nothing.
    ///
    /// # Errors
    /// When a binary is missing.
    pub fn prepare(change: impl FnOnce(&mut Settings)) -> Result<Self> {
        let models = workspace_root().join("models");
        let mut settings = Settings::with_models(&models);
        settings.report_bundle = models.join("scripted");
        settings.quiet_ms = 300;
        settings.trust_domain = "cloister.test".into();
        change(&mut settings);
        let dir = tempfile::Builder::new().prefix("cloister-").tempdir()?;
        let installation =
            Installation::create(&dir.path().join("s"), settings, binaries()?, LogTo::File)?;
        Ok(Self {
            installation,
            dir: Some(dir),
            stopped: false,
        })
    }

    /// Where everything is.
    pub fn state(&self) -> &State {
        self.installation.state()
    }

    /// A folder for what a test itself writes.
    ///
    /// # Errors
    /// Never while the harness lives.
    pub fn scratch(&self) -> Result<&Path> {
        Ok(self.dir.as_ref().context("the folder is gone")?.path())
    }

    /// The admin port of a room.
    ///
    /// # Errors
    /// When it does not run.
    pub fn admin(&self, room: Room) -> Result<SocketAddr> {
        self.installation.address(room, "admin")
    }

    /// The gateway as the tests' modality sees it.
    ///
    /// # Errors
    /// When it does not run.
    pub fn peer(&self) -> Result<Peer> {
        self.installation.peer(CALLING)
    }

    /// Sends films in one association; their statuses in order.
    ///
    /// # Errors
    /// When the association breaks.
    pub async fn send(&self, films: &[Film]) -> Result<Vec<Status>> {
        let mut association = Association::open(&self.peer()?, films).await?;
        let mut statuses = Vec::new();
        for film in films {
            statuses.push(association.store(film).await?);
        }
        association.release().await?;
        Ok(statuses)
    }

    /// Sends encoded DICOM files.
    ///
    /// # Errors
    /// As [`Harness::send`].
    pub async fn send_files(&self, files: &[Vec<u8>]) -> Result<Vec<Status>> {
        let films: Vec<Film> = files
            .iter()
            .map(|file| Film::parse(file))
            .collect::<Result<_, _>>()?;
        self.send(&films).await
    }

    /// Studies as the gateway lists them.
    ///
    /// # Errors
    /// When dicom-scp does not run.
    pub async fn studies(&self) -> Result<Vec<StudyRow>> {
        control::studies(&self.state().control_socket()).await
    }

    /// Quarantine as the gateway lists it.
    ///
    /// # Errors
    /// When dicom-scp does not run.
    pub async fn quarantine(&self) -> Result<Vec<QuarantineRow>> {
        control::quarantine(&self.state().control_socket()).await
    }

    /// Waits until `studies` studies are known and each is forwarded or withheld.
    ///
    /// # Errors
    /// After two minutes.
    pub async fn settled(&self, studies: usize) -> Result<Vec<StudyRow>> {
        self.settled_within(studies, 120).await
    }

    /// The same with another deadline.
    ///
    /// # Errors
    /// After `seconds`.
    pub async fn settled_within(&self, studies: usize, seconds: u64) -> Result<Vec<StudyRow>> {
        until(&format!("{studies} settled studies"), seconds, || async {
            let rows = self.studies().await?;
            let settled = |row: &&StudyRow| matches!(row.state.as_str(), "forwarded" | "withheld");
            let done = rows.len() >= studies && rows.iter().filter(settled).count() == rows.len();
            Ok(done.then_some(rows))
        })
        .await
    }

    /// The clinician's inbox.
    ///
    /// # Errors
    /// When the sidecar does not run.
    pub fn inbox(&self) -> Result<Inbox> {
        Inbox::of(self.state())
    }

    /// Stops the rooms in order and checks that each ended with success.
    ///
    /// # Errors
    /// When one did not.
    pub async fn stop(mut self) -> Result<()> {
        self.installation.stop().await?;
        self.stopped = true;
        Ok(())
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        if self.stopped {
            return;
        }
        if let Some(dir) = self.dir.take() {
            note(&format!(
                "the state of the failed test stays in {}",
                dir.keep().display()
            ));
        }
    }
}
