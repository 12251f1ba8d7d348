//! What operators look at: `/livez`, `/readyz`, `/metrics` and `/status.json`, over plain HTTP.
//!
//! - [`Check`] and [`Health`]: what must hold for a process to be ready, looked at every two seconds.
//! - [`Reading`]: figures of a process, read when they are asked for.
//! - [`Trace`] and [`Collector`]: spans of work that is over, for a collector that speaks OTLP.
//! - [`Pages`]: the address itself. Who calls it has shown nothing, so limits come before work.
//!
//! This crate knows no daemon. What stands on the pages is for everybody who reaches the address. It is no secret, no run's id,
//! no client's name and no digest of a model.

#![forbid(unsafe_code)]

mod health;
mod http;
mod readings;
mod spans;

pub use health::{Check, Found, Health, Problem};
pub use http::Pages;
pub use prometheus_client::{metrics, registry::Registry, registry::Unit};
pub use readings::{Reading, encode, read_at_each_scrape};
pub use spans::{Collector, CollectorAddress, Fact, Span, Trace};
