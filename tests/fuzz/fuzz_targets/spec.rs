//! See `decoders::spec`.

#![no_main]

#[allow(dead_code)]
#[path = "../../src/decoders.rs"]
mod decoders;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| decoders::spec(bytes));
