//! `cloister-sidecar`: arguments → configuration → telemetry → `run` → exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    cloister_runtime::room_main(
        "sidecar",
        cloister_sidecar::Config::load,
        cloister_sidecar::run,
    )
}
