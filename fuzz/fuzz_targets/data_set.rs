#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cloister_deid::fuzzing::data_set(data));
