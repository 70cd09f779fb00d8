//! `ready.json`: which ports a process really bound.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// Writes `{"pid":…,"ports":{"admin":"127.0.0.1:1234",…}}` in one step: a reader sees the whole
/// file or none.
pub fn write(_path: &Path, _ports: &BTreeMap<&str, String>) -> io::Result<()> {
    todo!()
}
