//! The sockets that listen and call, and what QUIC does with them.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{EndpointConfig, TransportConfig};
use suf_wire::{Role, VERSION};

use crate::accepting::Incoming;
use crate::connection::Connection;
use crate::error::{LinkError, code};
use crate::handshakes::{Handshakes, WAITING_BYTES, WAITING_BYTES_PER_CALLER, WAITING_CALLERS};
use crate::identity::Identity;
use crate::lanes::Waiting;
use crate::profile::{LinkKind, LinkProfile, Settings};
use crate::socket::{self, LinkSocket};
use crate::steering::LaneIds;
use crate::threads::LaneThread;

/// UDP sockets that listen and call, one for each lane. Each has a thread of its own where there are several. Two
/// endpoints, each on threads of its own, keep bulk keys from queueing before evaluation messages.
#[derive(Debug)]
pub struct Endpoint {
    /// Lane `i` of a connection is on socket `i` modulo their number.
    pub(crate) sockets: Box<[Socket]>,
    pub(crate) client: quinn::ClientConfig,
    pub(crate) settings: Settings,
    kind: LinkKind,
    pub(crate) identity: Identity,
    handshakes: Handshakes,
    /// The socket whose callers are taken next, so that no socket's callers wait for another's flood.
    turn: AtomicUsize,
    waiting: Arc<Waiting>,
}

/// A socket, what QUIC does with it, and where.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) quic: quinn::Endpoint,
    udp: Arc<LinkSocket>,
    pub(crate) thread: LaneThread,
}

impl Endpoint {
    /// Binds `addr` (port 0: any) and listens. Windows and packet sizes follow from `profile`; with `shaped` the profile
    /// is also emulated for all that this endpoint sends. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`LinkError::Bind`], [`LinkError::Tls`].
    pub fn bind(
        addr: SocketAddr,
        identity: &Identity,
        profile: &LinkProfile,
        shaped: bool,
    ) -> Result<Self, LinkError> {
        Self::bind_version(addr, identity, profile, shaped, VERSION)
    }

    /// As [`Endpoint::bind`], for an endpoint that calls and is not called: on any port, over IPv4 and IPv6.
    ///
    /// # Errors
    /// [`LinkError::Bind`], [`LinkError::Tls`].
    pub fn caller(identity: &Identity, profile: &LinkProfile, shaped: bool) -> Result<Self, LinkError> {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let bind = |sockets| (0..sockets).map(|_| socket::bind_caller()).collect();
        Self::over(any, bind, identity, profile, shaped, VERSION)
    }

    pub(crate) fn bind_version(
        addr: SocketAddr,
        identity: &Identity,
        profile: &LinkProfile,
        shaped: bool,
        version: u16,
    ) -> Result<Self, LinkError> {
        let bind = |sockets| socket::bind_group(addr, sockets);
        Self::over(addr, bind, identity, profile, shaped, version)
    }

    /// An endpoint over the sockets that `bind` gives when it is asked for so many; it may give fewer.
    fn over(
        addr: SocketAddr,
        bind: impl FnOnce(u8) -> io::Result<Vec<UdpSocket>>,
        identity: &Identity,
        profile: &LinkProfile,
        shaped: bool,
        version: u16,
    ) -> Result<Self, LinkError> {
        warm_up();
        let settings = profile.settings();
        let transport = Arc::new(settings.transport());
        let alpn = format!("suf/{version}");
        let server = server_config(identity, &alpn, &transport)?;
        let client = client_config(identity, &alpn, transport)?;

        let failed = |source| LinkError::Bind { addr, source };
        // The emulated link is one queue, hence one socket's.
        let bound = bind(if shaped { 1 } else { settings.lanes }).map_err(failed)?;
        let kind = match shaped {
            true => LinkKind::Shaped,
            false if addr.ip().is_loopback() => LinkKind::Loopback,
            false => LinkKind::Network,
        };
        let alone = bound.len() == 1;
        let mut sockets = Vec::with_capacity(bound.len());
        for (lane, bound) in (0..).zip(bound) {
            let thread =
                if alone { LaneThread::current() } else { LaneThread::start(lane).map_err(failed)? };
            let udp_payload_bytes = settings.udp_payload_bytes;
            let udp = LinkSocket::new(bound, &thread, udp_payload_bytes, shaped.then_some(profile));
            let udp = Arc::new(udp.map_err(failed)?);

            // The key is derived from the identity. A process that was killed and restarted on its port can thus end its old
            // connections at once (RFC 9000, section 10.3).
            let mut config = EndpointConfig::new(Arc::new(identity.reset_key()));
            // quinn sets aside room for 2048 datagrams of this size; the other side is told, and sends none larger.
            config
                .max_udp_payload_size(udp_payload_bytes)
                .map_err(|error| LinkError::Bug(error.to_string()))?
                .cid_generator(move || Box::new(LaneIds(lane)));
            let (server, runtime) = (server.clone(), Arc::new(thread.clone()));
            let quic = quinn::Endpoint::new_with_abstract_socket(config, Some(server), udp.clone(), runtime);
            sockets.push(Socket { quic: quic.map_err(failed)?, udp, thread });
        }
        Ok(Self {
            sockets: sockets.into(),
            client,
            settings,
            kind,
            identity: identity.clone(),
            handshakes: Handshakes::new(),
            turn: AtomicUsize::new(0),
            waiting: Arc::default(),
        })
    }

    /// The address bound; a [`Endpoint::caller`]'s is that of lane 0.
    ///
    /// # Errors
    /// The system's, as [`LinkError::Bug`]: a bound socket has an address.
    pub fn local_addr(&self) -> Result<SocketAddr, LinkError> {
        self.sockets[0].quic.local_addr().map_err(|error| LinkError::Bug(error.to_string()))
    }

    /// What kind of link this is. [`LinkKind::Network`] may be shaped by netem: only who shaped it knows.
    pub fn kind(&self) -> LinkKind {
        self.kind
    }

    /// What was set for QUIC.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Packets that the emulated bottleneck dropped because its queue was full; 0 without emulation.
    pub fn overflowed_packets(&self) -> u64 {
        self.sockets.iter().map(|socket| socket.udp.overflowed()).sum()
    }

    /// The next caller, not yet trusted; `None` once the endpoint is closed. Where several may call, establish each in a
    /// task of its own, so that a slow one delays no other. Callers beyond the limits are answered here.
    pub async fn incoming(&self) -> Option<Incoming> {
        loop {
            let (inner, thread) = self.next_caller().await?;
            if let Some((inner, place)) = self.handshakes.admit(inner) {
                return Some(Incoming {
                    inner,
                    place,
                    thread,
                    identity: self.identity.clone(),
                    waiting: Arc::clone(&self.waiting),
                    handshake_limit: self.settings.handshake_limit,
                    receive_window_bytes: self.settings.receive_window_bytes * u64::from(self.settings.lanes),
                });
            }
            // A flood must not keep this thread from its other work.
            tokio::task::yield_now().await;
        }
    }

    async fn next_caller(&self) -> Option<(quinn::Incoming, LaneThread)> {
        let mut accepting: Vec<_> =
            self.sockets.iter().map(|socket| Box::pin(socket.quic.accept())).collect();
        std::future::poll_fn(|context| {
            let first = self.turn.fetch_add(1, Ordering::Relaxed);
            for at in 0..accepting.len() {
                let at = (first + at) % accepting.len();
                if let Poll::Ready(inner) = accepting[at].as_mut().poll(context) {
                    return Poll::Ready(inner.map(|inner| (inner, self.sockets[at].thread.clone())));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// The next caller, established, if its certificate's role is among `admitted`. For listeners with one caller; see
    /// [`Endpoint::incoming`].
    ///
    /// # Errors
    /// Of this one caller; the endpoint goes on.
    pub async fn accept(&self, admitted: &[Role]) -> Result<Connection, LinkError> {
        loop {
            let incoming = self.incoming().await;
            let incoming = incoming.ok_or_else(|| LinkError::Bug("accept on a closed endpoint".into()))?;
            if let Some(connection) = incoming.establish(admitted).await? {
                return Ok(connection);
            }
        }
    }

    /// Closes every connection and waits until the other sides have had the chance to hear of it.
    pub async fn close(&self, reason: &str) {
        for socket in &self.sockets {
            socket.quic.close(code::DONE, reason.as_bytes());
        }
        for socket in &self.sockets {
            socket.quic.wait_idle().await;
        }
    }
}

fn server_config(
    identity: &Identity,
    alpn: &str,
    transport: &Arc<TransportConfig>,
) -> Result<quinn::ServerConfig, LinkError> {
    let tls = QuicServerConfig::try_from(identity.server(alpn.as_bytes())?)
        .map_err(|error| LinkError::Bug(error.to_string()))?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    config
        .transport_config(transport.clone())
        .max_incoming(WAITING_CALLERS)
        .incoming_buffer_size(WAITING_BYTES_PER_CALLER)
        .incoming_buffer_size_total(WAITING_BYTES)
        // A caller's address changes when a router that translates addresses forgets it. The new one is proven before much
        // is sent there (RFC 9000, section 9); connection ids keep its packets on their lane's socket.
        .migration(true);
    Ok(config)
}

fn client_config(
    identity: &Identity,
    alpn: &str,
    transport: Arc<TransportConfig>,
) -> Result<quinn::ClientConfig, LinkError> {
    let tls = QuicClientConfig::try_from(identity.client(alpn.as_bytes())?)
        .map_err(|error| LinkError::Bug(error.to_string()))?;
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    config.transport_config(transport);
    Ok(config)
}

/// The address as people write it: sockets for both families know IPv4 addresses as mapped into IPv6.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// The provider's random generator takes 22 ms to start, once per process. Within a handshake that would spoil the first
/// estimate of the round trip time.
fn warm_up() {
    let mut bytes = [0; 32];
    // A generator that fails now fails the handshake, with a better error.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
}

#[cfg(test)]
mod tests;
