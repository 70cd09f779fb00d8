//! Certificates of modalities: one folder each beside the CA, nothing in it ever overwritten.
//!
//! ```text
//! <pki>/modalities/<name>/1.crt, 1.key    the first certificate, its key (mode 0600)
//! <pki>/modalities/<name>/2.crt, 2.key    after the first renewal, for a new key
//! <pki>/modalities.crl                    what is revoked: of dimse_tls.crl and stow.crl
//! <pki>/modalities.crl.number             the number of the last list that was signed
//! <pki>/modalities.lock                   held by whoever changes any of it
//! ```
//! A number is used once: a key without its certificate is what a kill has left of one.
//!
//! All of it belongs where the CA's key is, and that is no serving machine: a modality gets its pair,
//! the gateway the list.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use cloister_log::durable;
use cloister_log::lock::Lock;
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
    /// What is read here is changed and written back: one at a time.
    _lock: Lock,
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
    /// Reads the CA and its list. Waits for whoever has it open.
    ///
    /// # Errors
    /// When the folder holds no CA with its key, or the list is another CA's, or it is not the last one
    /// that was signed: with it the next one would leave revocations out.
    pub fn open(dir: &Path) -> Result<Self> {
        let pki = Pki::at(dir);
        let certificate =
            std::fs::read_to_string(pki.ca()).with_context(|| pki.ca().display().to_string())?;
        let key =
            read_secret_text(&pki.ca_key()).with_context(|| pki.ca_key().display().to_string())?;
        let authority = Authority::load(&certificate, &key)?;
        let path = pki.modality_lock();
        let lock = Lock::wait(&path).with_context(|| path.display().to_string())?;
        let list = last_list(&pki, &authority)?;
        Ok(Self {
            pki,
            authority,
            list,
            _lock: lock,
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
        self.write(&identity, days)
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
        self.write(&last.leaf.identity, days)
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
        write_public(&self.pki.modality_crl(), &pem)?;
        write_number(&self.pki, self.list.number())
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

    fn write(&self, identity: &SpiffeId, days: u32) -> Result<Entry> {
        let dir = self.pki.modalities().join(identity.name());
        durable::create_dir_all(&dir, 0o700).with_context(|| dir.display().to_string())?;
        let number = next_number(&dir)?;
        let Issued { cert_pem, key_pem } = self.authority.issue(identity, &[], &[], days)?;
        let entry = Entry {
            certificate: dir.join(format!("{number}.crt")),
            key: dir.join(format!("{number}.key")),
            number,
            leaf: Leaf::read(&cert_pem)?,
            revoked_at: None,
        };
        // Neither replaces a file. The key first: a certificate without it is of no use to anybody, and a
        // key without a certificate is only a number that is not used again.
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

/// The list that was signed last; an empty one before the first.
fn last_list(pki: &Pki, authority: &Authority) -> Result<RevocationList> {
    let path = pki.modality_crl();
    let last = last_number(pki)?;
    let list = match read_if_there(&path)? {
        Some(text) => {
            RevocationList::read(&text, authority).with_context(|| path.display().to_string())?
        }
        None if last.is_none() => return Ok(RevocationList::default()),
        None => bail!(
            "{} is missing, and with it what was revoked: copy it back from the gateway or a backup",
            path.display()
        ),
    };
    match last {
        Some(last) if list.number() < last => bail!(
            "{} is number {}, the last one signed was {last}: copy that one back from the gateway or \
             a backup",
            path.display(),
            list.number(),
        ),
        Some(last) if list.number() == last => {}
        // Signed before numbers were kept, or killed between the two files.
        _ => write_number(pki, list.number())?,
    }
    Ok(list)
}

fn last_number(pki: &Pki) -> Result<Option<u64>> {
    let path = pki.modality_crl_number();
    let number = read_if_there(&path)?.map(|text| text.trim().parse());
    let number = number.transpose();
    number.with_context(|| format!("{}: no number", path.display()))
}

fn write_number(pki: &Pki, number: u64) -> Result<()> {
    write_public(&pki.modality_crl_number(), &format!("{number}\n"))
}

fn read_if_there(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context(path.display().to_string()),
    }
}

/// One above every number in a modality's folder, whether of a certificate or of a key alone.
fn next_number(dir: &Path) -> Result<u32> {
    let mut last: u32 = 0;
    for file in folder(dir)? {
        let name = file
            .strip_suffix(".crt")
            .or_else(|| file.strip_suffix(".key"));
        let number = name.and_then(|name| name.parse().ok());
        last = last.max(number.unwrap_or_default());
    }
    last.checked_add(1).context("too many certificates")
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
        drop(register);
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
        drop(again);
        assert_eq!(Register::open(dir.path()).unwrap().list().len(), 2);
    }

    #[test]
    fn a_revocation_waits_for_the_one_before_and_neither_is_lost() {
        let (dir, register) = register();
        for name in ["ct-1", "mr-1"] {
            register.issue("example.org", name, 30).unwrap();
        }
        std::thread::scope(|scope| {
            let (begun, begins) = std::sync::mpsc::channel();
            let path = dir.path();
            let other = scope.spawn(move || {
                begun.send(()).unwrap();
                let mut register = Register::open(path).unwrap();
                register.revoke("mr-1", Which::All, 7).unwrap();
            });
            begins.recv().unwrap();
            let mut register = register;
            register.revoke("ct-1", Which::All, 7).unwrap();
            drop(register);
            other.join().unwrap();
        });
        assert_eq!(Register::open(dir.path()).unwrap().list().len(), 2);
    }

    #[test]
    fn while_one_has_the_register_open_no_other_reads_it() {
        let (dir, register) = register();
        let path = register.pki.modality_lock();
        assert!(Lock::take(&path).unwrap().is_none());
        drop(register);
        assert!(Lock::take(&path).unwrap().is_some());
        drop(Register::open(dir.path()).unwrap());
    }

    #[test]
    fn a_list_that_is_lost_or_old_is_not_signed_over() {
        let (dir, mut register) = register();
        for name in ["ct-1", "mr-1"] {
            register.issue("example.org", name, 30).unwrap();
        }
        let list = register.list_path();
        register.revoke("ct-1", Which::All, 7).unwrap();
        let first = std::fs::read(&list).unwrap();
        register.revoke("mr-1", Which::All, 7).unwrap();
        let second = std::fs::read(&list).unwrap();
        let number = register.pki.modality_crl_number();
        drop(register);
        let put = |bytes: &[u8]| durable::write_atomic(&list, bytes, 0o600).unwrap();

        durable::remove(&list).unwrap();
        let error = Register::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("is missing"), "{error}");
        put(&first);
        let error = Register::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("the last one signed"), "{error}");
        put(&second);
        assert_eq!(Register::open(dir.path()).unwrap().list().len(), 2);
        // Killed between list and number, or a list of an older version: the list counts, and is
        // missed from then on.
        durable::remove(&number).unwrap();
        assert_eq!(Register::open(dir.path()).unwrap().list().len(), 2);
        durable::remove(&list).unwrap();
        assert!(Register::open(dir.path()).is_err());
    }

    #[test]
    fn a_key_without_a_certificate_costs_a_number_and_not_the_name() {
        let (dir, register) = register();
        let orphan = |name: &str, number: u32| {
            let folder = dir.path().join("modalities").join(name);
            durable::create_dir_all(&folder, 0o700).unwrap();
            let key = folder.join(format!("{number}.key"));
            write_secret(&key, b"killed here").unwrap();
        };
        orphan("ct-1", 1);
        let entry = register.issue("example.org", "ct-1", 30).unwrap();
        assert_eq!(entry.number, 2);
        orphan("ct-1", 3);
        assert_eq!(register.renew("ct-1", 30).unwrap().number, 4);
        assert_eq!(register.entries().unwrap().len(), 2);
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
