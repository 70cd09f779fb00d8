use cloister_deid::{Policy, ProfileOption};

use super::Config;

const GOOD: &str = r#"
state_dir = "state/dicom-scp"
site = "test"
[listen]
dimse = "127.0.0.1:0"
admin = "127.0.0.1:0"
[keys]
wrapping = "wrapping.key"
pseudonym = "pseudonym.key"
manifest_signing = "manifest.key"
audit_signing = "audit.key"
[directory]
file = "directory.jsonl"
enrolment_key = "enrolment.pub"
[route]
default_recipient = "group:radiology"
[redact]
detector_bundle = "models/text-ppocr"
runtime_library = "lib.so"
[sidecar]
endpoint = "https://127.0.0.1:8443"
identity = "spiffe://example.org/sidecar/sidecar"
certificate = "gateway.crt"
key = "gateway.key"
peer_ca = "ca.crt"
"#;

fn load(text: &str) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dicom-scp.toml");
    cloister_log::durable::write_atomic(&path, text.as_bytes(), 0o600).unwrap();
    Config::load(&path).map_err(|error| error.to_string())
}

#[test]
fn a_short_file_is_enough_and_paths_start_at_it() {
    let config = load(GOOD).unwrap();
    assert!(config.state_dir.is_absolute() && config.state_dir.ends_with("state/dicom-scp"));
    assert_eq!(config.audit_origin, "test/dicom-scp/0");
    assert_eq!(config.deidentify, Policy::basic());
}

#[test]
fn options_of_the_profile_are_read() {
    let text = "[deidentify]\noptions = [\"clean-descriptors\", \"retain-uids\"]\n[keys]";
    let config = load(&GOOD.replace("[keys]", text)).unwrap();
    let options = [ProfileOption::RetainUids, ProfileOption::CleanDescriptors];
    assert!(config.deidentify.options().eq(options));
}

#[test]
fn what_cannot_be_used_is_named() {
    for (from, to, key) in [
        ("site = \"test\"", "site = \"te st\"", "site"),
        ("group:radiology", "group:", "default_recipient"),
        (
            "[redact]",
            "[study]\nurgency = \"soon\"\n[redact]",
            "study.urgency",
        ),
        ("[keys]", "[receive]\nae_titles = []\n[keys]", "ae_titles"),
        (
            "[keys]",
            "[receive]\nmax_pdu_bytes = 1\n[keys]",
            "max_pdu_bytes",
        ),
        ("[keys]", "[receive]\nmax_pdu = 1\n[keys]", "max_pdu"),
        (
            "[keys]",
            "[deidentify]\noptions = [\"retain-everything\"]\n[keys]",
            "deidentify.options",
        ),
        (
            "[keys]",
            "[deidentify]\noptions = [\"retain-full-dates\", \"retain-modified-dates\"]\n[keys]",
            "exclude each other",
        ),
        (
            "spiffe://example.org/sidecar/sidecar",
            "sidecar",
            "sidecar.identity",
        ),
    ] {
        let error = load(&GOOD.replace(from, to)).unwrap_err();
        assert!(error.contains(key), "{key}: {error}");
    }
}
