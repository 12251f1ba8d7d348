//! A connection to one other process.

use std::net::SocketAddr;
use std::time::Duration;

use suf_wire::{Message, Role};

use crate::channel::Channel;
use crate::error::{LinkError, Remote, code};

/// An established connection whose other side's role has been checked. Clones share it; it closes when the last of them
/// and of its channels is dropped.
#[derive(Debug, Clone)]
pub struct Connection {
    inner: quinn::Connection,
    role: Role,
}

/// UDP payload that a connection has moved since it began, from the QUIC stack's own counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes sent inside UDP datagrams.
    pub bytes_sent: u64,
    /// Bytes received inside UDP datagrams.
    pub bytes_received: u64,
    /// UDP datagrams sent. An IPv4 Ethernet frame adds 42 bytes to each.
    pub datagrams_sent: u64,
    /// UDP datagrams received.
    pub datagrams_received: u64,
}

impl Traffic {
    /// What was moved since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            bytes_sent: self.bytes_sent.saturating_sub(earlier.bytes_sent),
            bytes_received: self.bytes_received.saturating_sub(earlier.bytes_received),
            datagrams_sent: self.datagrams_sent.saturating_sub(earlier.datagrams_sent),
            datagrams_received: self.datagrams_received.saturating_sub(earlier.datagrams_received),
        }
    }

    /// Bytes sent and received.
    pub fn bytes(self) -> u64 {
        self.bytes_sent + self.bytes_received
    }
}

/// The path as the QUIC stack sees it now.
#[derive(Debug, Clone, Copy)]
pub struct PathFigures {
    /// Smoothed round trip time.
    pub rtt: Duration,
    /// Least round trip time seen. Too small on a host whose cores are all busy: QUIC reads the clock before it reads the
    /// socket, and may have to wait between the two.
    pub min_rtt: Duration,
    /// Congestion window, in bytes.
    pub window_bytes: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Packets taken for lost.
    pub lost_packets: u64,
    /// Largest UDP payload in use, in bytes.
    pub mtu: u16,
}

impl Connection {
    pub(crate) fn new(inner: quinn::Connection, role: Role) -> Self {
        Self { inner, role }
    }

    /// The other side's role, by its certificate.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The other side's address.
    pub fn remote(&self) -> SocketAddr {
        self.inner.remote_address()
    }

    /// Opens a channel. The other side learns of it with the first message.
    ///
    /// # Errors
    /// How the connection ended.
    pub async fn open<M: Message>(&self) -> Result<Channel<M>, LinkError> {
        let streams = self.inner.open_bi().await.map_err(|error| self.named().lost(error, true))?;
        Ok(Channel::new(self.inner.clone(), self.named(), streams))
    }

    /// The next channel that the other side opens. Dropped and called again, none is lost.
    ///
    /// # Errors
    /// How the connection ended.
    pub async fn accept<M: Message>(&self) -> Result<Channel<M>, LinkError> {
        let streams = self.inner.accept_bi().await.map_err(|error| self.named().lost(error, true))?;
        Ok(Channel::new(self.inner.clone(), self.named(), streams))
    }

    /// UDP bytes and datagrams so far; take the difference of two with [`Traffic::since`].
    pub fn udp_stats(&self) -> Traffic {
        let stats = self.inner.stats();
        Traffic {
            bytes_sent: stats.udp_tx.bytes,
            bytes_received: stats.udp_rx.bytes,
            datagrams_sent: stats.udp_tx.datagrams,
            datagrams_received: stats.udp_rx.datagrams,
        }
    }

    /// Round trip times, losses and packet size.
    pub fn path(&self) -> PathFigures {
        let path = self.inner.stats().path;
        PathFigures {
            rtt: path.rtt,
            min_rtt: path.min_rtt,
            window_bytes: path.cwnd,
            sent_packets: path.sent_packets,
            lost_packets: path.lost_packets,
            mtu: path.current_mtu,
        }
    }

    /// Smoothed round trip time.
    pub fn rtt(&self) -> Duration {
        self.inner.rtt()
    }

    /// Whether and how the connection has ended.
    pub fn ended(&self) -> Option<LinkError> {
        self.inner.close_reason().map(|error| self.named().lost(error, true))
    }

    /// Waits for the end of the connection.
    pub async fn closed(&self) -> LinkError {
        let error = self.inner.closed().await;
        self.named().lost(error, true)
    }

    /// Closes at once; the other side sees `reason`, data under way is lost.
    pub fn close(&self, reason: &str) {
        self.inner.close(code::DONE, reason.as_bytes());
    }

    fn named(&self) -> Remote {
        Remote { role: Some(self.role), addr: self.inner.remote_address() }
    }
}
