//! Listening and calling.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{EndpointConfig, TransportConfig, VarInt};
use rustls_pki_types::CertificateDer;
use suf_wire::{Role, VERSION};

use crate::certificate::role_of;
use crate::connection::Connection;
use crate::error::{LinkError, Remote, code};
use crate::identity::Identity;
use crate::lanes::{Lane, LaneHello, Waiting};
use crate::profile::{LinkKind, LinkProfile, Settings};
use crate::socket::{self, LinkSocket};
use crate::steering::{LaneIds, id_of};
use crate::threads::LaneThread;

/// From the first packet to the listener's welcome: several round trips between continents, and some lost packets.
pub(crate) const HANDSHAKE_LIMIT: Duration = Duration::from_secs(8);

/// Handshakes under way at once. Three processes and their clients never come near it; a flood does.
const MOST_INCOMING: usize = 256;

/// UDP sockets that listen and call: one for each lane, each with a thread of its own, or one for all where there is one
/// lane. Two endpoints, each on threads of its own, keep bulk keys from queueing before evaluation messages.
#[derive(Debug)]
pub struct Endpoint {
    /// Lane `i` of a connection is on socket `i` modulo their number.
    sockets: Box<[Socket]>,
    client: quinn::ClientConfig,
    settings: Settings,
    kind: LinkKind,
    identity: Identity,
    waiting: Arc<Waiting>,
}

/// A socket, what QUIC does with it, and where.
#[derive(Debug)]
struct Socket {
    quic: quinn::Endpoint,
    udp: Arc<LinkSocket>,
    thread: LaneThread,
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

    /// As [`Endpoint::bind`], for an endpoint that calls and is not called: on any port.
    ///
    /// # Errors
    /// [`LinkError::Bind`], [`LinkError::Tls`].
    pub fn caller(identity: &Identity, profile: &LinkProfile, shaped: bool) -> Result<Self, LinkError> {
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let bind = |sockets| (0..sockets).map(|_| socket::bind(any)).collect();
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

            // The key follows from the identity, so that a process that was killed and started again on its port can tell the
            // other sides at once that their connections are gone (RFC 9000, section 10.3).
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
    /// task of its own, so that a slow one holds up nobody.
    pub async fn incoming(&self) -> Option<Incoming> {
        let mut accepting: Vec<_> =
            self.sockets.iter().map(|socket| Box::pin(socket.quic.accept())).collect();
        let (inner, thread) = std::future::poll_fn(|context| {
            for (accept, socket) in accepting.iter_mut().zip(&self.sockets) {
                if let Poll::Ready(inner) = accept.as_mut().poll(context) {
                    return Poll::Ready(inner.map(|inner| (inner, socket.thread.clone())));
                }
            }
            Poll::Pending
        })
        .await?;
        Some(Incoming {
            inner,
            thread,
            identity: self.identity.clone(),
            waiting: Arc::clone(&self.waiting),
            receive_window_bytes: self.settings.receive_window_bytes * u64::from(self.settings.lanes),
        })
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

    /// Calls `addr`, whose certificate must be good for `name` (each is for its role's own name, "party0" say) and carry
    /// the role `expected`. Returns when the other side has admitted us.
    ///
    /// # Errors
    /// Who refused, and why.
    pub async fn connect(
        &self,
        addr: SocketAddr,
        name: &str,
        expected: Role,
    ) -> Result<Connection, LinkError> {
        let mut call = [0; 16];
        getrandom::fill(&mut call).map_err(|error| LinkError::Bug(error.to_string()))?;
        let lanes = self.settings.lanes;
        let mut all = Vec::with_capacity(lanes.into());
        // The first lane completes the connection, so it is called last.
        for lane in (0..lanes).rev() {
            all.push(self.call_lane(addr, name, expected, LaneHello { call, lane, lanes }).await?);
        }
        all.reverse();
        Ok(Connection::new(all, expected))
    }

    pub(crate) async fn call_lane(
        &self,
        addr: SocketAddr,
        name: &str,
        expected: Role,
        hello: LaneHello,
    ) -> Result<Lane, LinkError> {
        let remote = Remote::new(Some(expected), addr);
        let socket = &self.sockets[usize::from(hello.lane) % self.sockets.len()];
        let mut client = self.client.clone();
        client.initial_dst_cid_provider(Arc::new(move || id_of(hello.lane)));
        let calling = socket.quic.connect_with(client, addr, name);
        let calling = calling.map_err(|error| LinkError::Untrusted {
            remote: remote.to_string(),
            problem: error.to_string(),
        })?;
        let established = async {
            let inner = calling.await.map_err(|error| remote.lost(error, false))?;
            admit(&inner, &remote, &[expected], &self.identity)?;
            say(&inner, &remote, &hello.encode()).await?;
            let version = u16::from_le_bytes(hear(&inner, &remote).await?);
            if version != VERSION {
                inner.close(code::VERSION, b"another protocol version");
                return Err(LinkError::Version { remote: remote.to_string() });
            }
            Ok(Lane { quic: inner, thread: socket.thread.clone() })
        };
        tokio::time::timeout(HANDSHAKE_LIMIT, established).await.unwrap_or_else(|_| Err(remote.unreachable()))
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

/// A caller that has not proven anything yet.
#[derive(Debug)]
pub struct Incoming {
    inner: quinn::Incoming,
    thread: LaneThread,
    identity: Identity,
    waiting: Arc<Waiting>,
    /// Of all lanes together.
    receive_window_bytes: u64,
}

impl Incoming {
    /// The caller's address.
    pub fn remote(&self) -> SocketAddr {
        self.inner.remote_address()
    }

    /// Completes the handshake and admits the caller if its certificate's role is among `admitted`; others are told why
    /// not. Gives the connection when this was the last of its lanes, and `None` before.
    ///
    /// # Errors
    /// Who could not be admitted, and why.
    pub async fn establish(self, admitted: &[Role]) -> Result<Option<Connection>, LinkError> {
        let mut remote = Remote::new(None, self.inner.remote_address());
        let late = remote.unreachable();
        let established = async {
            let inner = self.inner.await.map_err(|error| remote.lost(error, false))?;
            let (role, certificate) = admit(&inner, &remote, admitted, &self.identity)?;
            remote.role = Some(role);
            let hello = LaneHello::decode(hear(&inner, &remote).await?);
            let hello = hello.ok_or("it says that it is a lane that there cannot be");
            let complete = hello.and_then(|hello| {
                // The caller decides how many lanes there are, but not how much we hold for it.
                let window = self.receive_window_bytes / u64::from(hello.lanes);
                inner.set_receive_window(VarInt::from_u64(window).unwrap_or(VarInt::MAX));
                let lane = Lane { quic: inner.clone(), thread: self.thread };
                self.waiting.complete(hello, &certificate, lane)
            });
            let lanes = complete.map_err(|problem| {
                inner.close(code::MESSAGE, problem.as_bytes());
                LinkError::Lanes { remote: remote.to_string(), problem }
            })?;
            // In TLS 1.3 a caller's handshake ends before its certificate is looked at, so that without this a refusal would
            // surface only later, in the middle of something else.
            say(&inner, &remote, &VERSION.to_le_bytes()).await?;
            Ok(lanes.map(|lanes| Connection::new(lanes, role)))
        };
        tokio::time::timeout(HANDSHAKE_LIMIT, established).await.unwrap_or(Err(late))
    }
}

/// Reads the role from the other side's certificate and closes the connection if it is not among `admitted`, or if the
/// certificate's key is our own: a dealer that is also a party would know everything.
fn admit(
    inner: &quinn::Connection,
    remote: &Remote,
    admitted: &[Role],
    own: &Identity,
) -> Result<(Role, CertificateDer<'static>), LinkError> {
    let identity = inner.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    let certificate = identity.and_then(|chain| chain.into_iter().next()).ok_or("no certificate".to_owned());
    let found = certificate.and_then(|certificate| Ok((role_of(&certificate)?, certificate)));
    match found {
        Ok((role, certificate)) if admitted.contains(&role) => {
            // A certificate of our own role with our key is our own.
            if role != own.role() && own.has_key_of(&certificate) {
                let reason =
                    b"your certificate has the private key of ours; each role needs a key of its own";
                inner.close(code::ROLE, reason);
                return Err(LinkError::SharedKey { remote: remote.addr.to_string() });
            }
            Ok((role, certificate))
        }
        other => {
            let found = other.map_or_else(|problem| problem, |(role, _)| role.to_string());
            let wanted = admitted.iter().map(|role| role.name()).collect::<Vec<_>>().join(" or ");
            let reason = format!("your certificate says {found}, wanted here is {wanted}");
            inner.close(code::ROLE, reason.as_bytes());
            Err(LinkError::Role { remote: remote.addr.to_string(), wanted, found })
        }
    }
}

/// Sends the one thing that each side says of a new QUIC connection: the caller which lane it is, the listener that it is
/// welcome, with the version.
async fn say(inner: &quinn::Connection, remote: &Remote, bytes: &[u8]) -> Result<(), LinkError> {
    let mut stream = inner.open_uni().await.map_err(|error| remote.lost(error, false))?;
    stream.write_all(bytes).await.map_err(|error| remote.unwritable(error))?;
    // An error says that the connection is closed, which the next to use it learns.
    let _ = stream.finish();
    Ok(())
}

async fn hear<const BYTES: usize>(
    inner: &quinn::Connection,
    remote: &Remote,
) -> Result<[u8; BYTES], LinkError> {
    let mut stream = inner.accept_uni().await.map_err(|error| remote.lost(error, false))?;
    let mut bytes = [0; BYTES];
    stream.read_exact(&mut bytes).await.map_err(|error| match error {
        quinn::ReadExactError::ReadError(error) => remote.unreadable(error),
        quinn::ReadExactError::FinishedEarly(_) => remote.ended(),
    })?;
    Ok(bytes)
}

fn server_config(
    identity: &Identity,
    alpn: &str,
    transport: &Arc<TransportConfig>,
) -> Result<quinn::ServerConfig, LinkError> {
    let tls = QuicServerConfig::try_from(identity.server(alpn.as_bytes())?)
        .map_err(|error| LinkError::Bug(error.to_string()))?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    config.transport_config(transport.clone()).max_incoming(MOST_INCOMING).migration(false);
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

/// The provider's random generator takes 22 ms to start, once per process. Within a handshake that would spoil the first
/// estimate of the round trip time.
fn warm_up() {
    let mut bytes = [0; 32];
    // A generator that fails now fails the handshake, with a better error.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    use suf_wire::PeerMessage;

    use super::*;
    use crate::pki::Pki;

    fn bound(folder: &tempfile::TempDir, role: Role, version: u16) -> Endpoint {
        let identity = Identity::load_from(folder.path(), role.name()).expect("an identity");
        let profile = LinkProfile::built_in("loopback").expect("a profile");
        let addr = (Ipv4Addr::LOCALHOST, 0).into();
        Endpoint::bind_version(addr, &identity, &profile, false, version).expect("an endpoint")
    }

    fn authority() -> tempfile::TempDir {
        let folder = tempfile::TempDir::new().expect("a folder");
        Pki::create(folder.path(), &BTreeMap::new()).expect("an authority");
        folder
    }

    /// The system hands each lane's packets to the socket of that lane, at the caller and at the listener.
    #[tokio::test]
    async fn each_lane_has_a_socket_of_its_own() {
        let folder = authority();
        let lanes = 3;
        let profile = LinkProfile { lanes, ..LinkProfile::built_in("loopback").expect("a profile") };
        let identity = |role: Role| Identity::load_from(folder.path(), role.name()).expect("an identity");
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let listener = Endpoint::bind(any, &identity(Role::Party1), &profile, false).expect("binds");
        if listener.sockets.len() == 1 {
            return eprintln!("SKIPPED: this system hands out no packets by their content");
        }
        let caller = Endpoint::caller(&identity(Role::Party0), &profile, false).expect("binds");
        let addr = listener.local_addr().expect("bound");
        let mut open = Vec::new();
        for connections in 1..=2 {
            let (calling, called) =
                tokio::join!(caller.connect(addr, "party1", Role::Party1), listener.accept(&[Role::Party0]));
            let (calling, called) = (calling.expect("calls"), called.expect("is called"));
            assert_eq!((calling.lanes(), called.lanes()), (lanes.into(), lanes.into()));
            for endpoint in [&caller, &listener] {
                assert!(endpoint.sockets.iter().all(|socket| socket.quic.open_connections() == connections));
            }
            open.push((calling, called));
        }
    }

    /// Sockets that share a port share it among themselves alone.
    #[tokio::test]
    async fn a_port_is_taken_once() {
        let folder = authority();
        let identity = Identity::load_from(folder.path(), Role::Party1.name()).expect("an identity");
        for lanes in [1, 3] {
            let profile = LinkProfile { lanes, ..LinkProfile::built_in("loopback").expect("a profile") };
            let any = (Ipv4Addr::LOCALHOST, 0).into();
            let first = Endpoint::bind(any, &identity, &profile, false).expect("binds");
            let addr = first.local_addr().expect("bound");
            let second = Endpoint::bind(addr, &identity, &profile, false);
            assert!(matches!(second, Err(LinkError::Bind { .. })), "{second:?}");
        }
    }

    #[tokio::test]
    async fn another_version_is_named_on_both_sides() {
        let folder = authority();
        let (old, new) = (bound(&folder, Role::Party0, VERSION), bound(&folder, Role::Party1, VERSION + 1));
        let addr = new.local_addr().expect("bound");
        let (calling, called) =
            tokio::join!(old.connect(addr, "party1", Role::Party1), new.accept(&[Role::Party0]));
        assert!(matches!(calling, Err(LinkError::Version { .. })), "{calling:?}");
        assert!(matches!(called, Err(LinkError::Version { .. })), "{called:?}");
    }

    #[tokio::test]
    async fn another_version_in_the_greeting_is_named() {
        let folder = authority();
        let [caller, listener] = [Role::Party0, Role::Party1].map(|role| bound(&folder, role, VERSION));
        let addr = listener.local_addr().expect("bound");
        let (calling, called) =
            tokio::join!(caller.connect(addr, "party1", Role::Party1), listener.accept(&[Role::Party0]));
        let (calling, called) = (calling.expect("calls"), called.expect("is called"));
        let mut here = calling.open::<PeerMessage>().await.expect("opens");
        let there = async {
            let mut there = called.accept::<PeerMessage>().await.expect("accepts");
            there.greet(Role::Party1, "new").await
        };
        let (here, there) = tokio::join!(here.greet_as(VERSION + 1, Role::Party0, "newer"), there);
        assert!(matches!(here, Err(LinkError::Version { .. })), "{here:?}");
        assert!(matches!(there, Err(LinkError::Version { .. })), "{there:?}");
    }
}
