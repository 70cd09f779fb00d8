//! Disks that fail: one that refuses an operation, and one that writes everything down so that a
//! power cut can be played back.
//!
//! The power cut is stricter than any file system: a write that was not synced may be there, in
//! part or not at all; a name that its directory's sync did not follow may be there or not; whatever
//! a sync failed on with EIO is gone for good, however often it is synced again.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cloister_log::disk::{Op, Watch};
use rustix::io::Errno;

/// A generator that a seed repeats.
#[derive(Debug, Clone)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64.
    pub(super) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.draw() % end.max(1)
    }
}

/// What happens at the chosen operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// ENOSPC, once or from then on.
    Full { lasting: bool },
    /// EIO, once or from then on.
    Broken { lasting: bool },
    /// The process dies: half a write, and nothing after it.
    Killed,
}

/// Refuses the operation of a number.
#[derive(Debug)]
pub(super) struct Faulty {
    pub(super) fault: Fault,
    pub(super) at: u64,
    pub(super) count: AtomicU64,
}

impl Faulty {
    pub(super) fn new(fault: Fault, at: u64) -> Self {
        let count = AtomicU64::new(0);
        Self { fault, at, count }
    }

    /// Whether the operation happened at all.
    pub(super) fn met(&self) -> bool {
        self.count.load(Ordering::SeqCst) > self.at
    }
}

impl Watch for Faulty {
    fn perform(&self, op: &Op<'_>, run: &mut dyn FnMut(usize) -> io::Result<()>) -> io::Result<()> {
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        let errno = match self.fault {
            Fault::Full { .. } => Errno::NOSPC,
            Fault::Broken { .. } | Fault::Killed => Errno::IO,
        };
        let lasting = match self.fault {
            Fault::Full { lasting } | Fault::Broken { lasting } => lasting,
            Fault::Killed => true,
        };
        if number == self.at {
            if let Op::Write(_, _, bytes) = op {
                run(bytes.len() / 2)?;
            }
            return Err(errno.into());
        }
        if lasting && number > self.at {
            // A full disk still lets go of files; a broken one and a dead process do nothing.
            let frees = matches!(op, Op::Remove(_) | Op::RemoveDir(_) | Op::SetLen(..));
            if !(frees && errno == Errno::NOSPC) {
                return Err(errno.into());
            }
        }
        run(usize::MAX)
    }
}

/// A disk that is full while a test says so.
#[derive(Debug, Default)]
pub(super) struct Switched {
    pub(super) full: AtomicBool,
    pub(super) broken_syncs: AtomicBool,
    pub(super) failed_syncs: AtomicU64,
}

impl Watch for Switched {
    fn perform(&self, op: &Op<'_>, run: &mut dyn FnMut(usize) -> io::Result<()>) -> io::Result<()> {
        let full = self.full.load(Ordering::SeqCst);
        match op {
            Op::Write(_, _, bytes) if full => {
                run(bytes.len() / 3)?;
                Err(Errno::NOSPC.into())
            }
            Op::Create(_) | Op::CreateDir(_) | Op::Link(..) if full => Err(Errno::NOSPC.into()),
            Op::Sync(_) | Op::SyncDir(_) if self.broken_syncs.load(Ordering::SeqCst) => {
                self.failed_syncs.fetch_add(1, Ordering::SeqCst);
                Err(Errno::IO.into())
            }
            _ => run(usize::MAX),
        }
    }
}

/// An operation that was done, relative to the root.
#[derive(Debug, Clone)]
enum Done {
    Put(PathBuf, Node),
    Write(PathBuf, u64, Vec<u8>),
    SetLen(PathBuf, u64),
    Sync(PathBuf, bool),
    SyncDir(PathBuf, bool),
    Link(PathBuf, PathBuf),
    Move(PathBuf, PathBuf),
    Remove(PathBuf),
    /// The test's own note.
    Note(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Dir,
    File(usize),
}

/// Writes everything down, and may fail one operation as well.
#[derive(Debug)]
pub(super) struct Recorder {
    root: PathBuf,
    faulty: Option<Faulty>,
    done: Mutex<Vec<Done>>,
}

impl Recorder {
    pub(super) fn new(root: &Path, faulty: Option<Faulty>) -> Self {
        Self {
            root: root.to_owned(),
            faulty,
            done: Mutex::default(),
        }
    }

    /// From here on `note` holds.
    pub(super) fn note(&self, note: usize) {
        self.done.lock().unwrap().push(Done::Note(note));
    }

    pub(super) fn len(&self) -> usize {
        self.done.lock().unwrap().len()
    }

    /// What a power cut after `at` operations may leave, put under `into`; the notes before it.
    pub(super) fn cut(&self, at: usize, into: &Path, chance: &mut Chance) -> Vec<usize> {
        let done = self.done.lock().unwrap();
        let mut model = Model::default();
        let mut notes = Vec::new();
        for done in &done[..at] {
            match done {
                Done::Note(note) => notes.push(*note),
                done => model.apply(done),
            }
        }
        model.leave(into, chance);
        notes
    }
}

impl Watch for Recorder {
    fn perform(&self, op: &Op<'_>, run: &mut dyn FnMut(usize) -> io::Result<()>) -> io::Result<()> {
        // One operation at a time, so that the order written down is the order done.
        let mut done = self.done.lock().unwrap();
        let mut written = usize::MAX;
        let result = match &self.faulty {
            None => run(usize::MAX),
            Some(faulty) => faulty.perform(op, &mut |limit| {
                written = limit;
                run(limit)
            }),
        };
        let path = |path: &Path| path.strip_prefix(&self.root).unwrap().to_owned();
        let entry = match op {
            Op::Write(at, offset, bytes) => {
                let whole = result.is_ok();
                let length = if whole { bytes.len() } else { written };
                let length = if length == usize::MAX { 0 } else { length };
                Some(Done::Write(path(at), *offset, bytes[..length].to_vec()))
            }
            Op::Sync(at) => Some(Done::Sync(path(at), result.is_ok())),
            Op::SyncDir(at) => Some(Done::SyncDir(path(at), result.is_ok())),
            _ if result.is_err() => None,
            Op::Create(at) => Some(Done::Put(path(at), Node::File(0))),
            Op::CreateDir(at) => Some(Done::Put(path(at), Node::Dir)),
            Op::SetLen(at, length) => Some(Done::SetLen(path(at), *length)),
            Op::Link(from, to) => Some(Done::Link(path(from), path(to))),
            Op::Rename(from, to) => Some(Done::Move(path(from), path(to))),
            Op::Remove(at) | Op::RemoveDir(at) => Some(Done::Remove(path(at))),
        };
        // ENOSPC on a sync leaves the pages where they are; EIO may have dropped them.
        let full = matches!(&result, Err(error) if error.kind() == io::ErrorKind::StorageFull);
        match entry {
            Some(Done::Sync(_, false) | Done::SyncDir(_, false)) if full => {}
            Some(entry) => done.push(entry),
            None => {}
        }
        result
    }
}

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

#[derive(Debug, Default)]
struct File {
    synced: Vec<u8>,
    pending: Vec<Change>,
}

fn change(bytes: &mut Vec<u8>, change: &Change, limit: usize) {
    match change {
        Change::Write(offset, new) => {
            let new = &new[..limit.min(new.len())];
            let end = *offset as usize + new.len();
            bytes.resize(bytes.len().max(end), 0);
            bytes[*offset as usize..end].copy_from_slice(new);
        }
        Change::SetLen(length) => bytes.resize(*length as usize, 0),
    }
}

/// A disk in two states: what a process sees, and what a power cut leaves at least.
#[derive(Debug, Default)]
struct Model {
    files: Vec<File>,
    seen: BTreeMap<PathBuf, Node>,
    synced: BTreeMap<PathBuf, Node>,
    /// Names that changed since their directory's last sync.
    pending: Vec<Done>,
}

fn folder(done: &Done) -> Option<&Path> {
    match done {
        Done::Put(path, _) | Done::Remove(path) | Done::Move(_, path) => path.parent(),
        _ => None,
    }
}

fn rename(names: &mut BTreeMap<PathBuf, Node>, done: &Done, node: Option<Node>) {
    match done {
        Done::Put(path, node) => {
            names.insert(path.clone(), *node);
        }
        Done::Remove(path) => {
            names.remove(path);
        }
        Done::Move(from, to) => {
            let moved = names.remove(from).or(node);
            if let Some(moved) = moved {
                names.insert(to.clone(), moved);
            }
        }
        _ => {}
    }
}

impl Model {
    fn file(&mut self, path: &Path) -> Option<&mut File> {
        match self.seen.get(path) {
            Some(Node::File(at)) => self.files.get_mut(*at),
            _ => None,
        }
    }

    fn apply(&mut self, done: &Done) {
        match done {
            Done::Put(path, node) => {
                let node = match node {
                    Node::Dir => Node::Dir,
                    Node::File(_) => {
                        self.files.push(File::default());
                        Node::File(self.files.len() - 1)
                    }
                };
                self.name(Done::Put(path.clone(), node));
            }
            Done::Link(from, to) => {
                let node = self.seen[from];
                self.name(Done::Put(to.clone(), node));
            }
            Done::Move(..) | Done::Remove(_) => self.name(done.clone()),
            Done::Write(path, offset, bytes) => {
                if let Some(file) = self.file(path) {
                    file.pending.push(Change::Write(*offset, bytes.clone()));
                }
            }
            Done::SetLen(path, length) => {
                if let Some(file) = self.file(path) {
                    file.pending.push(Change::SetLen(*length));
                }
            }
            Done::Sync(path, succeeded) => {
                if let Some(file) = self.file(path) {
                    let pending = std::mem::take(&mut file.pending);
                    if *succeeded {
                        for pending in &pending {
                            change(&mut file.synced, pending, usize::MAX);
                        }
                    }
                }
            }
            Done::SyncDir(dir, succeeded) => {
                let all = std::mem::take(&mut self.pending);
                for done in all {
                    if folder(&done) != Some(dir.as_path()) {
                        self.pending.push(done);
                    } else if *succeeded {
                        rename(&mut self.synced, &done, None);
                    }
                }
            }
            Done::Note(_) => {}
        }
    }

    fn name(&mut self, done: Done) {
        // A file that never had a durable name can still be moved: what it was is kept beside it.
        if let Done::Move(from, to) = &done
            && let Some(node) = self.seen.get(from).copied()
        {
            rename(&mut self.seen, &done, None);
            // Atomic: the new name and the loss of the old one come together.
            self.pending
                .retain(|other| !matches!(other, Done::Put(path, _) if path == from));
            self.pending.push(Done::Put(to.clone(), node));
            return;
        }
        rename(&mut self.seen, &done, None);
        self.pending.push(done);
    }

    fn leave(mut self, into: &Path, chance: &mut Chance) {
        let pending = std::mem::take(&mut self.pending);
        let mode = chance.below(4);
        let prefix = chance.below(pending.len() as u64 + 1) as usize;
        for (at, done) in pending.iter().enumerate() {
            let kept = match mode {
                0 => true,
                1 => false,
                2 => at < prefix,
                _ => chance.below(2) == 0,
            };
            if kept {
                rename(&mut self.synced, done, None);
            }
        }
        for (path, node) in &self.synced {
            // Without its directory nothing is found.
            let parents = path
                .ancestors()
                .skip(1)
                .filter(|dir| !dir.as_os_str().is_empty());
            if !parents
                .into_iter()
                .all(|dir| self.synced.get(dir) == Some(&Node::Dir))
            {
                continue;
            }
            let at = into.join(path);
            match node {
                Node::Dir => std::fs::create_dir_all(&at).unwrap(),
                Node::File(file) => {
                    let bytes = self.files[*file].left(chance);
                    std::fs::create_dir_all(at.parent().unwrap()).unwrap();
                    cloister_log::durable::write_atomic(&at, &bytes, 0o600).unwrap();
                }
            }
        }
    }
}

impl File {
    fn left(&self, chance: &mut Chance) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        let mode = chance.below(4);
        let prefix = chance.below(self.pending.len() as u64 + 1) as usize;
        for (at, pending) in self.pending.iter().enumerate() {
            let kept = match mode {
                0 => true,
                1 => false,
                2 => at < prefix,
                _ => chance.below(2) == 0,
            };
            // In sectors, as a disk writes.
            let torn = mode > 1 && chance.below(3) == 0;
            let limit = if torn {
                512 * chance.below(300) as usize
            } else {
                usize::MAX
            };
            if kept {
                change(&mut bytes, pending, limit);
            }
        }
        bytes
    }
}
