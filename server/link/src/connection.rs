//! A connection to one other process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use suf_wire::{Message, Role};

use crate::accepting::certificate_of;
use crate::certificate::Purpose;
use crate::channel::Channel;
use crate::endpoint::canonical;
use crate::error::{LinkError, code};
use crate::identity::Identity;
use crate::lanes::{Lane, Lanes};
use crate::session::Session;

/// An established connection whose other side's role has been checked: one QUIC connection, or several, its lanes. Clones
/// share it; it closes when the last of them and of its channels is dropped.
#[derive(Debug, Clone)]
pub struct Connection {
    lanes: Arc<Lanes>,
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
    /// Least round trip time seen. Too small on a host whose cores are all busy. QUIC reads the clock before it reads the
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
    /// Must be called within a tokio runtime.
    pub(crate) fn new(lanes: Vec<Lane>, role: Role) -> Self {
        Self { lanes: Arc::new(Lanes::new(lanes, role)), role }
    }

    /// Closes the connection when the other side's certificate is not accepted any more. Must be called within a tokio runtime.
    pub(crate) fn guarded(self, identity: &Identity, purpose: Purpose) -> Self {
        let Some(certificate) = certificate_of(self.lanes.first()) else { return self };
        let (identity, lanes) = (identity.clone(), Arc::downgrade(&self.lanes));
        let guard = tokio::spawn(async move {
            let why = identity.withdrawn(&certificate, purpose).await;
            if let Some(lanes) = lanes.upgrade() {
                tracing::warn!(remote = %lanes.remote(), why, "connection closed");
                lanes.close(code::ROLE, why.as_bytes());
            }
        });
        self.lanes.keep(guard.abort_handle());
        self
    }

    /// QUIC connections that share its messages.
    pub fn lanes(&self) -> u32 {
        u32::try_from(self.lanes.all().len()).expect("a connection has few lanes")
    }

    /// The other side's role, by its certificate.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The other side's address.
    pub fn remote(&self) -> SocketAddr {
        canonical(self.lanes.first().remote_address())
    }

    /// Bytes that both sides of this connection make of the same `label` and `context`, and that nobody else can make. It is
    /// keying material that TLS exports (RFC 8446, section 7.5). None if the connection has ended.
    pub fn exported<const N: usize>(&self, label: &[u8], context: &[u8]) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.lanes.first().export_keying_material(&mut bytes, label, context).ok()?;
        Some(bytes)
    }

    /// Opens a channel. The other side learns of it with the first message.
    ///
    /// # Errors
    /// How the connection ended.
    pub async fn open<M: Message>(&self) -> Result<Channel<M>, LinkError> {
        Ok(Channel::opened(&self.lanes, self.lanes.open().await?))
    }

    /// The next channel that the other side opens. Dropped and called again, none is lost.
    ///
    /// # Errors
    /// How the connection ended.
    pub async fn accept<M: Message>(&self) -> Result<Channel<M>, LinkError> {
        Ok(Channel::accepted(&self.lanes, self.lanes.accept().await?))
    }

    /// Opens a session without waiting. The other side learns of it with the first message.
    ///
    /// # Errors
    /// How the connection ended.
    pub async fn open_session(&self) -> Result<Session, LinkError> {
        let channels = Channel::opened_each(&self.lanes, self.lanes.open().await?);
        Ok(Session::new(channels, self.lanes.threads()))
    }

    /// The next session that the other side opens. Dropped and called again, none is lost.
    ///
    /// # Errors
    /// How the connection ended.
    pub async fn accept_session(&self) -> Result<Session, LinkError> {
        let channels = Channel::accepted_each(&self.lanes, self.lanes.accept().await?);
        Ok(Session::new(channels, self.lanes.threads()))
    }

    /// UDP bytes and datagrams of all lanes so far; take the difference of two with [`Traffic::since`].
    pub fn udp_stats(&self) -> Traffic {
        self.lanes.all().iter().map(quinn::Connection::stats).fold(Traffic::default(), |sum, lane| Traffic {
            bytes_sent: sum.bytes_sent + lane.udp_tx.bytes,
            bytes_received: sum.bytes_received + lane.udp_rx.bytes,
            datagrams_sent: sum.datagrams_sent + lane.udp_tx.datagrams,
            datagrams_received: sum.datagrams_received + lane.udp_rx.datagrams,
        })
    }

    /// Round trip times and packet size of the first lane; window, packets and losses of all.
    pub fn path(&self) -> PathFigures {
        let mut paths = self.lanes.all().iter().map(|lane| lane.stats().path);
        let first = paths.next().expect("a connection has a lane");
        let first = PathFigures {
            rtt: first.rtt,
            min_rtt: first.min_rtt,
            window_bytes: first.cwnd,
            sent_packets: first.sent_packets,
            lost_packets: first.lost_packets,
            mtu: first.current_mtu,
        };
        paths.fold(first, |sum, lane| PathFigures {
            window_bytes: sum.window_bytes + lane.cwnd,
            sent_packets: sum.sent_packets + lane.sent_packets,
            lost_packets: sum.lost_packets + lane.lost_packets,
            ..sum
        })
    }

    /// Smoothed round trip time.
    pub fn rtt(&self) -> Duration {
        self.lanes.first().rtt()
    }

    /// Whether and how the connection has ended.
    pub fn ended(&self) -> Option<LinkError> {
        let end = self.lanes.all().iter().find_map(quinn::Connection::close_reason);
        end.map(|error| self.lanes.remote().lost(error, true))
    }

    /// Waits for the end of the connection.
    pub async fn closed(&self) -> LinkError {
        // All lanes end when one does.
        let error = self.lanes.first().closed().await;
        self.lanes.remote().lost(error, true)
    }

    /// Closes at once; the other side sees `reason`, data under way is lost.
    pub fn close(&self, reason: &str) {
        self.lanes.close(code::DONE, reason.as_bytes());
    }
}
