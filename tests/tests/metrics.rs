//! A study's way in the counters of the three admin ports, in a form that Prometheus accepts.

use anyhow::Result;
use cloister::state::Room;
use cloister::study::{Patient, StudySpec, draw};
use cloister_tests::{Harness, find_tool, get, metrics_of, run, skipped};
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn the_way_of_a_study_is_counted_in_all_three_rooms() -> Result<()> {
    let harness = Harness::start().await?;
    let study = draw(&StudySpec::chest(61, Patient::made_up(), 2, 256))?;
    harness.send_files(&study.files).await?;
    harness.settled(1).await?;

    let gateway = harness.admin(Room::DicomScp)?;
    assert!(metrics_of(gateway, "cloister_dicom_associations_total", &[]).await? >= 1.0);
    assert!(metrics_of(gateway, "cloister_dicom_objects_total", &[]).await? >= 2.0);
    assert!(metrics_of(gateway, "cloister_dicom_studies_total", &[]).await? >= 1.0);
    let server = harness.admin(Room::Server)?;
    assert!(metrics_of(server, "cloister_server_requests_total", &[]).await? >= 1.0);
    assert!(metrics_of(server, "cloister_server_outcomes_total", &[]).await? >= 1.0);
    let sidecar = harness.admin(Room::Sidecar)?;
    assert!(metrics_of(sidecar, "cloister_sidecar_reports_total", &[]).await? >= 1.0);
    assert!(metrics_of(sidecar, "cloister_sidecar_connections_total", &[]).await? >= 1.0);

    let promtool = find_tool("promtool");
    if promtool.is_none() {
        skipped("promtool check metrics", "promtool is not on the PATH");
    }
    for room in Room::ALL {
        let address = harness.admin(room)?;
        get(address, "/healthz").await?;
        get(address, "/readyz").await?;
        let text = get(address, "/metrics").await?;
        assert!(text.contains("_bucket{"), "{room} exports histograms");
        if let Some(promtool) = &promtool {
            let checked = run(
                Command::new(promtool).args(["check", "metrics"]),
                text.as_bytes(),
            )
            .await?;
            let said = String::from_utf8_lossy(&checked.stderr).into_owned();
            assert!(checked.status.success(), "{room}: {said}");
        }
    }
    harness.stop().await
}
