//! Not on the path: the vault put back from a backup, while no room runs.

use std::path::Path;

use anyhow::Context as _;
use cloister_log::disk::Disk;

use crate::config::Config;
use crate::keys::Keys;
use crate::vault::Vault;

/// Makes the vault's folder of `config` from `file`; the number of its entries. A folder that exists
/// is not touched.
///
/// # Errors
/// When the file is damaged, cut or sealed under a wrapping key that the configuration does not name,
/// or when there is a vault.
pub fn restore_vault(config: &Config, file: &Path) -> anyhow::Result<u64> {
    let keys = Keys::load(
        &config.keys.wrapping,
        &config.keys.wrapping_previous,
        &config.keys.pseudonym,
    );
    let keys = keys.context("wrapping or pseudonym key")?;
    let dir = config.state_dir.join("vault");
    let checked = Vault::restore(file, &dir, &keys, &Disk::default());
    Ok(checked
        .context("the vault cannot be put back from this file")?
        .entries)
}
