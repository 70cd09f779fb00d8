//! The crate as the rooms see it: real workers, the real detector, films drawn here and real ones.
//! This executable has its own harness because it is also the worker (`__worker`), as every binary of
//! ours is. Arguments: words that a test's name must contain; `--list` lists.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests; clippy knows only libtest's by itself"
)]

#[path = "films/support.rs"]
mod support;

#[path = "films/bounds.rs"]
mod bounds;

#[path = "films/codecs.rs"]
mod codecs;

#[path = "films/left.rs"]
mod left;

#[path = "films/markers.rs"]
mod markers;

#[path = "films/real.rs"]
mod real;

#[path = "films/text.rs"]
mod text;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

type Test = (&'static str, fn());

const TESTS: &[Test] = &[
    (
        "text_on_a_film_is_blanked_and_nothing_else_changes",
        text::is_blanked_and_nothing_else_changes,
    ),
    (
        "films_without_text_stay_almost_whole",
        text::films_without_text_stay_almost_whole,
    ),
    (
        "text_on_one_frame_of_many_is_found",
        text::on_one_frame_of_many_is_found,
    ),
    (
        "text_outside_the_window_is_found",
        text::outside_the_window_is_found,
    ),
    (
        "text_on_a_picture_is_blanked",
        text::on_a_picture_is_blanked,
    ),
    (
        "the_object_describes_its_new_pixels",
        text::the_object_describes_its_new_pixels,
    ),
    (
        "text_that_is_left_does_not_leave",
        left::text_does_not_leave,
    ),
    (
        "without_the_presence_net_the_detector_looks_at_everything",
        left::without_the_presence_net_the_detector_looks_at_everything,
    ),
    ("markers_stay_and_names_go", markers::stay_and_names_go),
    (
        "markers_go_by_policy_and_where_they_are_the_patients_name",
        markers::go_by_policy_and_where_they_are_the_patients_name,
    ),
    (
        "markers_with_anything_beside_them_go",
        markers::with_anything_beside_them_go,
    ),
    (
        "markers_are_read_at_any_quarter_turn_and_dark_on_light",
        markers::are_read_at_any_quarter_turn_and_dark_on_light,
    ),
    (
        "real_films_lose_every_word_of_the_ground_truth",
        real::films_lose_every_word_of_the_ground_truth,
    ),
    (
        "real_films_of_every_codec_pass_the_pool",
        real::films_of_every_codec_pass_the_pool,
    ),
    (
        "a_worker_that_dies_costs_only_its_object",
        bounds::a_worker_that_dies_costs_only_its_object,
    ),
    (
        "a_worker_that_hangs_costs_only_its_object",
        bounds::a_worker_that_hangs_costs_only_its_object,
    ),
    (
        "a_worker_that_wants_too_much_memory_dies_alone",
        bounds::a_worker_that_wants_too_much_memory_dies_alone,
    ),
    (
        "a_worker_that_talks_nonsense_is_replaced",
        bounds::a_worker_that_talks_nonsense_is_replaced,
    ),
    (
        "damaged_files_are_answered_with_closed_codes",
        bounds::damaged_files_are_answered_with_closed_codes,
    ),
    (
        "of_a_jpeg_only_the_frame_with_text_changes",
        codecs::of_a_jpeg_only_the_frame_with_text_changes,
    ),
    (
        "damaged_frames_of_every_codec_are_answered",
        codecs::damaged_frames_of_every_codec_are_answered,
    ),
    (
        "a_large_film_needs_no_more_than_half_a_gigabyte",
        codecs::a_large_film_needs_no_more_than_half_a_gigabyte,
    ),
    (
        "an_altered_bundle_stops_the_start",
        bounds::an_altered_bundle_stops_the_start,
    ),
];

fn main() -> ExitCode {
    if let Some(code) = cloister_redact::dispatch_worker() {
        return code;
    }
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    if std::env::args().any(|word| word == "--list") {
        for (name, _) in TESTS {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (name, test) in TESTS {
        if !words.is_empty() && !words.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        let start = Instant::now();
        let passed = catch_unwind(AssertUnwindSafe(test)).is_ok();
        failed += u32::from(!passed);
        println!(
            "test {name} ... {} ({:.1} s)",
            if passed { "ok" } else { "FAILED" },
            start.elapsed().as_secs_f32()
        );
    }
    println!("test result: {failed} failed");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
