//! ONNX Runtime 1.31 keeps a device id and an event store in the user's cache and carries an
//! uploader, on Linux too. The environment variable is the only switch that reaches it before the
//! library's first line runs; the session option does not (microsoft/onnxruntime#27379).

use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::{env, io};

/// Switches the library's own telemetry off. Documented by ONNX Runtime.
pub(crate) const VARIABLE: &str = "ORT_DISABLE_TELEMETRY";

/// True if the library may be loaded.
pub(crate) fn is_off() -> bool {
    env::var_os(VARIABLE).as_deref() == Some(OsStr::new("1"))
}

/// First line of every `main` that may load the library: runs this executable again, with the same
/// arguments, in an environment that forbids telemetry. Returns at once where it is forbidden.
///
/// A process cannot change its own environment safely; its successor's it can. If this executable
/// cannot be run again, it goes on, and [`crate::Runtime::init`] refuses to load the library.
pub fn forbid_telemetry() {
    if !is_off()
        && let Ok(executable) = env::current_exe()
    {
        let mut arguments = env::args_os();
        let mut command = Command::new(executable);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        // Comes back only on failure.
        drop::<io::Error>(command.args(arguments).env(VARIABLE, "1").exec());
    }
}
