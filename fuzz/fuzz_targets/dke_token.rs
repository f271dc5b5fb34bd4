#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| twinlock_fuzz::dke_token(bytes));
