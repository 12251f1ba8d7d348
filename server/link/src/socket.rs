//! UDP sockets with buffers that hold a burst, and segmentation offload that works with large packets.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use socket2::{Domain, Socket, Type};

use crate::profile::UDP_BUFFER_BYTES;

/// Bytes of the largest UDP payload over IPv4. The kernel takes one send with segmentation offload as one datagram, so it
/// must not exceed this whole.
const MOST_PAYLOAD_BYTES: usize = 65_507;

/// A bound socket. Buffers smaller than wanted are used with a warning: the link works, bursts may be lost.
pub(crate) fn bind(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, None)?;
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
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

/// How many datagrams of `udp_payload_bytes` one send may carry. quinn takes ten at once where the system offers it; with
/// large packets that exceeds a datagram, and quinn would fall back to packets of 1200 bytes.
pub(crate) fn most_segments(udp_payload_bytes: u16, offered: usize) -> usize {
    offered.min(MOST_PAYLOAD_BYTES / usize::from(udp_payload_bytes)).max(1)
}

/// A socket that offers fewer segments than the system does.
#[derive(Debug)]
pub(crate) struct CappedSocket {
    pub(crate) inner: Arc<dyn AsyncUdpSocket>,
    pub(crate) udp_payload_bytes: u16,
}

impl AsyncUdpSocket for CappedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
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
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}
