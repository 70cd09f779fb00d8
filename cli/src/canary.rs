//! Looks for a patient in places where no patient may be: logs, metrics, audit records and the
//! disks of server and sidecar. Used by the demo to show it and by the tests to prove it.

use std::io;
use std::path::{Path, PathBuf};

use cloister_scrub::{Kind, KnownIdentifiers};

use crate::study::Patient;

/// What was looked at, and where something was found.
#[derive(Debug, Default)]
pub struct Scan {
    /// Files read.
    pub files: usize,
    /// Bytes read.
    pub bytes: u64,
    /// Files that hold an identifier. The list names files, never what stands in them.
    pub hits: Vec<PathBuf>,
}

/// The identifiers of a made-up patient, as the gateway collects them from the tags.
pub fn identifiers_of(patient: &Patient) -> KnownIdentifiers {
    let mut known = KnownIdentifiers::default();
    known.add(Kind::Name, &patient.name);
    known.add(Kind::Name, &patient.referring);
    known.add(Kind::Id, &patient.id);
    known.add(Kind::Id, &patient.accession);
    known
}

/// Reads every regular file below `paths` and looks for `known` in every encoding that the gate
/// knows.
///
/// # Errors
/// When a folder or file cannot be read: what was not read was not found clean.
pub fn scan(paths: &[PathBuf], known: &KnownIdentifiers) -> io::Result<Scan> {
    let mut scan = Scan::default();
    let mut pending: Vec<PathBuf> = paths.to_vec();
    while let Some(path) = pending.pop() {
        let kind = match std::fs::symlink_metadata(&path) {
            Ok(metadata) => metadata.file_type(),
            // Logs roll and spool files go while this reads.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if kind.is_dir() {
            for entry in std::fs::read_dir(&path)? {
                pending.push(entry?.path());
            }
        } else if kind.is_file() {
            look(&path, known, &mut scan)?;
        }
    }
    scan.hits.sort();
    Ok(scan)
}

fn look(path: &Path, known: &KnownIdentifiers, scan: &mut Scan) -> io::Result<()> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    scan.files += 1;
    scan.bytes += bytes.len() as u64;
    // A name in a file name is as bad as one inside.
    let name_hit = path
        .file_name()
        .is_some_and(|name| known.is_hit(&name.to_string_lossy()));
    if name_hit || known.find_in_bytes(&bytes) {
        scan.hits.push(path.to_owned());
    }
    Ok(())
}
