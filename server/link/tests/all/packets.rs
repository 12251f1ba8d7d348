//! Packet sizes: jumbo frames where the way carries them, common ones where it does not.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use suf_link::Connection;
use suf_wire::{Causal, DataFrame, NodeId, Part, Role};

use crate::channels::{channels, loopback, receive};
use crate::common::{ANY_PORT, Pair, authority, endpoint, pair};

/// UDP payload in a packet of 1500 bytes over IPv4.
const COMMON_PAYLOAD_BYTES: usize = 1472;

/// A hundred round trips and more.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn large_packets_go_in_bursts_that_the_kernel_takes() {
    let pair = pair(&loopback(), false).await;
    let wanted = pair.caller.settings().udp_payload_bytes;
    until(&pair.calling, |mtu| mtu == wanted).await;
    send_megabytes(&pair).await;
    assert_eq!(pair.calling.path().mtu, wanted);
}

#[tokio::test]
async fn a_way_that_carries_common_packets_alone_is_used_with_those() {
    let folder = authority();
    let caller = endpoint(&folder, Role::Party0, &loopback(), false);
    let listener = endpoint(&folder, Role::Party1, &loopback(), false);
    let narrow = narrow_way_to(listener.local_addr().expect("bound"));
    let (calling, called) =
        tokio::join!(caller.connect(narrow, "party1", Role::Party1), listener.accept(&[Role::Party0]));
    let (calling, called) = (calling.expect("calls"), called.expect("is called"));
    let pair = Pair { folder, caller, listener, calling, called };
    send_megabytes(&pair).await;
    let mtu = usize::from(pair.calling.path().mtu);
    assert!((1200..=COMMON_PAYLOAD_BYTES).contains(&mtu), "packets of {mtu} bytes do not get through");
}

async fn send_megabytes(pair: &Pair) {
    let (mut calling, mut called) = channels(pair).await;
    for tile in 0..32 {
        let bits = 8 << 20;
        let payload = Bytes::from(vec![0; bits / 8]);
        let sent = DataFrame::new(Part::new(NodeId(1), tile), 0, bits as u64, payload);
        let (sent, received) =
            tokio::join!(calling.sender.send_frame(sent, Causal::START), receive(&mut called, bits / 8));
        sent.expect("sends");
        assert_eq!(received.part.tile, tile);
    }
}

/// Waits until the packet size of `connection` is as wanted: it is found out by probes, which nobody is told of.
async fn until(connection: &Connection, wanted: impl Fn(u16) -> bool) {
    let found = async {
        while !wanted(connection.path().mtu) {
            tokio::task::yield_now().await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    assert!(found.is_ok(), "packets have {} bytes", connection.path().mtu);
}

/// The address of a relay to `target` and back that swallows datagrams of more than [`COMMON_PAYLOAD_BYTES`], as a way with
/// common packets does. Its threads end with the process.
fn narrow_way_to(target: SocketAddr) -> SocketAddr {
    let [front, back] = [(); 2].map(|()| Arc::new(UdpSocket::bind(ANY_PORT).expect("a socket")));
    back.connect(target).expect("an address of this machine");
    let address = front.local_addr().expect("bound");
    let caller = Arc::new(OnceLock::new());
    let (there, from_there) = ((front.clone(), back.clone(), caller.clone()), (front, back, caller));
    thread::spawn(move || {
        let (front, back, caller) = there;
        pass(
            |datagram| {
                let (bytes, from) = front.recv_from(datagram)?;
                caller.get_or_init(|| from);
                Ok(bytes)
            },
            |datagram| back.send(datagram),
        );
    });
    thread::spawn(move || {
        let (front, back, caller) = from_there;
        pass(
            |datagram| back.recv(datagram),
            |datagram| front.send_to(datagram, caller.get().expect("the target answers its caller")),
        );
    });
    address
}

fn pass(
    receive: impl Fn(&mut [u8]) -> std::io::Result<usize>,
    send: impl Fn(&[u8]) -> std::io::Result<usize>,
) {
    let mut datagram = vec![0; 1 << 16];
    // An error says that the other side is gone.
    while let Ok(bytes) = receive(&mut datagram) {
        if bytes <= COMMON_PAYLOAD_BYTES && send(&datagram[..bytes]).is_err() {
            return;
        }
    }
}
