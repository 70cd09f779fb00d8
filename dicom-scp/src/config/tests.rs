use cloister_deid::{Policy, ProfileOption};
use cloister_redact::MarkerPolicy;

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
        ("[redact]", "[redact]\nmarkers = \"some\"", "redact.markers"),
        ("[redact]", "[redact]\nfill = \"red\"", "redact.fill"),
        ("[keys]", "[receive]\nae_titles = []\n[keys]", "ae_titles"),
        (
            "[keys]",
            "[receive]\nmax_pdu_bytes = 1\n[keys]",
            "max_pdu_bytes",
        ),
        ("[keys]", "[receive]\nmax_pdu = 1\n[keys]", "max_pdu"),
        (
            "[keys]",
            "[spool]\nmax_bytes = 0\n[keys]",
            "spool.max_bytes",
        ),
        (
            "[keys]",
            "[control]\noperators = [0, 4294967294]\n[keys]",
            "control.operators",
        ),
        (
            "[keys]",
            "[[modality]]\ncalling_ae = \"CT_1\"\n[[modality]]\ncalling_ae = \"CT_1\"\n[keys]",
            "modality.calling_ae",
        ),
        (
            "[keys]",
            "[retention]\nforwarded_days = 1\n[keys]",
            "forwarded_days",
        ),
        (
            "[redact]",
            "[study]\nmax_objects = 0\n[redact]",
            "study.max_objects",
        ),
        (
            "\nkey = \"gateway.key\"",
            "\nkey = \"gateway.key\"\ngive_up_after_hours = 0",
            "give_up_after_hours",
        ),
        (
            "\"wrapping.key\"",
            "\"credential:../wrapping\"",
            "keys.wrapping",
        ),
        (
            "[redact]",
            "[[route.rule]]\nrecipient = \"group:a\"\n[redact]",
            "route.rule",
        ),
        (
            "[redact]",
            "[[route.rule]]\nmodality = \" \"\nrecipient = \"group:a\"\n[redact]",
            "route.rule.modality",
        ),
        (
            "[redact]",
            "[[route.rule]]\nmodality = \"*\"\nrecipient = \"group:a\"\n[[route.rule]]\ncalling_ae = \"CT\"\nmodality = \"dx\"\nrecipient = \"group:b\"\n[redact]",
            "rule 2 can never match: rule 1",
        ),
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

#[test]
fn what_is_not_said_is_safe() {
    let config = load(GOOD).unwrap();
    assert_eq!(config.spool.min_free_bytes, 1 << 30);
    assert_eq!(config.keep.forwarded_ms, 7 * 24 * 3_600_000);
    assert_eq!(config.keep.quarantined_ms, 30 * 24 * 3_600_000);
    assert_eq!(
        config.operators,
        [rustix::process::geteuid().as_raw()],
        "nobody else may look into the vault"
    );
    assert_eq!(config.study.max_objects, 64);
}

#[test]
fn every_key_of_the_documentation_is_taken() {
    let more = r#"
[spool]
min_free_bytes = 5
max_bytes = 7
[retention]
forwarded_hours = 0
quarantined_days = 1
[control]
operators = [0]
[[route.rule]]
institution = "*general hospital*"
recipient = "group:a"
[[route.rule]]
calling_ae = "CT_1"
modality = "DX"
referring_physician = "Doe^*"
recipient = "group:b"
"#;
    let good = GOOD.replace(
        "[redact]",
        "[redact]\nmarkers = \"redact\"\nfill = \"solid\"",
    );
    let config = load(&format!("{good}{more}")).unwrap();
    assert_eq!(config.redact.markers, MarkerPolicy::Redact);
    assert_eq!(config.spool.max_bytes, Some(7));
    assert_eq!((config.keep.forwarded_ms, config.operators.len()), (0, 1));
    assert!(config.routes.looks_at_tags());
}

#[test]
fn a_secret_is_a_file_beside_the_configuration_or_a_credential_of_systemd() {
    let secrets = |credentials: Option<&str>| super::keys::Secrets {
        base: std::path::Path::new("/etc/cloister"),
        credentials: credentials.map(Into::into),
    };
    let source = |credentials, text| {
        let source = secrets(credentials).source("keys.wrapping", text).ok()?;
        Some(source.path().to_str().unwrap().to_owned())
    };
    let systemd = Some("/run/credentials/cloister.service");
    for (credentials, text, path) in [
        (
            systemd,
            "pki/wrapping.key",
            Some("/etc/cloister/pki/wrapping.key"),
        ),
        (
            systemd,
            "credential:wrapping",
            Some("/run/credentials/cloister.service/wrapping"),
        ),
        (None, "credential:wrapping", None),
        (systemd, "credential:", None),
        (systemd, "credential:..", None),
        (systemd, "credential:a/b", None),
    ] {
        assert_eq!(source(credentials, text).as_deref(), path, "{text}");
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

const RELAY: &str = r#"
[receive]
commitment = "relay"
[commitment]
archive = "pacs.example:104"
archive_ae_title = "PACS"
[commitment.tls]
certificate = "gateway.crt"
key = "gateway.key"
peer_ca = "ca.crt"
identity = "dns:pacs.example"
[[commitment.modality]]
calling_ae = "CT_1"
address = "[::1]:104"
tls = true
sends_as = ["CT_1_STORE"]
[[modality]]
calling_ae = "CT_1"
identity = "dns:ct1.example"
"#;

#[test]
fn commitment_is_off_unless_both_the_word_and_the_archive_are_there() {
    use cloister_phi::AeTitle;
    assert!(load(GOOD).unwrap().relay.is_none());
    let (door, _) = TLS.split_once("[[modality]]").unwrap();
    let listen = ("[listen]", "[listen]\ndimse_tls = \"127.0.0.1:0\"");
    let good = format!("{GOOD}{door}{RELAY}").replace(listen.0, listen.1);
    let config = load(&good).unwrap();
    let relay = config.relay.unwrap();
    let title = |text: &str| AeTitle::parse(text).unwrap();
    assert_eq!(relay.ae, title("CLOISTER"));
    assert_eq!(config.receive.archive, Some(title("PACS")));
    // Its reports are believed by its certificate alone.
    assert!(!config.receive.may_claim(&title("PACS"), None));
    assert!(relay.may_ask(&title("CT_1"), "CT_1_STORE") && relay.may_ask(&title("X"), "X"));
    assert!(!relay.may_ask(&title("CT_1_STORE"), "CT_1") && !relay.may_ask(&title("X"), "CT_1"));
    for (from, to, key) in [
        (
            "commitment = \"relay\"",
            "commitment = \"off\"",
            "receive.commitment",
        ),
        ("commitment = \"relay\"", "", "receive.commitment"),
        (
            "commitment = \"relay\"",
            "commitment = \"on\"",
            "commitment",
        ),
        ("pacs.example:104", "pacs.example", "commitment.archive"),
        ("pacs.example:104", "pacs.example:0", "commitment.archive"),
        ("pacs.example:104", "pa cs:104", "commitment.archive"),
        ("\"PACS\"", "\"CLOISTER\"", "commitment.archive_ae_title"),
        ("\"dns:pacs.example\"", "[]", "commitment.tls.identity"),
        (
            "\"dns:pacs.example\"",
            "\"pacs\"",
            "commitment.tls.identity",
        ),
        ("[::1]:104", "[::1:104", "commitment.modality.address"),
        ("address = \"[::1]:104\"", "", "commitment.modality.tls"),
        (
            "identity = \"dns:ct1.example\"",
            "",
            "commitment.modality.tls",
        ),
        ("tls = true", "tls = true\nport = 1", "port"),
        (
            "[commitment.tls]",
            "max_references = 50001\n[commitment.tls]",
            "commitment.max_references",
        ),
        (
            "[commitment.tls]",
            "request_timeout_ms = 0\n[commitment.tls]",
            "commitment.request_timeout_ms",
        ),
        // The certificate that a title shows is one and the same, whoever calls whom.
        (
            "[[modality]]",
            "[[modality]]\ncalling_ae = \"PACS\"\nidentity = \"dns:other.example\"\n[[modality]]",
            "commitment.tls.identity",
        ),
    ] {
        let changed = good.replace(from, to);
        assert_ne!(changed, good, "{from}");
        let error = load(&changed).map(drop).unwrap_err();
        assert!(error.contains(key), "{key}: {error}");
    }
}

#[test]
fn a_configuration_under_which_the_archive_could_never_be_heard_is_none() {
    let (door, _) = TLS.split_once("[[modality]]").unwrap();
    let listen = ("[listen]", "[listen]\ndimse_tls = \"127.0.0.1:0\"");
    let plain = "dimse = \"127.0.0.1:0\"";
    let (relay, _) = RELAY.split_once("[[commitment.modality]]").unwrap();
    let (untrusting, _) = relay.split_once("[commitment.tls]").unwrap();
    let named = |title: &str| {
        format!("[[modality]]\ncalling_ae = \"{title}\"\nidentity = \"dns:pacs.example\"\n")
    };
    let over_tls = |text: &str| format!("{GOOD}{door}{text}").replace(listen.0, listen.1);
    // With a certificate, and no port where it could be shown.
    assert!(load(&over_tls(relay)).is_ok());
    let error = load(&format!("{GOOD}{relay}")).unwrap_err();
    assert!(error.contains("listen.dimse_tls"), "{error}");
    let bound = format!("{GOOD}{untrusting}{}", named("PACS"));
    let error = load(&bound).unwrap_err();
    assert!(error.contains("listen.dimse_tls"), "{error}");
    // Without one, and no port where none is asked for.
    assert!(load(&format!("{GOOD}{untrusting}")).is_ok());
    let anybody = over_tls(&format!("{untrusting}{}", named("CT_1")));
    assert!(load(&anybody).is_ok());
    let error = load(&anybody.replace(plain, "")).unwrap_err();
    assert!(error.contains("commitment.archive_ae_title"), "{error}");
    let bound = over_tls(&format!("{untrusting}{}", named("PACS"))).replace(plain, "");
    assert!(load(&bound).is_ok());
}
