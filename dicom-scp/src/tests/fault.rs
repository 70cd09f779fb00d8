//! Faults below the spool: whatever the disk does, an acknowledged film is there after a restart,
//! whole, and no cut one is.
//!
//! `CLOISTER_FAULT_TRIALS` (120) and `CLOISTER_FAULT_SEED` (printed) steer a long run. Long, because a trial is
//! the gateway's whole way with its disk and the judgement of what is left of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use cloister_audit::{AuditConfig, AuditLog};
use cloister_deid::{IdKind, Pseudonyms as _};
use cloister_log::disk::{Disk, Watch};
use cloister_phi::AeTitle;
use cloister_seal::SigningKey;
use dicom_dictionary_std::uids;

use super::disk::{Chance, Fault, Faulty, Recorder};
use super::scu::{Film, store_command};
use crate::config::{KeySource, WrappingSource};
use crate::error::SpoolError;
use crate::keys::{self, Keys};
use crate::quarantine::Reason;
use crate::receive::negotiate::Context;
use crate::receive::object::{Announced, Receiving};
use crate::spool::record::{Record, now_unix_ms};
use crate::spool::sealed::{SealedReader, Slot};
use crate::spool::space::Limits;
use crate::spool::worklist::ObjectState;
use crate::spool::worklist::commitment::Leaver;
use crate::spool::{Id, Spool};
use crate::store::{Store, store};
use crate::vault::Vault;
use cloister_dimse::command::{Command, Status};

const LIMITS: Limits = Limits {
    min_free_bytes: 0,
    max_bytes: None,
};

fn number(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// In memory where that is possible: a sync costs nothing there, and the faults are ours.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// Keys that outlive every trial.
struct Safe {
    dir: tempfile::TempDir,
    audit: SigningKey,
}

impl Safe {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, byte) in [("first", 1), ("second", 2), ("pseudonym", 3)] {
            cloister_seal::files::write_secret(&dir.path().join(name), &[byte; 32]).unwrap();
        }
        let audit = SigningKey::generate().unwrap();
        Self { dir, audit }
    }

    fn keys(&self, newest: &str, older: &[&str]) -> Arc<Keys> {
        let file = |name: &str| KeySource::file(self.dir.path().join(name));
        let source = |name: &&str| WrappingSource::File(file(name));
        let older: Vec<_> = older.iter().map(source).collect();
        Arc::new(Keys::load(&source(&newest), &older, &file("pseudonym")).unwrap())
    }
}

/// What is known outside of the disk.
#[derive(Default)]
struct Outside {
    /// Acknowledged data sets, by note.
    acknowledged: Mutex<Vec<(String, Vec<u8>)>>,
    /// Notes of films whose erasure was begun, by the note that says so.
    erased: Mutex<BTreeMap<usize, Vec<usize>>>,
    refused: Mutex<u64>,
}

const ERASING: usize = 1_000_000;

struct Run<'a> {
    dir: &'a Path,
    safe: &'a Safe,
    disk: Disk,
    recorder: Option<&'a Recorder>,
    outside: &'a Outside,
}

struct Opened {
    vault: Vault,
    store: Store,
    audit: AuditLog,
}

fn open(dir: &Path, safe: &Safe, disk: &Disk, keys: Arc<Keys>) -> Result<Opened, SpoolError> {
    let audit = AuditConfig {
        dir: dir.join("audit"),
        origin: "test/dicom-scp/0".to_owned(),
        key: safe.audit.clone(),
    };
    let audit = AuditLog::open_on(disk.clone(), audit);
    let audit = audit.map_err(|error| {
        assert!(
            !matches!(error, cloister_audit::AuditError::Tampered),
            "the audit log is called tampered with"
        );
        SpoolError::Io(std::io::Error::other(error.to_string()))
    })?;
    let vault = Vault::open(&dir.join("vault"), Arc::clone(&keys), disk.clone())?;
    let spool = Spool::open(&dir.join("spool"), keys, disk.clone(), LIMITS)?;
    Ok(Opened {
        vault,
        store: Store::new(spool, audit.clone()),
        audit,
    })
}

/// As [`open`]: the last thread of the run before may still have to let go of a log.
fn reopen(dir: &Path, safe: &Safe, disk: &Disk, keys: &Arc<Keys>) -> Result<Opened, SpoolError> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let opened = open(dir, safe, disk, Arc::clone(keys));
        match opened {
            Err(error)
                if error.to_string().contains("in use") && std::time::Instant::now() < deadline =>
            {
                std::thread::yield_now();
            }
            other => return other,
        }
    }
}

impl Run<'_> {
    /// Sends a film; the note under which its acknowledgement stands.
    async fn send(&self, opened: &Opened, film: &Film) -> Option<usize> {
        let command = Command::parse(&store_command(1, &film.instance)).unwrap();
        let context = Context {
            abstract_syntax: uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE.to_owned(),
            transfer_syntax: uids::EXPLICIT_VR_LITTLE_ENDIAN,
        };
        let calling = Arc::new(AeTitle::parse("MODALITY").unwrap());
        let data = film.data_set();
        let spool = &opened.store.spool;
        let mut receiving =
            Receiving::start(Announced::by(&command, &context), &calling, 1 << 30, spool);
        for part in data.chunks(30_000) {
            receiving.push(part).await;
        }
        let status = match receiving.finish().await {
            Ok(received) => store(&opened.store, received).await.1,
            Err(status) => status,
        };
        if status == Status::Success {
            let mut acknowledged = self.outside.acknowledged.lock().unwrap();
            acknowledged.push((film.instance.clone(), data));
            let note = acknowledged.len() - 1;
            if let Some(recorder) = self.recorder {
                recorder.note(note);
            }
            return Some(note);
        }
        assert_eq!(
            status.code(),
            Status::OutOfResources.code(),
            "a fault of the disk is A700"
        );
        *self.outside.refused.lock().unwrap() += 1;
        None
    }

    /// Everything that a gateway does to its disk; a step that fails is left out.
    async fn all(&self) -> Result<(), SpoolError> {
        let safe = self.safe;
        let opened = open(self.dir, safe, &self.disk, safe.keys("first", &[]))?;
        let spool = opened.store.spool.clone();
        let mut sent = BTreeMap::<u32, Vec<usize>>::new();
        for study in 1..=3 {
            for instance in 1..=2 {
                let side = if instance == 2 { 300 } else { 16 };
                let film = Film {
                    side,
                    ..Film::new(study, instance)
                };
                sent.entry(study)
                    .or_default()
                    .extend(self.send(&opened, &film).await);
                // The sender does not believe it, and another film comes under the same name.
                sent.entry(study)
                    .or_default()
                    .extend(self.send(&opened, &film).await);
            }
        }
        let other = Film {
            seed: 99,
            ..Film::new(2, 1)
        };
        sent.entry(2)
            .or_default()
            .extend(self.send(&opened, &other).await);
        for study in 1..=2 {
            drop(self.work(&opened, study).await);
        }
        // Study 1 has come to its end.
        let id = study_id(&spool, 1);
        let notes = sent.remove(&1).unwrap_or_default();
        if !notes.is_empty() {
            self.outside.erased.lock().unwrap().insert(ERASING, notes);
            if let Some(recorder) = self.recorder {
                recorder.note(ERASING);
            }
            let erased = spool.erase_study(id, Leaver::Retention, |list| {
                list.erasure(id, now_unix_ms())
            });
            drop(erased.await);
        }
        drop(spool.compact().await);
        self.send(&opened, &Film::new(4, 1)).await;
        drop(opened);
        let limit = std::time::Duration::from_secs(5);
        spool.settle(limit).await;

        // A restart with a new wrapping key.
        let keys = safe.keys("second", &["first"]);
        let opened = reopen(self.dir, safe, &self.disk, &keys)?;
        let spool = opened.store.spool.clone();
        if spool.renew_keys().await.is_ok() {
            drop(opened.vault.rotate());
        }
        self.send(&opened, &Film::new(5, 1)).await;
        drop(self.work(&opened, 4).await);
        drop(spool.compact().await);
        self.send(&opened, &Film::new(6, 1)).await;
        drop(opened);
        spool.settle(limit).await;
        Ok(())
    }

    /// Assembles a study, clears its first film and puts the second in quarantine and back.
    async fn work(&self, opened: &Opened, study: u32) -> Result<(), SpoolError> {
        let spool = &opened.store.spool;
        let id = study_id(spool, study);
        let objects: Vec<Id> = {
            let list = spool.worklist();
            let waits = |object: &&crate::spool::worklist::Object| {
                matches!(object.state, ObjectState::Waiting)
            };
            let of = list.objects_of(id);
            of.into_iter()
                .filter(waits)
                .map(|object| object.stored.object)
                .collect()
        };
        let Some(first) = objects.first().copied() else {
            return Ok(());
        };
        let key = spool.study_key(id)?;
        for object in &objects {
            spool.rewrap(*object, &key)?;
        }
        let at_unix_ms = now_unix_ms();
        spool
            .append(Record::Assembled {
                study: id,
                version: 1,
                report: uuid::Uuid::from_u128(study.into()),
                replaces: None,
                objects: objects.clone(),
                at_unix_ms,
            })
            .await?;
        let session = opened.vault.session();
        let pseudonym = session.pseudonym(IdKind::PatientId, "A", &study.to_string());
        session.commit()?;
        let file = Id::random()?;
        let mut writer = spool.write_cleared(file, &keys::cipher(&key))?;
        writer.write(&vec![7; 70_000])?;
        writer.finish()?;
        spool
            .append(Record::Cleared {
                object: first,
                file,
                study_pseudonym: pseudonym.unwrap(),
                meta: vec![1],
            })
            .await?;
        for object in objects.into_iter().skip(1) {
            let reason = Reason::NoRoute;
            spool
                .append(Record::Quarantined {
                    object,
                    reason,
                    at_unix_ms,
                })
                .await?;
            spool
                .append(Record::Released { object, at_unix_ms })
                .await?;
        }
        Ok(())
    }
}

fn study_id(spool: &Spool, study: u32) -> Id {
    Id::of_hash(&spool.keys().lookup("study", &[&Film::new(study, 1).study]))
}

/// Opens what is left and looks for every acknowledged film.
fn verify(dir: &Path, safe: &Safe, notes: &[usize], outside: &Outside) -> Result<(), String> {
    let keys = safe.keys("second", &["first"]);
    let opened = reopen(dir, safe, &Disk::default(), &keys);
    let opened = opened.map_err(|error| format!("it does not open: {error}"))?;
    let spool = &opened.store.spool;
    let erased = outside.erased.lock().unwrap();
    let erased: BTreeSet<usize> = notes
        .iter()
        .filter_map(|note| erased.get(note))
        .flatten()
        .copied()
        .collect();
    let acknowledged = outside.acknowledged.lock().unwrap();
    let mut whole = BTreeMap::new();
    let objects: Vec<_> = {
        let list = spool.worklist();
        let studies: Vec<Id> = list.studies().map(|(id, _)| *id).collect();
        let objects = studies.into_iter().flat_map(|study| list.objects_of(study));
        objects.cloned().collect()
    };
    // Nothing that the log names is cut or closed.
    for object in objects {
        let (id, stored) = (object.stored.object, &object.stored);
        let plain = read(spool, id, stored.study)
            .map_err(|error| format!("{:?}: an object cannot be read: {error}", object.state))?;
        whole
            .entry(stored.instance)
            .or_insert_with(Vec::new)
            .push(plain);
        if let ObjectState::Cleared { file, .. } = object.state {
            let key = spool
                .study_key(stored.study)
                .map_err(|error| error.to_string())?;
            let reader =
                SealedReader::open(&spool.cleared(), file, &keys::cipher(&key), Slot::Study);
            let plain = reader.and_then(SealedReader::read_all);
            let plain = plain.map_err(|error| format!("a cleared object: {error}"))?;
            if plain.len() != 70_000 || plain.iter().any(|byte| *byte != 7) {
                return Err("a cleared object is another".to_owned());
            }
        }
    }
    let mut audited = 0;
    let stored = |record: &[u8]| record.windows(15).any(|part| part == b"\"object_stored\"");
    cloister_log::read_directory(&dir.join("audit/log"), |_, record| {
        audited += usize::from(stored(record));
    })
    .map_err(|error| error.to_string())?;
    let mut distinct = BTreeSet::new();
    for note in notes.iter().filter(|note| **note < ERASING) {
        let (instance, data) = &acknowledged[*note];
        distinct.insert((instance, data));
        if erased.contains(note) {
            continue;
        }
        let hash = spool.keys().lookup("instance", &[instance]);
        let found = whole.get(&hash).into_iter().flatten();
        match found.filter(|plain| plain.ends_with(data)).count() {
            1 => {}
            0 => return Err(format!("an acknowledged film is lost (note {note})")),
            more => return Err(format!("an acknowledged film is there {more} times")),
        }
    }
    if audited < distinct.len() {
        return Err(format!("{} films, {audited} audit records", distinct.len()));
    }
    drop(opened.audit);
    Ok(())
}

fn read(spool: &Spool, id: Id, study: Id) -> Result<Vec<u8>, SpoolError> {
    let mut result = Err(SpoolError::Sealed);
    for wrapping in spool.keys().wrappings() {
        result = SealedReader::open(&spool.objects(), id, wrapping, Slot::Receive);
        if result.is_ok() {
            break;
        }
    }
    let reader = if let Ok(reader) = result {
        reader
    } else {
        // Under its study's key, or between two wrapping keys: as assembling it would.
        let key = spool.study_key(study)?;
        spool.rewrap(id, &key)?;
        SealedReader::open(&spool.objects(), id, &keys::cipher(&key), Slot::Study)?
    };
    reader.read_all().map(|plain| plain.to_vec())
}

/// How many operations an undisturbed run has.
async fn operations(safe: &Safe) -> u64 {
    let dir = folder();
    let never = Arc::new(Faulty::new(Fault::Killed, u64::MAX));
    let outside = Outside::default();
    let run = Run {
        dir: dir.path(),
        safe,
        disk: Disk::watched(Arc::clone(&never) as Arc<dyn Watch>),
        recorder: None,
        outside: &outside,
    };
    run.all().await.unwrap();
    assert_eq!(*outside.refused.lock().unwrap(), 0);
    let notes: Vec<usize> = (0..outside.acknowledged.lock().unwrap().len())
        .chain([ERASING])
        .collect();
    verify(dir.path(), safe, &notes, &outside).unwrap();
    never.count.load(std::sync::atomic::Ordering::SeqCst)
}

/// Names in a folder of the spool.
fn names(dir: &Path, folder: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir.join("spool").join(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

fn undisturbed<'a>(dir: &'a Path, safe: &'a Safe, outside: &'a Outside) -> Run<'a> {
    Run {
        dir,
        safe,
        disk: Disk::default(),
        recorder: None,
        outside,
    }
}

#[tokio::test]
async fn without_current_or_its_log_the_spool_does_not_open_and_destroys_nothing() {
    let (dir, safe, outside) = (folder(), Safe::new(), Outside::default());
    let run = undisturbed(dir.path(), &safe, &outside);
    let keys = safe.keys("first", &[]);
    for compacted in [false, true] {
        let opened = reopen(dir.path(), &safe, &run.disk, &keys).unwrap();
        let spool = opened.store.spool.clone();
        let study = u32::from(compacted) + 1;
        assert!(run.send(&opened, &Film::new(study, 1)).await.is_some());
        drop(spool.study_key(study_id(&spool, study)).unwrap());
        if compacted {
            spool.compact().await.unwrap();
        }
        drop(opened);
        spool.settle(std::time::Duration::from_secs(5)).await;

        let lost = dir.path().join(if compacted {
            "spool/current"
        } else {
            "spool/log"
        });
        let away = dir.path().join("away");
        let before = ["objects", "keys"].map(|folder| names(dir.path(), folder));
        std::fs::rename(&lost, &away).unwrap();
        let refused = reopen(dir.path(), &safe, &run.disk, &keys);
        assert!(matches!(refused, Err(SpoolError::NoLog)));
        drop(refused);
        assert!(!dir.path().join("spool/log").exists());
        let after = ["objects", "keys"].map(|folder| names(dir.path(), folder));
        assert_eq!(after, before);
        std::fs::rename(&away, &lost).unwrap();
    }
    verify(dir.path(), &safe, &[0, 1], &outside).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_senders_and_an_erasure_at_the_same_time() {
    let (dir, safe, outside) = (folder(), Safe::new(), Outside::default());
    let run = undisturbed(dir.path(), &safe, &outside);
    let keys = safe.keys("first", &[]);
    for round in 0..10_u32 {
        let opened = reopen(dir.path(), &safe, &run.disk, &keys).unwrap();
        let spool = opened.store.spool.clone();
        let (over, busy) = (2 * round + 1, 2 * round + 2);
        let erased = run.send(&opened, &Film::new(over, 1)).await.unwrap();
        run.work(&opened, over).await.unwrap();
        let id = study_id(&spool, over);
        assert!(names(dir.path(), "keys").contains(&id.to_string()));
        // Both go into the study that ends: before it, or after it as something new.
        let late = [Film::new(over, 2), Film::new(busy, 1)];
        let note = ERASING + round as usize;
        outside.erased.lock().unwrap().insert(note, vec![erased]);
        let (first, second, erasure) = tokio::join!(
            run.send(&opened, &late[0]),
            run.send(&opened, &late[1]),
            spool.erase_study(id, Leaver::Retention, |list| {
                // Only what was there before; a later film is nobody's to erase.
                let whole = list.objects_of(id).len() == 1;
                whole.then(|| list.erasure(id, now_unix_ms())).flatten()
            }),
        );
        assert!(first.is_some() && second.is_some());
        let gone = erasure.unwrap().is_some();
        assert_eq!(names(dir.path(), "keys").contains(&id.to_string()), !gone);
        drop(opened);
        spool.settle(std::time::Duration::from_secs(5)).await;
        let mut notes: Vec<usize> = (0..outside.acknowledged.lock().unwrap().len()).collect();
        if gone {
            notes.push(note);
        } else {
            outside.erased.lock().unwrap().remove(&note);
        }
        notes.extend(outside.erased.lock().unwrap().keys());
        verify(dir.path(), &safe, &notes, &outside).unwrap();
    }
}

#[tokio::test]
async fn a_key_that_no_wrapping_key_opens_keeps_the_keyring_and_the_others_are_renewed() {
    let (dir, safe, outside) = (folder(), Safe::new(), Outside::default());
    let run = undisturbed(dir.path(), &safe, &outside);
    let first = safe.keys("first", &[]);
    let opened = reopen(dir.path(), &safe, &run.disk, &first).unwrap();
    let spool = opened.store.spool.clone();
    for study in 1..=2 {
        assert!(run.send(&opened, &Film::new(study, 1)).await.is_some());
    }
    drop(opened);
    spool.settle(std::time::Duration::from_secs(5)).await;

    // Somebody forgot the key before.
    let both = safe.keys("second", &["first"]);
    let opened = reopen(dir.path(), &safe, &run.disk, &both).unwrap();
    let spool = opened.store.spool.clone();
    let damaged = names(dir.path(), "objects").pop_first().unwrap();
    let path = dir.path().join("spool/objects").join(damaged);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    cloister_log::durable::write_atomic(&path, &bytes, 0o600).unwrap();
    let refused = spool.renew_keys().await;
    assert!(matches!(refused, Err(SpoolError::NotRenewed { keys: 1 })));
    bytes[20] ^= 1;
    cloister_log::durable::write_atomic(&path, &bytes, 0o600).unwrap();
    assert_eq!(spool.renew_keys().await.unwrap(), 2);
    opened.vault.rotate().unwrap();
    drop(opened);
    spool.settle(std::time::Duration::from_secs(5)).await;

    let second = safe.keys("second", &[]);
    let opened = reopen(dir.path(), &safe, &run.disk, &second).unwrap();
    drop(opened);
    verify(dir.path(), &safe, &[0, 1], &outside).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_of_the_disk_loses_an_acknowledged_film_or_shows_a_cut_one() {
    let trials = number("CLOISTER_FAULT_TRIALS", 120);
    let seed = number("CLOISTER_FAULT_SEED", std::process::id().into());
    println!("CLOISTER_FAULT_SEED={seed}");
    let mut chance = Chance::new(seed);
    let safe = Safe::new();
    let most = operations(&safe).await;
    let faults = [
        Fault::Full { lasting: false },
        Fault::Broken { lasting: false },
        Fault::Killed,
        Fault::Full { lasting: true },
        Fault::Broken { lasting: true },
    ];
    let (mut met, mut refused, mut acknowledged, mut failed) = (0, 0, 0, Vec::new());
    for trial in 0..trials / 2 {
        let fault = faults[trial as usize % faults.len()];
        let at = chance.below(most);
        let dir = folder();
        let faulty = Arc::new(Faulty::new(fault, at));
        let outside = Outside::default();
        let run = Run {
            dir: dir.path(),
            safe: &safe,
            disk: Disk::watched(Arc::clone(&faulty) as Arc<dyn Watch>),
            recorder: None,
            outside: &outside,
        };
        // A room that cannot start has acknowledged nothing more.
        drop(run.all().await);
        let mut notes: Vec<usize> = (0..outside.acknowledged.lock().unwrap().len()).collect();
        acknowledged += notes.len();
        notes.extend(outside.erased.lock().unwrap().keys());
        met += u64::from(faulty.met());
        refused += *outside.refused.lock().unwrap();
        if let Err(error) = verify(dir.path(), &safe, &notes, &outside) {
            failed.push(format!(
                "trial {trial}, {fault:?} at {at} of {most}: {error}"
            ));
        }
    }
    let cuts = trials - trials / 2;
    let mut cut = 0;
    while cut < cuts {
        // Several cuts of one run; every third run has a fault before the cut.
        let dir = folder();
        let fault = [
            Fault::Broken { lasting: false },
            Fault::Full { lasting: false },
        ];
        let faulty = (chance.below(3) == 0)
            .then(|| Faulty::new(fault[chance.below(2) as usize], chance.below(most)));
        let described = format!("{faulty:?}");
        let recorder = Arc::new(Recorder::new(dir.path(), faulty));
        let outside = Outside::default();
        let run = Run {
            dir: dir.path(),
            safe: &safe,
            disk: Disk::watched(Arc::clone(&recorder) as Arc<dyn Watch>),
            recorder: Some(&recorder),
            outside: &outside,
        };
        drop(run.all().await);
        refused += *outside.refused.lock().unwrap();
        for _ in 0..20.min(cuts - cut) {
            cut += 1;
            let at = chance.below(recorder.len() as u64 + 1) as usize;
            let left = folder();
            let notes = recorder.cut(at, left.path(), &mut chance);
            acknowledged += notes.len();
            if let Err(error) = verify(left.path(), &safe, &notes, &outside) {
                failed.push(format!(
                    "power cut {cut} after {at} operations, {described}: {error}"
                ));
            }
        }
    }
    println!(
        "{trials} trials ({} faults, {met} of them met, {cuts} power cuts), {most} operations each: \
         {acknowledged} acknowledged films looked for, {refused} refused with A700, {} lost or cut",
        trials / 2,
        failed.len()
    );
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
