//! A party's run, pure: events in, actions out. No I/O, no clock, no thread.
//!
//! The daemon feeds a [`Run`] with what arrives ([`Event`]) and does what it asks for ([`Action`]). Computing is asked
//! for as [`Work`], so that the daemon may spread it over threads and a test may run it in place. A batch is burnt
//! before anything that depends on its keys leaves. This one durable rule is a type: see [`BurntBatch`].
//!
//! A run evaluates any program. `schedule.rs` counts what may begin when a value is there, and how far ahead.

mod cost;
mod evaluate;
mod event;
mod failure;
mod ledger;
mod part;
mod plan;
mod readiness;
mod run;
mod schedule;
mod work;

pub use event::{Action, Event, Measured, NodeMeasured, Phase, Summary};
pub use failure::{Breach, RunFailure};
pub use ledger::{BurnLog, BurntBatch, Ledger, LedgerError, Purpose, Record};
pub use plan::{Plan, Policy, Registration};
pub use run::Run;
pub use schedule::WINDOW;
pub use work::{Done, Start, Work};
