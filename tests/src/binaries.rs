//! Where the executables are. `CARGO_BIN_EXE_…` does not reach across crates, so they are looked
//! for in the target folder that this test itself runs from.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use cloister::state::Room;

/// The folder with `cloister` and the three rooms.
///
/// # Errors
/// When one of them was not built.
pub fn binaries() -> Result<PathBuf> {
    // target/debug/deps/path-0123456789abcdef
    let exe = std::env::current_exe().context("finding this executable")?;
    let dir = exe
        .parent()
        .and_then(Path::parent)
        .context("no target folder")?;
    let needed = Room::ALL.map(Room::binary).into_iter().chain(["cloister"]);
    let missing: Vec<_> = needed.filter(|name| !dir.join(name).is_file()).collect();
    if !missing.is_empty() {
        bail!(
            "{} not found in {}; run `cargo build --workspace --bins` first (`make test` does)",
            missing.join(", "),
            dir.display()
        );
    }
    Ok(dir.to_owned())
}

/// The root of this workspace, for `models` and the folder beside it.
pub fn workspace_root() -> PathBuf {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.parent().unwrap_or(crate_dir).to_owned()
}
