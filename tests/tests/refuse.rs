//! Who is not let in: old TLS, no certificate, a stranger's CA, an expired certificate. Each is
//! refused in the handshake and stands in the audit log.

use std::process::Output;

use anyhow::Result;
use cloister::client::Client;
use cloister::state::{Room, State};
use cloister_audit::Reason;
use cloister_proto::v1;
use cloister_tests::{
    Caller, Harness, find_tool, foreign_files, refusals, run, skipped, try_handshake, until,
};
use tokio::process::Command;

/// At least this many refusals with each reason.
async fn recorded(state: &State, wanted: &[Reason]) -> Result<()> {
    // Failures before authentication are merged for up to 10 s.
    until(&format!("audit records {wanted:?}"), 30, || async {
        let found = refusals(state).await?;
        Ok(wanted
            .iter()
            .all(|reason| found.contains(reason))
            .then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn old_protocols_and_strangers_are_refused_and_recorded() -> Result<()> {
    let mut harness = Harness::prepare(|_| ())?;
    for room in [Room::Server, Room::Sidecar] {
        harness.installation.start_room(room).await?;
    }
    let state = harness.state();
    let address = harness.installation.address(Room::Sidecar, "mtls")?;
    assert!(
        try_handshake(state, address, Caller::Known).await.is_ok(),
        "the check itself works"
    );
    for caller in [
        Caller::Tls12,
        Caller::NoCertificate,
        Caller::ForeignCa,
        Caller::Expired,
    ] {
        let answer = try_handshake(state, address, caller).await;
        assert!(answer.is_err(), "{caller:?} was let in");
    }
    recorded(
        state,
        &[
            Reason::ProtocolVersion,
            Reason::NoCertificate,
            Reason::UnknownAuthority,
            Reason::ExpiredCertificate,
        ],
    )
    .await?;
    harness.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_is_refused_in_the_handshake() -> Result<()> {
    let Some(openssl) = find_tool("openssl") else {
        skipped("openssl s_client", "openssl is not on the PATH");
        return Ok(());
    };
    let mut harness = Harness::prepare(|_| ())?;
    for room in [Room::Server, Room::Sidecar] {
        harness.installation.start_room(room).await?;
    }
    let address = harness.installation.address(Room::Sidecar, "mtls")?;
    let pki = harness.state().pki();
    let client = |arguments: Vec<String>| {
        let mut command = Command::new(&openssl);
        command.args([
            "s_client",
            "-connect",
            &address.to_string(),
            "-alpn",
            "h2",
            "-CAfile",
        ]);
        command.arg(pki.ca()).args(arguments);
        command
    };
    let own = |party: &str| {
        let file = |path: std::path::PathBuf| path.display().to_string();
        vec![
            "-cert".into(),
            file(pki.certificate(party)),
            "-key".into(),
            file(pki.tls_key(party)),
        ]
    };
    let good = run(&mut client(own("clinician")), b"").await?;
    assert!(
        text(&good).contains("Verify return code: 0"),
        "{}",
        text(&good)
    );
    let mut old = own("clinician");
    old.push("-tls1_2".into());
    let old = run(&mut client(old), b"").await?;
    assert!(
        text(&old).contains("alert protocol version"),
        "{}",
        text(&old)
    );
    // In TLS 1.3 the client is done before the server has read its certificate; with `-quiet`
    // s_client waits for the server's last word.
    let anonymous = run(&mut client(vec!["-quiet".into()]), b"").await?;
    assert!(
        text(&anonymous).contains("alert certificate required"),
        "{}",
        text(&anonymous)
    );
    let (certificate, key) = foreign_files(harness.scratch()?)?;
    let foreign = vec![
        "-quiet".into(),
        "-cert".into(),
        certificate.display().to_string(),
        "-key".into(),
        key.display().to_string(),
    ];
    let foreign = run(&mut client(foreign), b"").await?;
    assert!(
        text(&foreign).contains("alert unknown ca"),
        "{}",
        text(&foreign)
    );
    recorded(
        harness.state(),
        &[
            Reason::ProtocolVersion,
            Reason::NoCertificate,
            Reason::UnknownAuthority,
        ],
    )
    .await?;
    harness.stop().await
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_party_gets_only_what_its_role_allows() -> Result<()> {
    let mut harness = Harness::prepare(|_| ())?;
    for room in [Room::Server, Room::Sidecar] {
        harness.installation.start_room(room).await?;
    }
    for party in ["ehr", "gateway", "auditor"] {
        let client = Client::of_state(harness.state(), party)?;
        let listed = client
            .inbox()
            .await?
            .list_reports(v1::ListReportsRequest::default())
            .await;
        let status = listed.err().map(|status| status.code());
        assert_eq!(
            status,
            Some(tonic::Code::PermissionDenied),
            "{party} may not read an inbox"
        );
    }
    recorded(harness.state(), &[Reason::RoleNotAllowed]).await?;
    harness.stop().await
}
