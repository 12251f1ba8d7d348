//! The party's daemon: a shell of sockets, clocks and files round the pure run.
//!
//! The control API, the keys and the disk share one runtime. The link to the other party has threads of its own, and
//! worker threads compute. What happens is handed to the run's machine (crate `suf-party`), which decides.

mod active;
mod admin;
mod arrivals;
mod budget;
mod captured;
mod checker;
pub mod config;
mod daemon;
mod entry;
mod figures;
mod hashing;
mod host;
mod input;
mod keys;
mod lease;
pub mod ledger;
mod loads;
mod mark;
mod messages;
mod need;
mod observed;
pub mod ownership;
mod peer;
mod proposals;
mod queue;
mod registry;
mod reservation;
mod service;
mod spans;
pub mod store;
mod tensor;
mod timing;
mod workers;

pub use active::ActiveRun;
pub use budget::{Bounds, Limits};
pub use checker::Checker;
pub use config::Config;
pub use daemon::{run, run_for_checker};
pub use entry::Entry;
pub use host::Host;
pub use registry::Registry;
pub use service::PartyService;
