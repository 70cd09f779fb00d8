//! Power cuts: fifty studies while each process is killed and restarted at random moments. Every
//! acknowledged object ends in exactly one current report or one quarantine entry.
//!
//! `CLOISTER_KILL_RUNS` (1), `CLOISTER_KILL_STUDIES` (50) and `CLOISTER_KILL_SEED` (printed) steer
//! a soak.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cloister::scu::{Association, Film, Peer};
use cloister::state::Room;
use cloister::study::{DrawnStudy, Patient, StudySpec, draw};
use cloister_seal::trust::TrustFile;
use cloister_tests::{Chance, Harness, original_instances, until, within};
use tokio::time::Instant;

/// A run may take this long, sending to verdict.
const RUN_SECONDS: u64 = 180;
/// Studies with text in the pixels.
const BURNED_IN: usize = 3;
/// Rounds in which every room is killed once, in random order.
const ROUNDS: usize = 4;
/// Modalities that send at the same time.
const SENDERS: usize = 4;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// Objects that the gateway acknowledged, by study.
type Acknowledged = Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_or_doubled_when_processes_are_killed() -> Result<()> {
    let mut chance = Chance::from_env("CLOISTER_KILL_SEED");
    for run in 0..number("CLOISTER_KILL_RUNS", 1) {
        let seed = chance.draw();
        let began = Instant::now();
        within("a kill run", RUN_SECONDS, one_run(seed))
            .await
            .with_context(|| format!("run {run} with seed {seed}"))?;
        cloister_tests::note(&format!(
            "kill run {run}: {:.1} s",
            began.elapsed().as_secs_f32()
        ));
    }
    Ok(())
}

async fn one_run(seed: u64) -> Result<()> {
    let mut chance = Chance::from_seed(seed);
    let studies = drawn_studies(&mut chance, number("CLOISTER_KILL_STUDIES", 50))?;
    let objects: usize = studies.iter().map(|study| study.files.len()).sum();
    let mut harness = Harness::start().await?;
    let acknowledged = Acknowledged::default();
    let done = Arc::new(AtomicBool::new(false));

    let peer = harness.peer()?;
    let sending = send_all(peer, studies.clone(), Arc::clone(&acknowledged));
    let sending = async {
        let sent = sending.await;
        done.store(true, Ordering::Release);
        sent
    };
    let killing = kill_at_random(&mut harness, &mut chance, &done);
    let (sent, killed) = tokio::join!(sending, killing);
    sent?;
    let kills = killed?;

    let rows = harness.settled_within(studies.len(), RUN_SECONDS).await?;
    ensure!(
        rows.len() == studies.len(),
        "{} studies became {}",
        studies.len(),
        rows.len()
    );
    let quarantined = account_for(&harness, &acknowledged).await?;
    cloister_tests::note(&format!(
        "{} studies, {objects} objects, {kills} kills, {quarantined} quarantined",
        studies.len()
    ));

    let state = harness.state().clone();
    // The folder must outlive the processes: the logs are verified as they lie on the disk.
    harness.installation.stop().await?;
    let trust = TrustFile::load(&state.pki().trust())?;
    for key in &trust.audit_keys {
        let room = if key.origin.contains("dicom-scp") {
            Room::DicomScp
        } else {
            Room::Sidecar
        };
        cloister_audit::verify_directory(&state.audit(room), &key.origin, &key.key)?;
    }
    harness.stop().await
}

fn drawn_studies(chance: &mut Chance, count: usize) -> Result<Vec<DrawnStudy>> {
    (0..count)
        .map(|number| {
            let patient = Patient {
                name: format!("KILL{number}^TEST"),
                id: format!("KILL-{number}-{}", chance.between(10_000, 99_999)),
                ..Patient::made_up()
            };
            let films = chance.between(1, 4) as usize;
            let side = chance.between(128, 513) as u32;
            let mut spec = StudySpec::chest(chance.draw(), patient, films, side);
            spec.burned_in = usize::from(number < BURNED_IN);
            draw(&spec)
        })
        .collect()
}

/// Several modalities send; each film is sent again until it is acknowledged.
async fn send_all(peer: Peer, studies: Vec<DrawnStudy>, acknowledged: Acknowledged) -> Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 0..SENDERS {
        let mine: Vec<_> = studies
            .iter()
            .skip(lane)
            .step_by(SENDERS)
            .cloned()
            .collect();
        let (peer, acknowledged) = (peer.clone(), Arc::clone(&acknowledged));
        tasks.spawn(async move {
            for study in mine {
                send_until_acknowledged(&peer, &study, &acknowledged).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(result) = tasks.join_next().await {
        result??;
    }
    Ok(())
}

async fn send_until_acknowledged(
    peer: &Peer,
    study: &DrawnStudy,
    acknowledged: &Acknowledged,
) -> Result<()> {
    let films: Vec<Film> = study
        .files
        .iter()
        .map(|f| Film::parse(f))
        .collect::<Result<_, _>>()?;
    until("a study to be acknowledged", RUN_SECONDS, || async {
        let missing: Vec<usize> = {
            let all = acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
            let has = all.get(&study.study_uid);
            (0..films.len())
                .filter(|at| !has.is_some_and(|has| has.contains(&study.instance_uids[*at])))
                .collect()
        };
        if missing.is_empty() {
            return Ok(Some(()));
        }
        // A refused connection or a broken association is what this test is about: try again.
        let Ok(mut association) = Association::open(peer, &films).await else {
            return Ok(None);
        };
        for at in missing {
            let Ok(status) = association.store(&films[at]).await else {
                return Ok(None);
            };
            if status.is_stored() {
                let mut all = acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
                all.entry(study.study_uid.clone())
                    .or_default()
                    .insert(study.instance_uids[at].clone());
            }
        }
        association.release().await.ok();
        Ok(None)
    })
    .await
}

/// Kills and restarts rooms until every room was killed in every round and all is sent.
async fn kill_at_random(
    harness: &mut Harness,
    chance: &mut Chance,
    done: &AtomicBool,
) -> Result<usize> {
    let mut kills = 0;
    for round in 0.. {
        if round >= ROUNDS && done.load(Ordering::Acquire) {
            break;
        }
        let mut rooms = Room::ALL;
        for at in (1..rooms.len()).rev() {
            rooms.swap(at, chance.between(0, at as u64 + 1) as usize);
        }
        for room in rooms {
            // Not a wait for anything: the moment of the power cut is what is random.
            tokio::time::sleep(Duration::from_millis(chance.between(100, 1200))).await;
            harness.installation.kill_room(room).await?;
            kills += 1;
            harness.installation.start_room(room).await?;
        }
    }
    Ok(kills)
}

/// Checks that every acknowledged object is in one current report or in quarantine; how many are
/// in quarantine.
async fn account_for(harness: &Harness, acknowledged: &Acknowledged) -> Result<usize> {
    let acknowledged = acknowledged
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let mut named: BTreeMap<String, usize> = BTreeMap::new();
    let mut withheld = 0usize;
    let mut studies = BTreeSet::new();
    for opened in harness.inbox()?.open_current().await? {
        let identity = opened
            .joined
            .identity
            .as_ref()
            .context("a report without a patient")?;
        let study = identity.original_study_instance_uid.clone();
        ensure!(
            studies.insert(study.clone()),
            "two current reports of one study"
        );
        ensure!(
            acknowledged.contains_key(&study),
            "a report of a study that nobody sent"
        );
        withheld += opened.joined.report.withheld_objects as usize;
        let shown = original_instances(&opened);
        ensure!(
            shown.len() == opened.joined.report.renditions.len(),
            "a report shows a film twice or one that its capsule does not name"
        );
        for object in shown {
            *named.entry(object).or_default() += 1;
        }
    }
    ensure!(
        named.values().all(|count| *count == 1),
        "an object is in two current reports"
    );
    let quarantine = harness.quarantine().await?;
    ensure!(
        quarantine.iter().all(|row| !row.reason.is_empty()),
        "a quarantine entry without reason"
    );
    let all: BTreeSet<_> = acknowledged.values().flatten().collect();
    let missing = all
        .iter()
        .filter(|object| !named.contains_key(**object))
        .count();
    ensure!(
        missing == quarantine.len(),
        "{} acknowledged objects: {} in reports, {} in quarantine ({:?}), withheld {withheld}",
        all.len(),
        named.len(),
        quarantine.len(),
        quarantine
            .iter()
            .map(|row| row.reason.as_str())
            .collect::<Vec<_>>()
    );
    Ok(quarantine.len())
}
