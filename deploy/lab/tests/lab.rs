//! Labs that come up, are what they say, and leave nothing behind. Where this machine's kernel has no netem, the test runs
//! itself again in a user-mode kernel; where there is none, it skips.

use std::{
    env,
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    path::Path,
};

use suf_lab::{Host, Lab, LabError, LabPlan, NamedProfile, Network, check_kernel, list, uml};
use suf_link::LinkProfile;
use suf_skip::{Need, skip};

/// A link that the slowest kernel carries.
fn plan() -> LabPlan {
    let profile = |delay_ms: f64| {
        let text = format!("rate_bps = 100_000_000\ndelay_ms = {delay_ms}\nlimit_packets = 1000\nmtu = 1500");
        NamedProfile { name: "test".into(), profile: LinkProfile::parse("test", &text).expect("a profile") }
    };
    LabPlan { peer: profile(10.0), dealer: profile(5.0) }
}

#[test]
fn labs() {
    match check_kernel() {
        Ok(()) => inside(),
        Err(why) => match uml::instead_of_host(why) {
            Ok(why) => {
                eprintln!("in a user-mode kernel: {why}");
                let command =
                    [env::current_exe().expect("our path").into(), "--nocapture".into(), "labs".into()];
                assert_eq!(uml::run(&command).expect("the kernel runs"), 0);
            }
            Err(why) => skip(Need::Namespaces, format!("no lab was tested: {why}")),
        },
    }
}

fn inside() {
    links_are_what_the_plan_says();
    hosts_reach_one_another();
    what_cannot_be_is_refused();
    what_was_left_goes_with_the_next();
    assert!(list().expect("readable").is_empty());
    assert_eq!(namespaces(), 0);
}

fn links_are_what_the_plan_says() {
    let mut lab = Lab::up(plan()).expect("a lab");
    let measured = lab.measure().expect("measured");
    assert_eq!(measured.len(), 4);
    for link in &measured {
        eprintln!("{link:?}");
    }
    let counters = lab.counters(Host::Party0, Network::Peer).expect("counted");
    assert!(counters.bytes > 1_000_000 && counters.drops == 0, "{counters:?}");
    let mut changed = plan();
    changed.peer.profile.delay_ms = 30.0;
    lab.reshape(changed).expect("reshaped");
    let link = lab.measure().expect("measured")[0].clone();
    assert!((60.0..63.0).contains(&(link.rtt_ms - link.own_ms)), "{link:?}");
}

fn hosts_reach_one_another() {
    let lab = Lab::up(plan()).expect("a lab");
    let here = |host: Host, network: Network| (host.address(network), 0);
    lab.enter(Host::Dealer).expect("entered");
    let listener = TcpListener::bind(here(Host::Dealer, Network::Keys)).expect("bound");
    lab.enter(Host::Party1).expect("entered");
    let mut called = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    let (mut answered, from) = listener.accept().expect("accepted");
    assert_eq!(from.ip(), Host::Party1.address(Network::Keys));
    called.write_all(b"keys").expect("written");
    let mut got = [0; 4];
    answered.read_exact(&mut got).expect("read");
    assert_eq!(&got, b"keys");
    // A host is only on its own networks.
    assert!(UdpSocket::bind(here(Host::Dealer, Network::Keys)).is_err());
    let ran = lab.command(Host::Client, "sh").args(["-c", "echo $SUF_LAB_CLIENT"]).output().expect("runs");
    assert_eq!(String::from_utf8_lossy(&ran.stdout).trim(), lab.namespace(Host::Client));
}

fn what_cannot_be_is_refused() {
    let mut short = plan();
    short.peer.profile.limit_packets = 32;
    short.peer.profile.delay_ms = 50.0;
    // A queue of 32 packets cannot hold 50 ms of 100 Mbit/s.
    let refused = Lab::up(short).expect("a lab").measure().expect_err("refused");
    assert!(matches!(refused, LabError::Off { .. } | LabError::Dropped { .. }), "{refused}");
}

fn what_was_left_goes_with_the_next() {
    let left = Lab::up(plan()).expect("a lab");
    let name = left.name().to_owned();
    let mut sleeper = left.command(Host::Client, "sleep").arg("1000").spawn().expect("spawned");
    // As a kill would: nothing is dropped. The lock goes with the process; here, with its file's descriptor.
    std::mem::forget(left);
    assert!(Path::new("/run/suf-lab").join(format!("{name}.owned")).exists());
    let kept = Lab::up(plan()).expect("a lab").keep().expect("kept");
    assert_eq!(list().expect("readable").len(), 2, "what is locked stays");
    Lab::down(&kept).expect("taken down");
    Lab::down(&name).expect("taken down");
    assert!(!sleeper.wait().expect("ended").success(), "what ran in it is gone");
    assert!(matches!(Lab::down(&name), Err(LabError::Unknown(_))));
}

fn namespaces() -> usize {
    let entries = std::fs::read_dir("/run/netns").expect("ip has made it").flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("suf-")).count()
}
