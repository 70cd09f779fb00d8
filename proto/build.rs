//! Compiles `cloister/v1/*.proto` with protox, a compiler written in Rust: no `protoc` is needed.

use std::error::Error;
use std::path::PathBuf;

/// Messages that hold a patient's data, a film or a query: their `Debug` is written by hand in
/// `src/lib.rs` and prints the type only.
const PROTECTED: [&str; 10] = [
    "CapsuleObject",
    "EvaluateRequest",
    "Film",
    "GenerateRequest",
    "IdentityCapsule",
    "ModelInput",
    "Report",
    "SentenceScore",
    "StudyHead",
    "ValidateRequest",
];

const FILES: [&str; 8] = [
    "context",
    "envelope",
    "study",
    "report",
    "audit",
    "inbox",
    "directory",
    "safeguard",
];

#[expect(
    clippy::disallowed_methods,
    reason = "a build script writes into OUT_DIR; nothing there has to survive a power cut"
)]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=cloister/v1");
    let files: Vec<String> = FILES
        .iter()
        .map(|name| format!("cloister/v1/{name}.proto"))
        .collect();
    let descriptors = protox::compile(&files, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // Reflection serves these bytes.
    std::fs::write(
        out.join("descriptors.bin"),
        prost::Message::encode_to_vec(&descriptors),
    )?;
    tonic_prost_build::configure()
        // Film and sealed bytes are large: share them instead of copying.
        .bytes(".cloister.v1.Film.data")
        .bytes(".cloister.v1.ObjectChunk.data")
        .skip_debug(PROTECTED.map(|name| format!(".cloister.v1.{name}")))
        .compile_fds(descriptors)?;
    Ok(())
}
