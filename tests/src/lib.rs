//! Tests of the whole. The library holds the simulated world; the tests stand in `tests/`.

pub mod inputs;
pub mod world;
