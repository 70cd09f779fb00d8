//! `cloister-server`.

use std::process::ExitCode;

use cloister_server::{Config, run};

fn main() -> ExitCode {
    // A worker is this executable again; it never gets as far as a configuration.
    if let Some(code) = cloister_redact::dispatch_worker() {
        return code;
    }
    // Before the library can load.
    cloister_onnx::forbid_telemetry();
    cloister_runtime::room_main("server", Config::load, run)
}
