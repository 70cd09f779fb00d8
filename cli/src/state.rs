//! Where one installation keeps its files: the layout that `pki init`, `serve`, `demo` and the
//! tests agree on (ARCHITECTURE.md, Volumes).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The three processes, in the order in which they start: each needs the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Room {
    /// Cleans, guards and drafts.
    Server,
    /// The one way in and out; seals.
    Sidecar,
    /// Receives films and removes identity.
    DicomScp,
}

impl Room {
    /// In start order.
    pub const ALL: [Self; 3] = [Self::Server, Self::Sidecar, Self::DicomScp];

    /// Name of its folder, its configuration and its audit origin.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Sidecar => "sidecar",
            Self::DicomScp => "dicom-scp",
        }
    }

    /// Name of its executable.
    pub const fn binary(self) -> &'static str {
        match self {
            Self::Server => "cloister-server",
            Self::Sidecar => "cloister-sidecar",
            Self::DicomScp => "cloister-dicom-scp",
        }
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A state folder.
#[derive(Debug, Clone)]
pub struct State {
    root: PathBuf,
}

impl State {
    /// Names a state folder; nothing is touched.
    ///
    /// # Errors
    /// When the current folder is unknown.
    pub fn at(root: &Path) -> io::Result<Self> {
        Ok(Self {
            root: std::path::absolute(root)?,
        })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Keys and certificates.
    pub fn pki(&self) -> Pki {
        Pki {
            dir: self.root.join("pki"),
        }
    }

    /// Signed recipient directory.
    pub fn directory(&self) -> PathBuf {
        self.root.join("directory.jsonl")
    }

    /// A room's configuration file.
    pub fn config(&self, room: Room) -> PathBuf {
        self.root.join(format!("{room}.toml"))
    }

    /// A room's own folder.
    pub fn room(&self, room: Room) -> PathBuf {
        self.root.join(room.name())
    }

    /// The ports a room really bound.
    pub fn ready(&self, room: Room) -> PathBuf {
        self.room(room).join("ready.json")
    }

    /// A room's audit log. The server has none (ARCHITECTURE.md, Volumes).
    pub fn audit(&self, room: Room) -> PathBuf {
        self.room(room).join("audit")
    }

    /// What a room wrote on standard error, when somebody redirects it.
    pub fn log(&self, room: Room) -> PathBuf {
        self.root.join("logs").join(format!("{room}.log"))
    }

    /// dicom-scp's control socket, for `studies` and `quarantine`.
    pub fn control_socket(&self) -> PathBuf {
        self.room(Room::DicomScp).join("control.sock")
    }

    /// The server's gRPC socket.
    pub fn server_socket(&self) -> PathBuf {
        self.room(Room::Server).join("cloister.sock")
    }

    /// The server's HTTP/JSON socket.
    pub fn http_socket(&self) -> PathBuf {
        self.room(Room::Server).join("http.sock")
    }
}

/// The files that `pki init` makes, each key its own 0600 file.
#[derive(Debug, Clone)]
pub struct Pki {
    dir: PathBuf,
}

impl Pki {
    /// Names a folder; nothing is touched.
    pub fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// CA certificate.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// CA key: belongs on no serving machine.
    pub fn ca_key(&self) -> PathBuf {
        self.dir.join("ca.key")
    }

    /// Folder of the modalities' certificates.
    pub fn modalities(&self) -> PathBuf {
        self.dir.join("modalities")
    }

    /// Which of them are revoked.
    pub fn modality_crl(&self) -> PathBuf {
        self.dir.join("modalities.crl")
    }

    /// The number of the list that was signed last.
    pub fn modality_crl_number(&self) -> PathBuf {
        self.dir.join("modalities.crl.number")
    }

    /// Held while any of it is changed.
    pub fn modality_lock(&self) -> PathBuf {
        self.dir.join("modalities.lock")
    }

    /// TLS certificate of a party: `gateway`, `sidecar`, `ehr`, `clinician`, `auditor`.
    pub fn certificate(&self, party: &str) -> PathBuf {
        self.dir.join(format!("{party}.crt"))
    }

    /// TLS key of a party.
    pub fn tls_key(&self, party: &str) -> PathBuf {
        self.dir.join(format!("{party}.key"))
    }

    /// Ed25519 key that signs study manifests (dicom-scp).
    pub fn manifest_key(&self) -> PathBuf {
        self.dir.join("manifest-signing.key")
    }

    /// Ed25519 key that signs sealed reports (sidecar).
    pub fn node_key(&self) -> PathBuf {
        self.dir.join("node-signing.key")
    }

    /// Ed25519 key of a room's audit log.
    pub fn audit_key(&self, room: Room) -> PathBuf {
        self.dir.join(format!("audit-{room}.key"))
    }

    /// Ed25519 key that signs directory entries: belongs on no serving machine.
    pub fn enrolment_key(&self) -> PathBuf {
        self.dir.join("enrolment.key")
    }

    /// Public half of the enrolment key, which both rooms verify every entry with.
    pub fn enrolment_public(&self) -> PathBuf {
        self.dir.join("enrolment.pub")
    }

    /// Public half of the gateway's manifest key, which the server verifies manifests with.
    pub fn manifest_public(&self) -> PathBuf {
        self.dir.join("manifest-signing.pub")
    }

    /// Public half of the node's key, which `unseal --signer` verifies with.
    pub fn node_public(&self) -> PathBuf {
        self.dir.join("node-signing.pub")
    }

    /// Wraps the keys of spooled objects (dicom-scp).
    pub fn wrapping_key(&self) -> PathBuf {
        self.dir.join("wrapping.key")
    }

    /// HMAC key of pseudonyms (dicom-scp).
    pub fn pseudonym_key(&self) -> PathBuf {
        self.dir.join("pseudonym.key")
    }

    /// HMAC key of pseudonyms of films that come by `Generate` (server).
    pub fn server_pseudonym_key(&self) -> PathBuf {
        self.dir.join("server-pseudonym.key")
    }

    /// Everything public that `report open` and `audit verify` check against.
    pub fn trust(&self) -> PathBuf {
        self.dir.join("trust.toml")
    }

    /// The clinician's decryption key.
    pub fn recipient_key(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}-recipient.key"))
    }
}
