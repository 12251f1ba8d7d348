//! Tests of the links: real sockets on loopback, a throw-away authority each.

mod channels;
mod common;
mod lanes;
mod packets;
mod shaped;
mod trust;
