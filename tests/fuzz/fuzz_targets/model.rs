//! See `files::model`.

#![no_main]

#[allow(dead_code)]
#[path = "../../src/decoders/files.rs"]
mod files;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| files::model(bytes));
