//! What everything that listens or calls shares, over TCP and over QUIC.
//!
//! - [`Target`] is an address as a person writes it; [`Target::resolve`] gives its addresses of both families.
//! - [`first_to_answer`] tries them in turn, each with a short start over the next (RFC 8305, "happy eyeballs").
//! - [`tcp_listener`] and [`accept_both_families`] make `[::]` reachable over IPv4 too.
//! - [`Admission`] bounds what callers can hold before they have shown who they are.
//!
//! This crate knows no protocol, no certificate and no role.

#![forbid(unsafe_code)]

mod admission;
mod calling;
mod listening;
mod target;

pub use admission::{Admission, HANDSHAKES, HANDSHAKES_PER_ADDRESS, Permit, network_of};
pub use calling::{Tried, first_to_answer};
pub use listening::{accept_both_families, tcp_listener};
pub use target::{ResolveError, Target, TargetError};
