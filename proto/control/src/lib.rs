//! The control API of the daemons: generated types and services, a server and a client over mutual TLS 1.3,
//! and who may call what.
//!
//! This crate knows no gate and no key. TLS configurations are made by the caller, which also says how a role
//! is read from a certificate ([`authority::Callers`]). The link verifies certificates.

pub mod authority;
pub mod call;
pub mod client;
pub mod failure;
pub mod limits;
pub mod server;
pub mod shares;

mod listener;
mod under_way;

/// Version 1 of the API, generated from `v1/control.proto`; the comments there are the reference.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1 {
    tonic::include_proto!("suf.control.v1");
}

/// The compiled `control.proto`, an encoded `FileDescriptorSet`: served by gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/control.fds"));
