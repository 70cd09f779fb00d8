//! The gateway's process: a worker, or the room.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = cloister_redact::dispatch_worker() {
        return code;
    }
    cloister_runtime::give_large_blocks_back();
    cloister_runtime::room_main(
        "dicom-scp",
        cloister_dicom_scp::Config::load,
        cloister_dicom_scp::run,
    )
}
