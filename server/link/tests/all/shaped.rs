//! The emulated link: its delay, its rate, its losses; and the profiles.

use std::time::{Duration, Instant};

use suf_link::{Channel, LinkError, LinkKind, LinkProfile};
use suf_wire::{Causal, DataFrame, Fault, NodeId, Part, PeerMessage};

use crate::common::{Pair, pair};

/// Slow enough that two busy cores emulate it exactly.
fn profile() -> LinkProfile {
    LinkProfile {
        rate_bps: 200_000_000,
        delay_ms: 5.0,
        limit_packets: 4000,
        mtu: 1500,
        jitter_ms: 0.0,
        loss: 0.0,
        pacing: true,
        lanes: 1,
    }
}

/// Sends frames of `bytes` to and fro, `rounds` times, and checks each. Gives the least time of a round trip, because
/// other processes on the cores are no property of the link.
async fn ping_pong(pair: &Pair, rounds: u32, bytes: usize) -> Duration {
    let mut here: Channel<PeerMessage> = pair.calling.open().await.expect("opens");
    let pattern = |round: u32| (0..bytes).map(|at| (at as u32 ^ round) as u8).collect::<Vec<_>>();
    let frame =
        |round: u32| DataFrame::new(Part::new(NodeId(1), round), 0, bytes as u64 * 8, pattern(round).into());
    let answering = async {
        let mut there: Channel<PeerMessage> = pair.called.accept().await.expect("accepts");
        for _ in 0..rounds {
            let Ok(PeerMessage::Frame(frame)) = there.receiver.recv(|_| Some(bytes)).await else {
                panic!("no frame")
            };
            there.sender.send_frame(frame, Causal::START).await.expect("sends");
        }
        there
    };
    let asking = async {
        let mut least = Duration::MAX;
        for round in 0..rounds {
            let begin = Instant::now();
            here.sender.send_frame(frame(round), Causal::START).await.expect("sends");
            let answer = here.receiver.recv(|_| Some(bytes)).await.expect("an answer");
            least = least.min(begin.elapsed());
            assert!(matches!(&answer, PeerMessage::Frame(answer) if answer.payload == pattern(round)));
        }
        least
    };
    let (_there, least) = tokio::join!(answering, asking);
    least
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delay_and_rate_are_the_profiles() {
    let pair = pair(&profile(), true).await;
    assert_eq!(pair.caller.kind(), LinkKind::Shaped);
    let small = ping_pong(&pair, 20, 100).await;
    assert!((10.0..12.0).contains(&(small.as_secs_f64() * 1e3)), "{small:?} for a delay of 2 * 5 ms");

    // 1 MB takes 42 ms at 200 Mbit/s; there and back.
    let large = ping_pong(&pair, 5, 1 << 20).await;
    let ideal_ms = 10.0 + 2.0 * 8.0 * f64::from(1 << 20) / 200e6 * 1e3;
    let measured_ms = large.as_secs_f64() * 1e3;
    assert!((ideal_ms..1.25 * ideal_ms).contains(&measured_ms), "{measured_ms} ms, ideal {ideal_ms} ms");
    assert_eq!((pair.caller.overflowed_packets(), pair.calling.path().lost_packets), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loss_and_jitter_lose_packets_and_no_byte() {
    let profile = LinkProfile { loss: 0.005, jitter_ms: 1.0, ..profile() };
    let pair = pair(&profile, true).await;
    ping_pong(&pair, 3, 1 << 20).await;
    assert!(pair.calling.path().lost_packets > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_without_pacing_delivers() {
    let pair = pair(&LinkProfile { pacing: false, ..profile() }, true).await;
    assert!(pair.calling.path().window_bytes > u64::from(u32::MAX));
    let measured_ms = ping_pong(&pair, 3, 1 << 20).await.as_secs_f64() * 1e3;
    let ideal_ms = 10.0 + 2.0 * 8.0 * f64::from(1 << 20) / 200e6 * 1e3;
    assert!((ideal_ms..1.25 * ideal_ms).contains(&measured_ms), "{measured_ms} ms, ideal {ideal_ms} ms");
    assert_eq!(pair.caller.overflowed_packets(), 0);
}

#[tokio::test]
async fn a_full_queue_drops_and_quic_mends() {
    let profile = LinkProfile { limit_packets: 100, ..profile() };
    let pair = pair(&profile, true).await;
    ping_pong(&pair, 2, 1 << 20).await;
    assert!(pair.caller.overflowed_packets() > 0);
}

#[test]
fn built_in_profiles_are_the_shipped_files() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/links");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path()).collect();
    files.sort();
    assert_eq!(files.len(), LinkProfile::BUILT_IN.len());
    for file in files {
        let name = file.file_stem().expect("a name").to_string_lossy();
        let shipped = LinkProfile::load(&file).expect("parses");
        let built_in = LinkProfile::built_in(&name).expect("is built in");
        assert!(
            (1..=shipped.lanes).contains(&built_in.lanes),
            "{name}: a host may have processors for fewer"
        );
        assert_eq!(LinkProfile { lanes: built_in.lanes, ..shipped }, built_in);
    }
}

#[test]
fn settings_follow_from_the_link() {
    let wan = LinkProfile::built_in("wan").expect("a profile").settings();
    assert_eq!(wan.congestion_window_bytes, 3_200_000);
    assert_eq!(wan.udp_payload_bytes, 1452);
    let far = LinkProfile::built_in("intercontinental").expect("a profile").settings();
    assert_eq!(far.initial_rtt, Duration::from_millis(80));
}

#[test]
fn profiles_that_no_link_has_are_refused() {
    let good = "rate_bps = 1_000_000\ndelay_ms = 1.0\nlimit_packets = 100\nmtu = 1500\n";
    LinkProfile::parse("good", good).expect("parses");
    let refused = |text: &str, words: &str| {
        let error = LinkProfile::parse("bad", text).expect_err(text);
        assert_eq!(error.fault(), Fault::Config);
        assert!(error.to_string().contains(words), "{error}");
    };
    refused(&format!("{good}speed = 1\n"), "speed");
    refused(&good.replace("1500", "1000"), "mtu");
    refused(&good.replace("1.0", "-1.0"), "delay_ms");
    refused(&good.replace("1.0", "nan"), "delay_ms");
    refused(&format!("{good}loss = 0.9\n"), "loss");
    refused(&format!("{good}jitter_ms = 2.0\n"), "jitter_ms");
    let unknown = LinkProfile::built_in("moon").expect_err("unknown");
    assert!(
        matches!(&unknown, LinkError::Profile { .. }) && unknown.to_string().contains("intercontinental")
    );
}

/// The other side of each limit is refused, with what works; `profiles_at_the_edge_of_what_is_allowed_work` runs this side.
#[test]
fn profiles_beyond_what_works_are_refused() {
    let text = |rate: u64, delay: &str, loss: &str, mtu: u32| {
        format!("rate_bps = {rate}\ndelay_ms = {delay}\nloss = {loss}\nlimit_packets = 16\nmtu = {mtu}\n")
    };
    LinkProfile::parse("edge", &text(1_000_000, "500.0", "0.1", 12_500)).expect("the last that is allowed");
    for (beyond, words) in [
        (text(999_999, "500.0", "0.1", 1500), "rate_bps = 999999; it is 1000000 to"),
        (text(1_000_000, "500.1", "0.1", 1500), "delay_ms = 500.1; it is 0 to 500"),
        (text(1_000_000, "2000.0", "0.1", 1500), "delay_ms"),
        (text(1_000_000, "500.0", "0.11", 1500), "loss = 0.11; it is 0 to 0.1"),
        (text(1_000_000, "500.0", "0.1", 12_600), "give a smaller mtu"),
    ] {
        let said = LinkProfile::parse("beyond", &beyond).expect_err(&beyond).to_string();
        assert!(said.contains(words), "'{words}' is missing in: {said}");
    }
    let settings = |text: &str| LinkProfile::parse("long", text).expect("allowed").settings();
    assert_eq!(settings(&text(1_000_000, "1.0", "0.0", 1500)).handshake_limit, Duration::from_secs(8));
    assert_eq!(settings(&text(1_000_000, "500.0", "0.0", 1500)).handshake_limit, Duration::from_secs(16));
}
