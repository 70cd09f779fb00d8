#![no_main]

use std::sync::Once;

static QUIET: Once = Once::new();

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // libFuzzer ends at every panic; a codec's is caught, as in a worker, and only ours count.
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    if std::panic::catch_unwind(|| cloister_redact::fuzzing::pixels(data)).is_err() {
        std::process::abort();
    }
});
