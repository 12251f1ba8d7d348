//! The dealer's daemon: a shell of sockets, clocks and threads round the pure crate `suf-deal`.
//!
//! The two parties ask for a batch, each over its own connection. When both have asked for the same, worker threads
//! make keys, which are shipped in order as they become ready. One bound on memory holds for all batches together.
//! Once both parties have stored everything, or one of them is gone, the dealer forgets the batch.

mod admin;
mod budget;
mod callers;
pub mod config;
mod daemon;
mod dealer;
mod delivery;
mod loads;
mod records;
mod requester;
mod requests;
mod service;

pub use config::Config;
pub use daemon::run;
pub use dealer::{Dealer, Limits};
pub use records::{BatchRecords, Totals};
pub use service::DealerService;
