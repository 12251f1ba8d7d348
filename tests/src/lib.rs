//! Tests of the whole. The library holds the simulated world; the tests stand in `tests/`.

pub mod caller;
pub mod commands;
pub mod dealer;
pub mod decoders;
pub mod disk;
pub mod holdings;
pub mod inputs;
pub mod loads;
pub mod models;
pub mod moments;
pub mod npy;
pub mod pages;
pub mod processes;
pub mod programs;
pub mod relay;
#[path = "../../kernels/model/tests/tiny/mod.rs"]
pub(crate) mod tiny;
pub mod users;
pub mod world;
