//! One port for several sockets: the system hands each packet to the socket of the lane that it is for.
//!
//! Sockets that share a port by SO_REUSEPORT get packets by a hash of addresses, or by a classic BPF program. Ours reads the
//! first byte of QUIC's destination connection id (RFC 9000, section 17). Connection ids of a listener begin with their
//! lane. So do those that a caller chooses for the first packets of a lane.

use std::net::UdpSocket;

use nix::libc::{self, sock_filter, sock_fprog};
use nix::sys::socket::{setsockopt, sockopt};
use quinn::{ConnectionId, ConnectionIdGenerator};

/// Bytes of a connection id: the lane, and random bytes.
const ID_BYTES: usize = 8;

/// Where a connection id begins in a packet with a short header, and in one with a long header.
const SHORT_ID_AT: u32 = 1;
const LONG_ID_AT: u32 = 6;
/// Set in the first byte of a long header.
const LONG_HEADER: u32 = 0x80;

/// Has the system distribute the packets of the group that `socket` is in. The group has `sockets` sockets with one port, and
/// the one that was bound first is lane 0.
///
/// # Errors
/// Where the system has no such programs.
pub(crate) fn steer(socket: &UdpSocket, sockets: u8) -> std::io::Result<()> {
    let instruction = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    let load = |k| instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, k);
    let mut program = [
        load(0),
        instruction(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0, 2, LONG_HEADER),
        load(LONG_ID_AT),
        instruction(libc::BPF_JMP | libc::BPF_JA, 0, 0, 1),
        load(SHORT_ID_AT),
        instruction(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, 0, 0, sockets.into()),
        instruction(libc::BPF_RET | RETURN_A, 0, 0, 0),
    ];
    let program = sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    Ok(setsockopt(socket, sockopt::AttachReusePortCbpf, &program)?)
}

/// BPF_A, which the bindings lack: the program's result is its accumulator.
const RETURN_A: u32 = 0x10;

/// A new connection id for `lane`.
pub(crate) fn id_of(lane: u8) -> ConnectionId {
    let mut bytes = [0; ID_BYTES];
    // A caller without entropy does not get as far as here; and connection ids are no secrets.
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's entropy is there after the start");
    bytes[0] = lane;
    ConnectionId::new(&bytes)
}

/// Makes the connection ids of one lane.
#[derive(Debug)]
pub(crate) struct LaneIds(pub(crate) u8);

impl ConnectionIdGenerator for LaneIds {
    fn generate_cid(&mut self) -> ConnectionId {
        id_of(self.0)
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}
