//! Tests of the links: real sockets on loopback, a throw-away authority each.

mod authorities;
mod channels;
mod common;
mod lanes;
mod packets;
mod requests;
mod sessions;
mod shaped;
mod trust;
