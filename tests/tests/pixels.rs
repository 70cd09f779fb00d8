//! Burned-in text from the command line: what is found, what would become of it, and where pictures
//! of identified pixels may go.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result};
use cloister::study::{Patient, StudySpec, draw};
use cloister_tests::{cloister, write};

#[tokio::test(flavor = "multi_thread")]
async fn found_text_is_blanked_and_its_pictures_stay_apart() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let place = |name: &str| folder.path().join(name).display().to_string();
    let mut spec = StudySpec::chest(83, Patient::made_up(), 1, 512);
    spec.burned_in = 1;
    let study = draw(&spec)?;
    let film = study.files.first().context("a film")?;
    std::fs::create_dir(place("in"))?;
    write(&folder.path().join("in/film.dcm"), film)?;
    let made = cloister(&["keys", "pseudonym", "--out", &place("key")]).await?;
    assert!(made.status.success());

    let line = serde_json::json!({ "id": 7, "image": place("in/film.dcm") });
    write(&folder.path().join("lines"), line.to_string().as_bytes())?;
    let found = cloister(&["detect-text", &place("lines")]).await?;
    let found: serde_json::Value = serde_json::from_slice(&found.stdout)?;
    assert_eq!(found["id"], 7);
    let boxes = found["boxes"].as_array().context("boxes")?;
    assert!(!boxes.is_empty(), "{found}");
    for one in boxes {
        assert_eq!(one["action"], "redact", "{found}");
        for key in ["frame", "x", "y", "w", "h", "score"] {
            assert!(one[key].is_number(), "{key}: {found}");
        }
    }

    let (input, output, key) = (place("in"), place("out"), place("key"));
    let run = async |preview: &str| {
        cloister(&[
            "deidentify",
            "--in",
            &input,
            "--out",
            &output,
            "--key",
            &key,
            "--preview",
            preview,
        ])
        .await
    };
    let refused = run(&place("out/pictures")).await?;
    assert_eq!(
        refused.status.code(),
        Some(64),
        "identified pictures in --out"
    );
    assert!(!folder.path().join("out/pictures").exists());
    let cleaned = run(&place("pictures")).await?;
    assert!(cleaned.status.success());
    let line: serde_json::Value = serde_json::from_slice(&cleaned.stdout)?;
    let written = line["output"].as_str().context("output")?;
    let picture = folder.path().join("pictures").join(written);
    let picture = picture.with_extension("png");
    let mode = |path: &std::path::Path| anyhow::Ok(path.metadata()?.permissions().mode() & 0o777);
    assert_eq!(mode(&picture)?, 0o600);
    assert_eq!(mode(&folder.path().join("pictures"))?, 0o700);
    // Two pictures side by side, in colour because frames are drawn.
    let png = std::fs::read(&picture)?;
    let width = png.get(16..20).context("a width")?.try_into()?;
    assert!(u32::from_be_bytes(width) > 1000);
    assert_eq!(png.get(25), Some(&2), "true colour");
    Ok(())
}
