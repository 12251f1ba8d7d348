//! UDP sockets with buffers that hold a burst, and segmentation offload that works with large packets.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, UdpPoller};
use socket2::{Domain, SockRef, Socket, Type};

use crate::profile::{LinkProfile, UDP_BUFFER_BYTES};
use crate::shaped::{AlwaysWritable, ShapedSends};
use crate::steering;
use crate::threads::LaneThread;

/// Bytes of the largest UDP payload over IPv4. The kernel takes one send with segmentation offload as one datagram, so it
/// must not exceed this whole.
const MOST_PAYLOAD_BYTES: usize = 65_507;

/// A bound socket. Buffers smaller than wanted are used with a warning: the link works, bursts may be lost.
pub(crate) fn bind(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = unbound(addr)?;
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

/// A socket that calls and is not called, on any port: for addresses of both families where the system has both.
pub(crate) fn bind_caller() -> io::Result<UdpSocket> {
    let any_v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let both = bind((Ipv6Addr::UNSPECIFIED, 0).into()).ok();
    // A socket for IPv6 alone would reach fewer hosts than one for IPv4 alone.
    let both = both.filter(|socket| SockRef::from(socket).only_v6().is_ok_and(|only| !only));
    both.map_or_else(|| bind(any_v4), Ok)
}

/// Whether the system knows a way to `addr`; nothing is sent.
///
/// # Errors
/// The system's reason why not.
pub(crate) fn has_route(addr: SocketAddr) -> io::Result<()> {
    let any: SocketAddr = match addr {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    UdpSocket::bind(any)?.connect(addr)
}

/// As many sockets on one port, each for the packets of its lane; one where the system cannot tell them apart.
pub(crate) fn bind_group(addr: SocketAddr, sockets: u8) -> io::Result<Vec<UdpSocket>> {
    // Sockets of a group share their port with every process of the same user. A daemon that is started twice is a mistake, so
    // the port must be unused at first.
    let first = bind(addr)?;
    let addr = first.local_addr()?;
    if sockets == 1 {
        return Ok(vec![first]);
    }
    drop(first);
    let group = (0..sockets).map(|_| {
        let socket = unbound(addr)?;
        socket.set_reuse_port(true)?;
        socket.bind(&addr.into())?;
        Ok(socket.into())
    });
    let group = group.collect::<io::Result<Vec<UdpSocket>>>()?;
    if let Err(error) = steering::steer(&group[0], sockets) {
        tracing::info!(%error, "the system cannot hand each lane its packets: all lanes are one thread's work");
        drop(group);
        return Ok(vec![bind(addr)?]);
    }
    Ok(group)
}

fn unbound(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, None)?;
    suf_net::accept_both_families(&socket, addr);
    // A process with the right to may exceed the system's limit; all others get what the limit allows.
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, UDP_BUFFER_BYTES).is_err() {
        socket.set_recv_buffer_size(UDP_BUFFER_BYTES)?;
    }
    socket.set_send_buffer_size(UDP_BUFFER_BYTES)?;
    let got = socket.recv_buffer_size()?;
    if got < UDP_BUFFER_BYTES / 4 {
        tracing::warn!(
            wanted = UDP_BUFFER_BYTES,
            got,
            "small UDP buffer, bursts may be lost; raise net.core.rmem_max and net.core.wmem_max"
        );
    }
    Ok(socket)
}

/// How many datagrams of `udp_payload_bytes` one send may carry. quinn takes ten at once where the system offers it. With
/// large packets that exceeds a datagram, and quinn would fall back to packets of 1200 bytes.
fn most_segments(udp_payload_bytes: u16, offered: usize) -> usize {
    offered.min(MOST_PAYLOAD_BYTES / usize::from(udp_payload_bytes)).max(1)
}

/// How many datagrams of `udp_payload_bytes` one receive may bring: the kernel joins no more than make the largest datagram.
/// quinn allocates 32 times this many and writes to the start of each. The system offers 64, which would be 130 MB for large
/// packets, in pages of 2 MB of which the first bytes are used.
fn received_segments(udp_payload_bytes: u16, offered: usize) -> usize {
    offered.min(MOST_PAYLOAD_BYTES.div_ceil(usize::from(udp_payload_bytes)))
}

/// The UDP socket of quinn. It offers fewer segments than the system does, and its sends may go through an emulated link.
#[derive(Debug)]
pub(crate) struct LinkSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    udp_payload_bytes: u16,
    shaped: Option<ShapedSends>,
}

impl LinkSocket {
    /// Sends and receives packets of at most `udp_payload_bytes` through `socket`, on `thread`. With `shaped`, all that is sent
    /// crosses an emulated link of that profile.
    pub(crate) fn new(
        socket: UdpSocket,
        thread: &LaneThread,
        udp_payload_bytes: u16,
        shaped: Option<&LinkProfile>,
    ) -> io::Result<Self> {
        let shaped = match shaped {
            Some(profile) => Some(ShapedSends::new(socket.try_clone()?, profile)?),
            None => None,
        };
        Ok(Self { inner: thread.wrap_udp_socket(socket)?, udp_payload_bytes, shaped })
    }

    /// Packets that the emulated bottleneck dropped because its queue was full; 0 without emulation.
    pub(crate) fn overflowed(&self) -> u64 {
        self.shaped.as_ref().map_or(0, ShapedSends::overflowed)
    }
}

impl AsyncUdpSocket for LinkSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        match &self.shaped {
            Some(_) => Box::pin(AlwaysWritable),
            None => self.inner.clone().create_io_poller(),
        }
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        match &self.shaped {
            Some(shaped) => {
                shaped.send(transmit);
                Ok(())
            }
            None => self.inner.try_send(transmit),
        }
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(context, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        most_segments(self.udp_payload_bytes, self.inner.max_transmit_segments())
    }

    fn max_receive_segments(&self) -> usize {
        received_segments(self.udp_payload_bytes, self.inner.max_receive_segments())
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_kernel_joins_is_received_whole() {
        for bytes in [1200, 1452, 8952, 32_000, 65_487] {
            let room = received_segments(bytes, 64) * usize::from(bytes);
            assert!(
                (MOST_PAYLOAD_BYTES..2 * MOST_PAYLOAD_BYTES).contains(&room),
                "{room} for packets of {bytes}"
            );
        }
        assert_eq!(received_segments(1452, 1), 1, "a system that joins nothing");
    }
}
