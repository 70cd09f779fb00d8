//! `ready.json`: which ports a process really bound. Last step of a start.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;

#[derive(Serialize)]
struct Document<'a> {
    pid: u32,
    ports: &'a BTreeMap<&'a str, String>,
}

/// Writes `{"pid":…,"ports":{"admin":"127.0.0.1:1234",…}}` in one step: a reader sees the whole
/// file or none. It says nothing after a power cut, so it is not fsynced.
///
/// # Errors
/// When the folder cannot be written.
pub fn write(path: &Path, ports: &BTreeMap<&str, String>) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let document = Document {
        pid: std::process::id(),
        ports,
    };
    let next = path.with_extension("json.next");
    File::create(&next)?.write_all(&serde_json::to_vec(&document)?)?;
    fs::rename(&next, path)
}

/// Takes the file of an earlier run away, so that nobody reads its ports: first step of a start.
///
/// # Errors
/// When it exists and cannot be removed.
pub fn clear(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    #[test]
    fn names_every_port_and_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/ready.json");
        super::write(
            &path,
            &BTreeMap::from([("admin", "127.0.0.1:1".to_owned())]),
        )
        .unwrap();
        let read: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(read["ports"]["admin"], "127.0.0.1:1");
        assert_eq!(read["pid"], std::process::id());
        super::clear(&path).unwrap();
        super::clear(&path).unwrap();
        assert!(!path.exists());
    }
}
