//! `cloister`: everything that stands above the three rooms.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A worker is this same executable run again; it must not parse arguments first.
    if let Some(code) = cloister_redact::dispatch_worker() {
        return code;
    }
    // Before the library can load.
    cloister_onnx::forbid_telemetry();
    cloister::main()
}
