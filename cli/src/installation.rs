//! A whole installation on loopback: keys, configurations and the three processes, with ports that
//! the operating system chose. The demo runs one; every integration test runs one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use cloister_log::durable;
use cloister_proto::v1::Suite;

use crate::pki::{self, Plan, identity_of_party};
use crate::recipient::{self, Enrolment};
use crate::rooms::{LogTo, ReadyFile, Rooms, Running};
use crate::scu::Peer;
use crate::settings::Settings;
use crate::state::{Room, State};

/// A Unix socket's path has room for 107 bytes; ours end in `/dicom-scp/control.sock`.
const MAX_ROOT_BYTES: usize = 80;
/// File name of the clinician's recipient key without its ending.
pub const CLINICIAN: &str = "clinician";

/// An installation, and the rooms of it that run.
#[derive(Debug)]
pub struct Installation {
    state: State,
    settings: Settings,
    binaries: PathBuf,
    log_to: LogTo,
    rooms: Rooms,
}

impl Installation {
    /// Makes keys, enrols one clinician and writes the configurations. Nothing runs yet.
    ///
    /// # Errors
    /// When the folder holds an installation already or cannot be written.
    pub fn create(
        root: &Path,
        settings: Settings,
        binaries: PathBuf,
        log_to: LogTo,
    ) -> Result<Self> {
        let state = State::at(root)?;
        if state.root().as_os_str().len() > MAX_ROOT_BYTES {
            bail!(
                "{} is too long for Unix sockets; choose a shorter folder",
                root.display()
            );
        }
        durable::create_dir_all(state.root(), 0o700).with_context(|| root.display().to_string())?;
        let plan = Plan::for_trust_domain(&settings.trust_domain);
        let pki = pki::create(state.pki().dir(), &plan)?;
        let key_path = pki.recipient_key(CLINICIAN);
        let public = recipient::generate(&key_path, Suite::HpkeXwing, None)?;
        let identity = identity_of_party(&settings.trust_domain, CLINICIAN)?.to_string();
        let enrolment = Enrolment {
            identity: &identity,
            groups: std::slice::from_ref(&settings.recipient_group),
            days: 365,
        };
        recipient::enrol(
            &state.directory(),
            &pki.enrolment_key(),
            &public,
            &enrolment,
        )?;
        for room in Room::ALL {
            durable::create_dir_all(&state.room(room), 0o700)?;
        }
        Ok(Self {
            state,
            settings,
            binaries,
            log_to,
            rooms: Rooms::new(),
        })
    }

    /// Where its files are.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// How it is configured.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The clinician's identity.
    ///
    /// # Errors
    /// Never with the trust domain that `create` accepted.
    pub fn clinician(&self) -> Result<String> {
        Ok(identity_of_party(&self.settings.trust_domain, CLINICIAN)?.to_string())
    }

    /// Starts one room. Its ports are written back into the configurations, so that a room that is
    /// started again binds the same ones and the others find it.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start_room(&mut self, room: Room) -> Result<()> {
        self.write_configs()?;
        self.rooms
            .start(&self.state, room, &self.binaries, self.log_to)
            .await?;
        self.settings.pin(room, &self.ready(room)?)?;
        self.write_configs()
    }

    /// Starts all three in order.
    ///
    /// # Errors
    /// When one does not become ready.
    pub async fn start(&mut self) -> Result<()> {
        for room in Room::ALL {
            self.start_room(room).await?;
        }
        Ok(())
    }

    /// SIGKILLs a room.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill_room(&mut self, room: Room) -> Result<()> {
        Ok(self.take(room)?.kill().await?)
    }

    /// Stops a room in order.
    ///
    /// # Errors
    /// When it does not run or does not end with success.
    pub async fn stop_room(&mut self, room: Room) -> Result<()> {
        Ok(self.take(room)?.stop().await?)
    }

    fn take(&mut self, room: Room) -> Result<Running> {
        self.rooms
            .take(room)
            .with_context(|| format!("{room} does not run"))
    }

    /// The running rooms, to wait for a death.
    pub fn rooms(&mut self) -> &mut Rooms {
        &mut self.rooms
    }

    /// Gives the running rooms away.
    pub fn into_rooms(self) -> Rooms {
        self.rooms
    }

    /// Stops everything in order.
    ///
    /// # Errors
    /// When a room did not end with success.
    pub async fn stop(&mut self) -> Result<()> {
        Ok(std::mem::take(&mut self.rooms).stop().await?)
    }

    /// Where a room really listens.
    ///
    /// # Errors
    /// When it does not run.
    pub fn address(&self, room: Room, port: &str) -> Result<SocketAddr> {
        Ok(self.ready(room)?.address(room, port)?)
    }

    fn ready(&self, room: Room) -> Result<ReadyFile> {
        ReadyFile::read(&self.state, room).with_context(|| format!("{room} does not run"))
    }

    /// The gateway, as a modality with this AE title calls it.
    ///
    /// # Errors
    /// When it does not run.
    pub fn peer(&self, calling: &str) -> Result<Peer> {
        Ok(Peer {
            address: self.address(Room::DicomScp, "dimse")?,
            calling: calling.to_owned(),
            called: self.settings.ae_title.clone(),
        })
    }

    /// Writes the three configuration files.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn write_configs(&self) -> Result<()> {
        for room in Room::ALL {
            let path = self.state.config(room);
            durable::write_atomic(&path, self.settings.render(room)?.as_bytes(), 0o600)
                .with_context(|| path.display().to_string())?;
        }
        Ok(())
    }
}
