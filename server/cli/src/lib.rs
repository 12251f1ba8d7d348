//! `suf`: measures, evaluates, watches and sets up. The program is a library so that the tests can start its cluster and
//! be its client; `main.rs` is one line.
//!
//! Everything that is computed or agreed lives in other crates. This crate has the command line, a client of the
//! two parties, and three daemons on one machine for benchmarks. It also has records and the reports made from
//! them.

pub mod choose;
pub mod client;
pub mod cluster;
mod columns;
mod commands;
mod critical;
pub mod embedding;
pub mod error;
pub mod evaluation;
pub mod exports;
pub mod gates;
mod jsonl;
pub mod kernel;
pub mod loading;
pub mod loads;
mod local;
pub mod model;
mod model_records;
pub mod models;
mod node_records;
pub mod npy;
mod observed;
mod out;
mod partial;
mod predicted;
pub mod program;
pub mod projection;
pub mod provenance;
pub mod published;
pub mod records;
pub mod report;
mod results;
pub mod runtime;
pub mod samples;
mod sigma_cost;
pub mod slopes;
mod tables;
pub mod tensor;
mod trace;
pub mod witness;

pub use commands::{command, described, main, main_with};
