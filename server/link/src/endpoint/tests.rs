use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use suf_skip::{Need, skip};
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
        return skip(Need::PortFilter, "this system hands out no packets by their content");
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

/// Older ones, and what is to come.
#[tokio::test]
async fn another_version_is_named_on_both_sides() {
    assert_eq!(VERSION, 7);
    let folder = authority();
    for other in [6, 8] {
        let (theirs, ours) = (bound(&folder, Role::Party0, other), bound(&folder, Role::Party1, VERSION));
        let addr = ours.local_addr().expect("bound");
        let (calling, called) =
            tokio::join!(theirs.connect(addr, "party1", Role::Party1), ours.accept(&[Role::Party0]));
        for refused in [calling, called] {
            let error = refused.expect_err("another version");
            assert!(matches!(error, LinkError::Version { .. }), "version {other}: {error}");
            let said = error.to_string();
            assert!(said.contains("another protocol version than ours (7)"), "version {other}: {said}");
        }
    }
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

fn endpoint(folder: &tempfile::TempDir, role: Role, addr: &str) -> Option<Endpoint> {
    let identity = Identity::load_from(folder.path(), role.name()).expect("an identity");
    let profile = LinkProfile { lanes: 2, ..LinkProfile::built_in("loopback").expect("a profile") };
    Endpoint::bind(addr.parse().expect("an address"), &identity, &profile, false).ok()
}

fn caller(folder: &tempfile::TempDir) -> Endpoint {
    let identity = Identity::load_from(folder.path(), Role::Party0.name()).expect("an identity");
    let profile = LinkProfile { lanes: 2, ..LinkProfile::built_in("loopback").expect("a profile") };
    Endpoint::caller(&identity, &profile, false).expect("binds")
}

/// One caller's sockets reach listeners of either family, and a listener on `[::]` is reached over both.
#[tokio::test]
async fn a_caller_reaches_both_families() {
    let folder = authority();
    let caller = caller(&folder);
    for (listen, calls) in [
        ("127.0.0.1:0", &["127.0.0.1"][..]),
        ("[::1]:0", &["[::1]"]),
        ("[::]:0", &["127.0.0.1", "[::1]", "localhost"]),
    ] {
        let Some(listener) = endpoint(&folder, Role::Party1, listen) else {
            return skip(Need::Ipv6, "this host has no IPv6");
        };
        let port = listener.local_addr().expect("bound").port();
        for host in calls {
            let target = format!("{host}:{port}");
            let calling = caller.connect_to(&target, "party1", Role::Party1);
            let (calling, called) = tokio::join!(calling, listener.accept(&[Role::Party0]));
            let calling = calling.unwrap_or_else(|error| panic!("{target} on {listen}: {error}"));
            let called = called.unwrap_or_else(|error| panic!("{target} on {listen}: {error}"));
            // Addresses are shown as people write them, not as mapped into IPv6.
            let ipv6 = host.starts_with('[');
            assert_eq!(calling.remote().is_ipv6(), ipv6 || calling.remote().ip() == Ipv6Addr::LOCALHOST);
            assert_eq!(called.remote().is_ipv6(), calling.remote().is_ipv6(), "{}", called.remote());
        }
    }
}

/// A silent host, a port that refuses, and the right one, in either order.
#[tokio::test]
async fn every_address_of_a_name_is_tried_in_either_order() {
    let folder = authority();
    let caller = caller(&folder);
    let (Some(v4), Some(v6)) =
        (endpoint(&folder, Role::Party1, "127.0.0.1:0"), endpoint(&folder, Role::Party1, "[::1]:0"))
    else {
        return skip(Need::Ipv6, "this host has no IPv6");
    };
    let silent = |addr: &str| std::net::UdpSocket::bind(addr).expect("binds");
    let (silent_v4, silent_v6) = (silent("127.0.0.1:0"), silent("[::1]:0"));
    let silent = |socket: &std::net::UdpSocket| socket.local_addr().expect("bound");
    for (listener, silent) in [(&v4, silent(&silent_v6)), (&v6, silent(&silent_v4))] {
        let good = listener.local_addr().expect("bound");
        for addresses in [vec![silent, good], vec![good, silent]] {
            let calling = caller.connect_first("party1:7100", addresses, "party1", Role::Party1);
            let (calling, called) = tokio::join!(calling, listener.accept(&[Role::Party0]));
            assert_eq!(calling.expect("the good address is used").remote(), good);
            called.expect("is called");
        }
    }
    // An address that nobody can call fails at once, so that the other's error is waited for.
    let dealer = endpoint(&folder, Role::Dealer, "[::1]:0").expect("binds");
    let wrong = dealer.local_addr().expect("bound");
    let nobody = "127.0.0.1:0".parse().expect("an address");
    let calling = caller.connect_first("party1:7100", vec![nobody, wrong], "party1", Role::Party1);
    let (calling, _) = tokio::join!(calling, dealer.accept(&[Role::Party0]));
    let error = calling.expect_err("neither is party 1");
    let said = error.to_string();
    for part in ["party1:7100", "127.0.0.1:0: this address cannot be called", &wrong.to_string()] {
        assert!(said.contains(part), "'{part}' is missing in: {said}");
    }
    assert_eq!(error.fault(), suf_wire::Fault::Config);
}

#[tokio::test]
async fn a_wrong_address_is_not_blamed_on_certificates() {
    let folder = authority();
    let caller = caller(&folder);
    for (target, word) in [
        ("party0", "no port"),
        ("https://party0:7100", "URL"),
        ("party0:99999", "65535"),
        ("no-such-host.invalid:7100", "no-such-host.invalid"),
        ("0.0.0.0:7100", "cannot be called"),
        ("[::]:7100", "cannot be called"),
    ] {
        let error = caller.connect_to(target, "party0", Role::Party0).await.expect_err(target);
        assert!(matches!(error, LinkError::Address { .. }), "{target}: {error:?}");
        let said = error.to_string();
        assert!(said.contains(word) && !said.contains("certificate"), "{target}: {said}");
        assert_eq!(error.fault(), suf_wire::Fault::Config, "{target}");
    }
}
