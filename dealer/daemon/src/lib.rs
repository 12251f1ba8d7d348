//! The dealer's daemon: a shell of sockets, clocks and threads round the pure crate `suf-deal`.
//!
//! The two parties ask for a batch, each over its own connection. When both have asked for the same, keys are made on
//! worker threads and shipped as they become ready, in order, within a bound on memory that holds for all batches
//! together. Once both parties have stored everything, or one of them is gone, the dealer forgets the batch.

mod budget;
mod callers;
pub mod config;
mod daemon;
mod dealer;
mod delivery;
mod lobby;
mod record;
mod seat;
mod service;

pub use config::Config;
pub use daemon::run;
pub use dealer::{Dealer, Limits};
pub use record::{Book, Totals};
pub use service::DealerService;
