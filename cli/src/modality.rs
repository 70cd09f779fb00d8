//! Certificates of modalities: one folder each beside the CA, nothing in it ever overwritten.
//!
//! ```text
//! <pki>/modalities/<name>/1.crt, 1.key    the first certificate, its key (mode 0600)
//! <pki>/modalities/<name>/2.crt, 2.key    after the first renewal, for a new key
//! <pki>/modalities.crl                    what is revoked: of dimse_tls.crl and stow.crl
//! ```
//! All of it belongs where the CA's key is, and that is no serving machine: a modality gets its pair,
//! the gateway the list.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use cloister_log::durable;
use cloister_seal::files::{read_secret_text, write_secret};
use cloister_tls::issue::{Authority, Issued, Leaf, RevocationList};
use cloister_tls::{Role, SpiffeId};
use time::OffsetDateTime;

use crate::state::Pki;

/// The CA and what it knows of modalities.
#[derive(Debug)]
pub struct Register {
    pki: Pki,
    authority: Authority,
    list: RevocationList,
}

/// A certificate of a modality.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its file.
    pub certificate: PathBuf,
    /// Its key's file, unless it was taken away to the modality.
    pub key: PathBuf,
    /// The how manieth of this modality.
    pub number: u32,
    /// Who it is for, its serial number and its end.
    pub leaf: Leaf,
    /// Since when it does not count.
    pub revoked_at: Option<OffsetDateTime>,
}

/// Whether a certificate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Valid,
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
}

impl Standing {
    /// As it is shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl Entry {
    /// Whether it counts today.
    pub fn standing(&self) -> Standing {
        if self.revoked_at.is_some() {
            Standing::Revoked
        } else if self.leaf.not_after < OffsetDateTime::now_utc() {
            Standing::Expired
        } else {
            Standing::Valid
        }
    }
}

impl Register {
    /// Reads the CA and its list.
    ///
    /// # Errors
    /// When the folder holds no CA with its key, or the list is another CA's.
    pub fn open(dir: &Path) -> Result<Self> {
        let pki = Pki::at(dir);
        let certificate =
            std::fs::read_to_string(pki.ca()).with_context(|| pki.ca().display().to_string())?;
        let key =
            read_secret_text(&pki.ca_key()).with_context(|| pki.ca_key().display().to_string())?;
        let authority = Authority::load(&certificate, &key)?;
        let path = pki.modality_crl();
        let list = match std::fs::read_to_string(&path) {
            Ok(text) => RevocationList::read(&text, &authority)
                .with_context(|| path.display().to_string())?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => RevocationList::default(),
            Err(error) => return Err(error).context(path.display().to_string()),
        };
        Ok(Self {
            pki,
            authority,
            list,
        })
    }

    /// The trust domain of the parties that `pki init` made.
    ///
    /// # Errors
    /// When the gateway's certificate is not there.
    pub fn trust_domain(&self) -> Result<String> {
        let path = self.pki.certificate("gateway");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("{}: or give --trust-domain", path.display()))?;
        Ok(Leaf::read(&text)?.identity.trust_domain().to_owned())
    }

    /// The first certificate of a modality.
    ///
    /// # Errors
    /// When it has one already.
    pub fn issue(&self, trust_domain: &str, name: &str, days: u32) -> Result<Entry> {
        let identity = SpiffeId::new(trust_domain, Role::Modality, name)?;
        if !self.of(name)?.is_empty() {
            bail!("{name} has a certificate; `renew` makes the next one, nothing is overwritten");
        }
        self.write(&identity, 1, days)
    }

    /// The next certificate of a modality, for a new key. The one before counts until it is revoked or
    /// its time is over, so that the modality can change over when it suits.
    ///
    /// # Errors
    /// When it has none.
    pub fn renew(&self, name: &str, days: u32) -> Result<Entry> {
        let entries = self.of(name)?;
        let last = entries
            .last()
            .with_context(|| format!("{name} has no certificate"))?;
        let number = last
            .number
            .checked_add(1)
            .context("too many certificates")?;
        self.write(&last.leaf.identity, number, days)
    }

    /// Revokes certificates of a modality: one by its number, all but the newest, or all. Those that
    /// are revoked now.
    ///
    /// # Errors
    /// When there is nothing to revoke, or the list cannot be written.
    pub fn revoke(&mut self, name: &str, which: Which, crl_days: u32) -> Result<Vec<Entry>> {
        let entries = self.of(name)?;
        let newest = entries.last().map(|entry| entry.number);
        let mut revoked = Vec::new();
        for mut entry in entries {
            let meant = match which {
                Which::All => true,
                Which::Number(number) => entry.number == number,
                Which::AllButNewest => Some(entry.number) != newest,
            };
            if meant && self.list.revoke(&entry.leaf.serial) {
                entry.revoked_at = self.list.revoked_at(&entry.leaf.serial);
                revoked.push(entry);
            }
        }
        ensure!(
            !revoked.is_empty(),
            "{name} has no such certificate, or it is revoked already"
        );
        self.sign_list(crl_days)?;
        Ok(revoked)
    }

    /// Signs the list anew: from its next update on, no certificate is believed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn sign_list(&mut self, days: u32) -> Result<()> {
        let pem = self.authority.sign_list(&mut self.list, days)?;
        write_public(&self.pki.modality_crl(), &pem)
    }

    /// The list.
    pub fn list(&self) -> &RevocationList {
        &self.list
    }

    /// Where the list is.
    pub fn list_path(&self) -> PathBuf {
        self.pki.modality_crl()
    }

    /// Every certificate of every modality, by name and number.
    ///
    /// # Errors
    /// When a file is not as it should be.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let mut names = Vec::new();
        for entry in folder(&self.pki.modalities())? {
            names.push(entry);
        }
        names.sort();
        let mut entries = Vec::new();
        for name in names {
            entries.extend(self.of(&name)?);
        }
        Ok(entries)
    }

    /// The certificates of one modality, in order.
    fn of(&self, name: &str) -> Result<Vec<Entry>> {
        // Also keeps the name from being a path: no slash, no dots alone.
        SpiffeId::new("x", Role::Modality, name)?;
        ensure!(
            !name.starts_with('.'),
            "a modality's name has no dot in front"
        );
        let dir = self.pki.modalities().join(name);
        let mut entries = Vec::new();
        for file in folder(&dir)? {
            let Some(number) = file.strip_suffix(".crt").and_then(|text| text.parse().ok()) else {
                continue;
            };
            let certificate = dir.join(&file);
            let text = std::fs::read_to_string(&certificate)?;
            let leaf = Leaf::read(&text).with_context(|| certificate.display().to_string())?;
            ensure!(
                leaf.identity.name() == name,
                "{} is not {name}'s",
                certificate.display()
            );
            entries.push(Entry {
                key: dir.join(format!("{number}.key")),
                revoked_at: self.list.revoked_at(&leaf.serial),
                certificate,
                number,
                leaf,
            });
        }
        entries.sort_by_key(|entry| entry.number);
        Ok(entries)
    }

    fn write(&self, identity: &SpiffeId, number: u32, days: u32) -> Result<Entry> {
        let dir = self.pki.modalities().join(identity.name());
        durable::create_dir_all(&dir, 0o700).with_context(|| dir.display().to_string())?;
        let Issued { cert_pem, key_pem } = self.authority.issue(identity, &[], &[], days)?;
        let entry = Entry {
            certificate: dir.join(format!("{number}.crt")),
            key: dir.join(format!("{number}.key")),
            number,
            leaf: Leaf::read(&cert_pem)?,
            revoked_at: None,
        };
        // Neither replaces a file. The key first: a certificate without it is of no use to anybody.
        write_secret(&entry.key, key_pem.as_bytes())
            .with_context(|| entry.key.display().to_string())?;
        write_secret(&entry.certificate, cert_pem.as_bytes())
            .with_context(|| entry.certificate.display().to_string())?;
        Ok(entry)
    }
}

/// Which certificates of a modality.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Every one.
    All,
    /// One.
    Number(u32),
    /// Those before the last renewal.
    AllButNewest,
}

/// Names in a folder; none if it is not there.
fn folder(dir: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(dir.display().to_string()),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string().ok());
    }
    Ok(names)
}

fn write_public(path: &Path, text: &str) -> Result<()> {
    durable::write_atomic(path, text.as_bytes(), 0o600).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::pki::{self, Plan};

    fn register() -> (tempfile::TempDir, Register) {
        let dir = tempfile::tempdir().unwrap();
        pki::create(dir.path(), &Plan::for_trust_domain("example.org")).unwrap();
        let register = Register::open(dir.path()).unwrap();
        (dir, register)
    }

    #[test]
    fn certificates_are_issued_once_renewed_and_revoked_and_the_list_is_kept() {
        let (dir, mut register) = register();
        let domain = register.trust_domain().unwrap();
        assert_eq!(domain, "example.org");
        let first = register.issue(&domain, "ct-1", 30).unwrap();
        assert_eq!(
            first.leaf.identity.to_string(),
            "spiffe://example.org/modality/ct-1"
        );
        for file in [&first.key, &first.certificate] {
            let mode = std::fs::metadata(file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let bytes = std::fs::read(&first.key).unwrap();
        assert!(register.issue(&domain, "ct-1", 30).is_err());
        assert_eq!(std::fs::read(&first.key).unwrap(), bytes, "not touched");
        assert!(register.renew("mr-1", 30).is_err());
        register.issue(&domain, "mr-1", 30).unwrap();
        let second = register.renew("ct-1", 30).unwrap();
        assert_eq!(second.leaf.identity, first.leaf.identity);
        assert_ne!(std::fs::read(&second.key).unwrap(), bytes, "a new key");

        let revoked = register.revoke("ct-1", Which::AllButNewest, 7).unwrap();
        assert_eq!(revoked.len(), 1);
        assert!(
            register.revoke("ct-1", Which::Number(1), 7).is_err(),
            "twice"
        );
        let mut again = Register::open(dir.path()).unwrap();
        let standing = |register: &Register| -> Vec<_> {
            let entries = register.entries().unwrap();
            let entries = entries.iter();
            entries
                .map(|entry| (entry.leaf.identity.name().to_owned(), entry.standing()))
                .collect()
        };
        let expected = |last| {
            [
                ("ct-1".to_owned(), Standing::Revoked),
                ("ct-1".to_owned(), last),
                ("mr-1".to_owned(), Standing::Valid),
            ]
        };
        assert_eq!(standing(&again), expected(Standing::Valid));
        again.revoke("ct-1", Which::All, 7).unwrap();
        assert_eq!(standing(&again), expected(Standing::Revoked));
        again.sign_list(30).unwrap();
        assert_eq!(Register::open(dir.path()).unwrap().list().len(), 2);
    }

    #[test]
    fn a_name_is_no_path() {
        let (_dir, register) = register();
        for name in ["", ".", "..", "../ct", "a/b", ".ct", "a b"] {
            assert!(register.issue("example.org", name, 1).is_err(), "{name}");
        }
    }

    /// `None` where openssl is not installed.
    fn openssl(dir: &Path, arguments: &[&str]) -> Option<(bool, String)> {
        let output = std::process::Command::new("openssl")
            .args(arguments)
            .current_dir(dir)
            .output();
        match output {
            Err(_) => {
                println!("SKIPPED: openssl is not installed");
                None
            }
            Ok(output) => {
                let text = [output.stdout, output.stderr].concat();
                let text = String::from_utf8_lossy(&text).into_owned();
                Some((output.status.success(), text))
            }
        }
    }

    #[test]
    fn openssl_believes_certificate_and_list() {
        let (dir, mut register) = register();
        let one = register.issue("example.org", "ct-1", 30).unwrap();
        let two = register.renew("ct-1", 30).unwrap();
        register.revoke("ct-1", Which::Number(1), 7).unwrap();
        let verify = |entry: &Entry| {
            let certificate = entry.certificate.to_str().unwrap();
            let purpose = ["verify", "-purpose", "sslclient", "-x509_strict"];
            let files = [
                "-CAfile",
                "ca.crt",
                "-CRLfile",
                "modalities.crl",
                "-crl_check",
            ];
            openssl(dir.path(), &[&purpose[..], &files, &[certificate]].concat())
        };
        let Some((believed, text)) = verify(&two) else {
            return;
        };
        assert!(believed, "{text}");
        let (believed, text) = verify(&one).unwrap();
        assert!(!believed && text.contains("certificate revoked"), "{text}");
        let show = [
            "x509",
            "-noout",
            "-text",
            "-in",
            two.certificate.to_str().unwrap(),
        ];
        let (_, text) = openssl(dir.path(), &show).unwrap();
        for part in [
            "prime256v1",
            "URI:spiffe://example.org/modality/ct-1",
            "CA:FALSE",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
