//! Workers that misbehave. The false workers are shell scripts that speak the protocol's first answer
//! (kind 0, length 0) and then go wrong once; the next start of the same script is the real worker.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cloister_redact::phantom::{Phantom, PhantomSpec};
use cloister_redact::{RedactError, Redactor};

use crate::support::{Film, code, config, nobody, small_film, wait};

/// A worker that goes wrong in its first life and is the real one in its second.
fn faulty(folder: &Path, fault: &str) -> PathBuf {
    let path = folder.join("worker");
    let real = std::env::current_exe().unwrap();
    let script = format!(
        "#!/bin/sh\nif [ -e '{0}/lived' ]; then exec '{1}' \"$@\"; fi\n: > '{0}/lived'\n\
         printf '\\000\\000\\000\\000\\000'\n/bin/dd bs=1 count=1 of=/dev/null 2>/dev/null\n{fault}\n",
        folder.display(),
        real.display(),
    );
    std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .open(&path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, script.as_bytes()))
        .unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn first_life_then_real(fault: &str) -> (&'static str, &'static str) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config();
    config.worker_exe = faulty(folder.path(), fault);
    config.timeout = Duration::from_secs(5);
    let pool = Redactor::start(config).unwrap();
    (
        code(wait(pool.redact(small_film(1), &nobody()))),
        code(wait(pool.redact(small_film(2), &nobody()))),
    )
}

pub(crate) fn a_worker_that_dies_costs_only_its_object() {
    assert_eq!(first_life_then_real("kill -9 $$"), ("worker_died", "ok"));
}

pub(crate) fn a_worker_that_hangs_costs_only_its_object() {
    assert_eq!(
        first_life_then_real("exec /bin/sleep 600"),
        ("timed_out", "ok")
    );
}

pub(crate) fn a_worker_that_talks_nonsense_is_replaced() {
    // An answer of four gigabytes is announced: it is refused before anything is allocated.
    let fault = "printf '\\000\\377\\377\\377\\377'; exec /bin/cat >/dev/null";
    assert_eq!(first_life_then_real(fault), ("protocol", "ok"));
}

pub(crate) fn a_worker_that_wants_too_much_memory_dies_alone() {
    let mut config = config();
    config.memory_bytes = 700 << 20;
    let pool = Redactor::start(config).unwrap();
    // 200 MB of samples: read, parsed and decoded they do not fit.
    let mut phantom = Phantom::draw(&PhantomSpec::square(1, 64));
    (phantom.width, phantom.height) = (10_000, 5_000);
    let mut film = Film::of(phantom);
    film.frames = vec![vec![7; 100_000_000]; 2];
    assert_eq!(
        code(wait(pool.redact(film.encode(), &nobody()))),
        "worker_died"
    );
    assert_eq!(code(wait(pool.redact(small_film(2), &nobody()))), "ok");
}

pub(crate) fn damaged_files_are_answered_with_closed_codes() {
    let pool = Redactor::start(config()).unwrap();
    let good = small_film(3);
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut refused = 0;
    for round in 0..150 {
        let mut bytes = good.clone();
        if round % 3 == 0 {
            bytes.truncate(next(good.len()));
        } else {
            for _ in 0..4 {
                // Most damage goes where the header is.
                let at = if round % 2 == 0 {
                    next(800)
                } else {
                    next(good.len())
                };
                bytes[at] = next(256) as u8;
            }
        }
        match wait(pool.detect(bytes, &nobody())) {
            Ok(_) => {}
            Err(RedactError::WorkerDied | RedactError::TimedOut | RedactError::Protocol) => {
                panic!("round {round}: the worker did not survive");
            }
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 40, "{refused}");
    assert_eq!(
        code(wait(pool.redact(Vec::new(), &nobody()))),
        "undecodable_malformed"
    );
    assert_eq!(
        code(wait(pool.redact_picture(good.clone(), &nobody()))),
        "undecodable_not_a_picture"
    );
    assert_eq!(code(wait(pool.redact(good, &nobody()))), "ok");
}

pub(crate) fn an_altered_bundle_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config();
    let text = std::fs::read_to_string(config.detector_bundle.join("bundle.toml")).unwrap();
    let mut file = std::fs::File::create(folder.path().join("bundle.toml")).unwrap();
    std::io::Write::write_all(
        &mut file,
        text.replace("pixel = 0.2", "pixel = 0.9").as_bytes(),
    )
    .unwrap();
    config.detector_bundle = PathBuf::from(folder.path());
    assert_eq!(code(Redactor::start(config)), "start_failed");
}
