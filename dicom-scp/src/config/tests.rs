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
            "spiffe://example.org/sidecar/sidecar",
            "sidecar",
            "sidecar.identity",
        ),
    ] {
        let error = load(&GOOD.replace(from, to)).unwrap_err();
        assert!(error.contains(key), "{key}: {error}");
    }
}

const TLS: &str = r#"
[dimse_tls]
certificate = "dimse.crt"
key = "dimse.key"
peer_ca = "ca.crt"
[[modality]]
calling_ae = "CT_1"
identity = "dns:ct1.example"
[stow]
listen = "127.0.0.1:0"
certificate = "stow.crt"
key = "stow.key"
peer_ca = "ca.crt"
crl = "ca.crl"
clients = ["CT_1"]
"#;

#[test]
fn every_port_can_be_left_out_but_not_all() {
    let both = format!("{GOOD}{TLS}").replace("[listen]", "[listen]\ndimse_tls = \"127.0.0.1:0\"");
    let config = load(&both).unwrap();
    assert!(config.dimse.is_some() && config.dimse_tls.is_some());
    let crl = config.stow.unwrap().door.files.crl.unwrap();
    assert!(crl.is_absolute());
    let no_plain = |text: &str| text.replace("dimse = \"127.0.0.1:0\"", "");
    assert!(load(&no_plain(&both)).unwrap().dimse.is_none());
    let error = load(&no_plain(GOOD)).unwrap_err();
    assert!(error.contains("listen"), "{error}");
}

#[test]
fn doors_and_identities_that_do_not_fit_are_named() {
    let listen = ("[listen]", "[listen]\ndimse_tls = \"127.0.0.1:0\"");
    let good = format!("{GOOD}{TLS}").replace(listen.0, listen.1);
    assert!(load(&good).is_ok());
    for (from, to, key) in [
        (listen.1, listen.0, "listen.dimse_tls"),
        ("dns:ct1.example", "ct1.example", "modality.identity"),
        ("dns:ct1.example", "dns:*.example", "modality.identity"),
        ("clients = [\"CT_1\"]", "clients = []", "stow.clients"),
        (
            "clients = [\"CT_1\"]",
            "clients = [\"MR_1\"]",
            "stow.clients",
        ),
        (
            "[keys]",
            "[receive]\ncommitment = \"relay\"\n[keys]",
            "commitment",
        ),
        (
            "[keys]",
            "[receive]\nunknown_sop_classes = \"maybe\"\n[keys]",
            "unknown_sop_classes",
        ),
    ] {
        let changed = good.replace(from, to);
        assert_ne!(changed, good, "{from}");
        let error = load(&changed).unwrap_err();
        assert!(error.contains(key), "{key}: {error}");
    }
    let no_files = GOOD.replace(listen.0, listen.1);
    assert!(load(&no_files).unwrap_err().contains("dimse_tls"));
    let (files, _) = TLS.split_once("[[modality]]").unwrap();
    let nobody = format!("{no_files}{files}");
    assert!(load(&nobody).unwrap_err().contains("modality.identity"));
}
