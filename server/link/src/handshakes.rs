//! How many handshakes may be in progress, before anybody has shown a certificate.
//!
//! The source address of a first packet proves nothing. Few such callers are served at once. The others get a token to come
//! back with (a Retry packet, RFC 9000, section 8.1.2), which costs no memory here. A caller with such a token has places
//! that no forged address can take.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use suf_net::{Admission, HANDSHAKES, HANDSHAKES_PER_ADDRESS, Permit, network_of};

/// Handshakes at once with callers whose address is not proven: what both parties with all their lanes begin at once. With
/// more, addresses are proven first, which costs a caller one round trip.
pub(crate) const UNPROVEN_HANDSHAKES: usize = 16;

/// Initial packets that wait for [`crate::Endpoint::incoming`] on one socket. They are taken at once; more are dropped, and
/// QUIC sends them again.
pub(crate) const WAITING_CALLERS: usize = 64;

/// Bytes that a caller may send before it is accepted: a first flight has 3 packets, with certificates of any size 10.
pub(crate) const WAITING_BYTES_PER_CALLER: u64 = 16 << 10;

/// The same for all callers of one socket together.
pub(crate) const WAITING_BYTES: u64 = WAITING_CALLERS as u64 * WAITING_BYTES_PER_CALLER;

/// The log tells of a flood once in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The handshakes in progress on an endpoint, all its sockets together.
#[derive(Debug)]
pub(crate) struct Handshakes {
    unproven: Arc<Admission<IpAddr>>,
    proven: Arc<Admission<IpAddr>>,
    logged: Mutex<Option<Instant>>,
}

impl Handshakes {
    pub(crate) fn new() -> Self {
        Self {
            unproven: Admission::new(HANDSHAKES_PER_ADDRESS, UNPROVEN_HANDSHAKES),
            proven: Admission::new(HANDSHAKES_PER_ADDRESS, HANDSHAKES),
            logged: Mutex::default(),
        }
    }

    /// Takes `caller` in, or answers it without keeping anything of it: then there is nothing to be done here.
    pub(crate) fn admit(&self, caller: quinn::Incoming) -> Option<(quinn::Incoming, Permit<IpAddr>)> {
        let network = network_of(caller.remote_address().ip());
        let proven = caller.remote_address_validated();
        let places = if proven { &self.proven } else { &self.unproven };
        if let Some(permit) = places.admit(network) {
            return Some((caller, permit));
        }
        if proven {
            self.log("more handshakes in progress than there are places; callers have to try again");
            // QUIC sends its first packet again, and may find a place then.
            caller.ignore();
        } else {
            self.log("many handshakes in progress; callers have to prove their addresses");
            // An error says that it brought a token, which it did not.
            let _ = caller.retry();
        }
        None
    }

    fn log(&self, what: &str) {
        // The time of the last line is whole whatever happened to who wrote it.
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|last| last.elapsed() >= LOG_INTERVAL) {
            *logged = Some(Instant::now());
            tracing::warn!("{what}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};
    use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

    use suf_wire::Role;
    use tokio::sync::mpsc;

    use super::*;
    use crate::{Connection, Endpoint, Identity, LinkProfile, Pki};

    /// Type bits of a packet with a long header (RFC 9000, section 17.2).
    const TYPE: u8 = 0x30;
    const RETRY: u8 = 0x30;

    struct World {
        _folder: tempfile::TempDir,
        listener: Arc<Endpoint>,
        addr: SocketAddr,
        admitted: mpsc::UnboundedReceiver<Connection>,
        identity: Identity,
        profile: LinkProfile,
    }

    impl World {
        /// A listener that admits party 0, with so many lanes.
        fn start(lanes: u8) -> Self {
            let folder = tempfile::TempDir::new().expect("a folder");
            Pki::create(folder.path(), &BTreeMap::new()).expect("an authority");
            let identity = |role: Role| Identity::load_from(folder.path(), role.name()).expect("an identity");
            // The delay gives handshakes 16 s, so that a slow machine does not end them meanwhile.
            let loopback = LinkProfile::built_in("loopback").expect("a profile");
            let profile = LinkProfile { lanes, delay_ms: 500.0, ..loopback };
            let any = (Ipv4Addr::LOCALHOST, 0).into();
            let listener = Endpoint::bind(any, &identity(Role::Party1), &profile, false).expect("binds");
            let listener = Arc::new(listener);
            let addr = listener.local_addr().expect("bound");
            let (admit, admitted) = mpsc::unbounded_channel();
            let there = Arc::clone(&listener);
            tokio::spawn(async move {
                while let Some(incoming) = there.incoming().await {
                    let admit = admit.clone();
                    tokio::spawn(async move {
                        if let Ok(Some(connection)) = incoming.establish(&[Role::Party0]).await {
                            // The receiver is gone when the test is over.
                            let _ = admit.send(connection);
                        }
                    });
                }
            });
            let identity = identity(Role::Party0);
            Self { _folder: folder, listener, addr, admitted, identity, profile }
        }

        fn caller(&self, address: Ipv4Addr) -> Endpoint {
            Endpoint::bind((address, 0).into(), &self.identity, &self.profile, false).expect("binds")
        }

        /// First packets of so many callers, each with its connection id. A few at a time: more than the socket holds would be lost,
        /// and callers that have given up send no others.
        async fn first_packets(&self, callers: usize) -> Vec<Vec<u8>> {
            const AT_ONCE: usize = 20;
            let sink = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("binds");
            let addr = sink.local_addr().expect("bound");
            let caller = Arc::new(self.caller(Ipv4Addr::LOCALHOST));
            let lanes = self.profile.lanes;
            let mut packets = HashMap::new();
            let mut packet = vec![0; 1 << 16];
            while packets.len() < callers {
                let wanted = callers.min(packets.len() + AT_ONCE);
                let calls: Vec<_> = (packets.len()..wanted)
                    .map(|call| {
                        let (caller, lane) = (Arc::clone(&caller), call as u8 % lanes);
                        tokio::spawn(async move {
                            caller.call_lane(addr, "party1", Role::Party1, lane).await.map(drop)
                        })
                    })
                    .collect();
                while packets.len() < wanted {
                    let bytes = sink.recv(&mut packet).await.expect("receives");
                    packets.entry(packet[6..14].to_vec()).or_insert_with(|| packet[..bytes].to_vec());
                }
                calls.iter().for_each(tokio::task::JoinHandle::abort);
            }
            packets.into_values().collect()
        }

        fn open(&self) -> usize {
            self.listener.sockets.iter().map(|socket| socket.quic.open_connections()).sum()
        }
    }

    /// Address `number` of loopback; those below 50 are the peer's own.
    fn forged(number: usize) -> Ipv4Addr {
        if number < 50 {
            return Ipv4Addr::LOCALHOST;
        }
        Ipv4Addr::new(127, 1, (number / 250) as u8, 1 + (number % 250) as u8)
    }

    /// With one lane and with several: a caller that has to prove its address comes back to the socket of its lane.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_flood_from_many_addresses_holds_few_places_and_the_peer_connects() {
        for lanes in [1, 3] {
            let mut world = World::start(lanes);
            let flood = world.first_packets(300).await;
            let sources: Vec<_> = (0..flood.len())
                .map(|number| UdpSocket::bind((forged(number), 0)).expect("an address of loopback"))
                .collect();
            let answers = tokio::task::spawn_blocking(move || {
                let answer = |(source, packet): (&UdpSocket, &Vec<u8>)| {
                    let mut answer = [0; 1 << 12];
                    source.send_to(packet, world.addr).expect("sends");
                    source.recv(&mut answer).expect("an answer");
                    answer[0] & TYPE
                };
                let answers: Vec<_> = sources.iter().zip(&flood).map(answer).collect();
                (answers, sources, world)
            });
            let (answers, _sources, there) = answers.await.expect("no panic");
            world = there;
            let retries = answers.iter().filter(|answer| **answer == RETRY).count();
            assert_eq!(retries, answers.len() - UNPROVEN_HANDSHAKES, "the others must prove their addresses");
            assert_eq!(world.open(), UNPROVEN_HANDSHAKES, "what is held for the flood");

            let caller = world.caller(Ipv4Addr::LOCALHOST);
            let calling = caller.connect(world.addr, "party1", Role::Party1).await.expect("in a flood");
            let called = world.admitted.recv().await.expect("the listener lives");
            assert_eq!((calling.lanes(), called.lanes()), (lanes.into(), lanes.into()));
        }
    }

    #[tokio::test]
    async fn one_address_cannot_take_all_handshakes() {
        let world = World::start(1);
        let greedy = world.caller(Ipv4Addr::LOCALHOST);
        let call = || greedy.call_lane(world.addr, "party1", Role::Party1, 0);
        // They never say what they call for, so that each holds its place.
        let mut held = Vec::new();
        for _ in 0..UNPROVEN_HANDSHAKES + HANDSHAKES_PER_ADDRESS {
            held.push(call().await.expect("there is a place"));
        }
        let mut one_more = std::pin::pin!(call());
        let modest = world.caller(Ipv4Addr::new(127, 0, 0, 2));
        tokio::select! {
            biased;
            taken = &mut one_more => panic!("a handshake beyond the limit was taken: {taken:?}"),
            connected = modest.connect(world.addr, "party1", Role::Party1) => {
                connected.expect("another address has its own places");
            }
        }
        // A place that is free again is given again.
        held.clear();
        one_more.await.expect("there is a place");
    }
}
