//! Memory that was used for a film goes back to the system when the film is gone.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::{env, io};

/// glibc raises its threshold to the largest block that was ever freed and then keeps blocks of that
/// size for itself, in pieces that need not fit the next film. A threshold that is named stays where it
/// is (mallopt(3)). Other C libraries do not look at it.
const VARIABLE: &str = "MALLOC_MMAP_THRESHOLD_";
const BYTES: &str = "1048576";

/// First line of a `main` whose process holds whole films: runs this executable again, with the same
/// arguments, in an environment that makes the allocator give large blocks back. Returns at once where
/// the environment says anything about it.
///
/// A process cannot change its own environment safely; its successor's it can. If this executable
/// cannot be run again, it goes on, with more memory.
pub fn give_large_blocks_back() {
    let said = env::var_os(VARIABLE);
    if said.as_deref().is_none_or(OsStr::is_empty)
        && let Ok(executable) = env::current_exe()
    {
        let mut arguments = env::args_os();
        let mut command = Command::new(executable);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        // Comes back only on failure.
        drop::<io::Error>(command.args(arguments).env(VARIABLE, BYTES).exec());
    }
}
