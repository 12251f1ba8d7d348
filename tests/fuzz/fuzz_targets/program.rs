//! See `wire::program`.

#![no_main]

#[allow(dead_code)]
#[path = "../../src/decoders/wire.rs"]
mod wire;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wire::program(bytes));
