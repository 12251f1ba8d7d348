//! Every decoder of what comes from outside, each with what must hold for any bytes. The fuzz targets (`tests/fuzz`) call
//! these, and so does `fuzz_seeds` with their seeds and with what random changes make of them.

pub mod files;
pub mod wire;

/// A decoder under test: panics when something that must hold does not.
pub type Target = fn(&[u8]);

/// All of them, by the names of the fuzz targets.
pub const TARGETS: [(&str, Target); 11] = [
    ("peer", wire::peer),
    ("keys", wire::keys),
    ("gate", wire::gate),
    ("program", wire::program),
    ("npy", files::tensor),
    ("spec", files::spec),
    ("weights", files::weights),
    ("model", files::model),
    ("config", files::config),
    ("control", files::control),
    ("certificates", files::certificates),
];
