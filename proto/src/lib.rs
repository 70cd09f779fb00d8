//! The wire of Cloister: package `cloister.v1`, generated from `cloister/v1/*.proto`.

/// Messages, clients and servers of `cloister.v1`.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unnameable_types,
    clippy::all,
    clippy::pedantic,
    clippy::string_slice,
    elided_lifetimes_in_paths,
    reason = "generated code; the .proto files carry the documentation"
)]
pub mod v1 {
    tonic::include_proto!("cloister.v1");
}

/// `Debug` that prints the type and nothing of the content.
macro_rules! redact_debug {
    ($($message:ident),+ $(,)?) => {$(
        impl std::fmt::Debug for v1::$message {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($message), "(redacted)"))
            }
        }
    )+};
}

redact_debug!(
    CapsuleObject,
    EvaluateRequest,
    Film,
    GenerateRequest,
    IdentityCapsule,
    ModelInput,
    Report,
    SentenceScore,
    StudyHead,
    ValidateRequest,
);

/// Serialized `FileDescriptorSet` of the package, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// gRPC metadata key of the report id: a UUID, also the idempotency key.
pub const METADATA_REPORT_ID: &str = "cloister-report-id";
/// gRPC metadata key of a recipient identity or `group:<name>`; repeated.
pub const METADATA_RECIPIENT: &str = "cloister-recipient";
/// gRPC metadata key of the caller's session.
pub const METADATA_SESSION_ID: &str = "cloister-session-id";
/// Largest unary message either way, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// Largest `ObjectChunk.data`, in bytes.
pub const MAX_CHUNK_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::v1;

    #[test]
    fn debug_of_a_response_shows_nothing_of_the_report_inside() {
        let report = v1::Report {
            findings: "CANARY".into(),
            ..Default::default()
        };
        let response = v1::GenerateResponse {
            result: Some(v1::generate_response::Result::Report(report)),
            receipt: None,
        };
        let printed = format!("{response:?}");
        assert!(
            printed.contains("redacted") && !printed.contains("CANARY"),
            "{printed}"
        );
    }
}
