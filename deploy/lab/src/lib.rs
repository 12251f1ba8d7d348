//! A laboratory of four hosts on one machine: the dealer, both parties and a client. Each is a network namespace with its
//! own addresses. Bridges join them, and the kernel's `tc netem` shapes each end.
//!
//! - [`LabPlan`] says what the links are like, and [`Lab::up`] builds them. Dropping the lab removes everything. The
//!   next lab removes what a killed one left.
//! - [`Lab::measure`] times the links and refuses a lab that is not what its plan says.
//! - [`Lab::counters`] are the queueing disciplines' own byte counters: a witness of what went over a link that no code
//!   of ours can influence.
//! - [`uml`] runs a command in a user-mode Linux kernel, for machines whose own kernel has no netem.
//!
//! The hosts are on three networks ([`Network`]), so that each link has its own shape and counters. One is between the
//! parties, one for keys from the dealer, and one for control, which is not shaped.
//!
//! Everything is done with the commands `ip` and `tc` of iproute2. Left out on purpose: real interfaces and routing; a
//! lab never touches the network of the machine that it is on.

#![forbid(unsafe_code)]

mod error;
mod iproute;
mod lab;
mod line;
mod measure;
mod netem;
mod plan;
mod state;
pub mod uml;

pub use error::LabError;
pub use lab::{Lab, SUF_LAB, check_kernel};
pub use line::Line;
pub use measure::Measured;
pub use netem::Counters;
pub use plan::{Host, LabPlan, NamedProfile, Network};
pub use state::{Listed, list};
