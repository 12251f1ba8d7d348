//! Two endpoints on loopback: messages, the meter, bulk, and the ends that a connection can come to.

use std::time::Duration;

use crate::common::{Pair, pair};
use suf_link::{Channel, LinkError, LinkProfile};
use suf_wire::{
    BatchId, Causal, DataFrame, DealerMessage, Fault, KeyPart, NodeId, Part, Party, PeerMessage, Reason,
    Role, RunId, WireError,
};

/// Loopback over one lane; `lanes.rs` has several.
pub(crate) fn loopback() -> LinkProfile {
    LinkProfile { lanes: 1, ..LinkProfile::built_in("loopback").expect("a built-in profile") }
}

/// A channel from the caller, greeted on both sides.
pub(crate) async fn channels(pair: &Pair) -> (Channel<PeerMessage>, Channel<PeerMessage>) {
    let mut calling = pair.calling.open().await.expect("opens");
    let accepted = async {
        let mut called = pair.called.accept::<PeerMessage>().await.expect("accepts");
        let software = called.greet(Role::Party1, "listener").await.expect("greets");
        assert_eq!(software, "caller");
        called
    };
    let (software, called) = tokio::join!(calling.greet(Role::Party0, "caller"), accepted);
    assert_eq!(software.expect("greets"), "listener");
    (calling, called)
}

fn frame(node: u16, step: u8, tile: u32, bits: u64) -> DataFrame {
    let bytes = vec![0x5a; bits.div_ceil(8) as usize];
    DataFrame::new(Part::new(NodeId(node), tile), step, bits, bytes.into())
}

pub(crate) async fn receive(channel: &mut Channel<PeerMessage>, bytes: usize) -> DataFrame {
    match channel.receiver.recv(|_| Some(bytes)).await.expect("a frame") {
        PeerMessage::Frame(frame) => frame,
        other => panic!("{other:?} is no frame"),
    }
}

#[tokio::test]
async fn the_meter_counts_bits_and_causal_depth() {
    let pair = pair(&loopback(), false).await;
    let (mut calling, mut called) = channels(&pair).await;

    // An input's opening, both ways, then three rounds over two tiles: 1 + 12 bits, 3 bits, 48 bits for 9 elements.
    for channel in [&mut calling, &mut called] {
        channel.sender.send_frame(frame(0, 0, 0, 432), Causal::START).await.expect("sends");
    }
    assert_eq!(receive(&mut calling, 54).await, receive(&mut called, 54).await);
    let mut after = [Causal::START; 2];
    for (step, bits) in [(0, 117), (1, 27), (2, 432)] {
        let before = after;
        for (index, tile) in [(0, 0), (1, 1)] {
            for channel in [&mut calling, &mut called] {
                channel.sender.send_frame(frame(3, step, tile, bits), before[index]).await.expect("sends");
            }
        }
        for index in 0..2 {
            let bytes = bits.div_ceil(8) as usize;
            let here = receive(&mut calling, bytes).await;
            assert_eq!(here, receive(&mut called, bytes).await);
            let depth = u16::from(step) + 1;
            assert_eq!((here.step, here.part.tile, here.depth.depth()), (step, index as u32, depth));
            after[index] = before[index].join(here.depth);
        }
    }

    let nodes = calling.meter().nodes();
    assert_eq!(nodes, called.meter().nodes());
    let [(input, opening), (gate, exchanges)] = nodes[..] else { panic!("{nodes:?}") };
    assert_eq!((input, gate), (NodeId(0), NodeId(3)), "nothing was counted of the nodes between");
    assert_eq!((opening.rounds, opening.bits_sent, opening.bits_received), (1, 432, 432));
    assert_eq!((exchanges.rounds, exchanges.bits_sent, exchanges.bits_received), (3, 2 * 576, 2 * 576));
    assert_eq!((exchanges.frames_sent, exchanges.frames_received), (6, 6));
    assert_eq!(calling.meter().total(|node| node == gate), exchanges);
    let all = calling.meter().total(|_| true);
    assert_eq!((all.rounds, all.bits_sent, all.frames_received), (3, 2 * 576 + 432, 7));

    // The stack's own counters saw at least the payload.
    assert!(pair.calling.udp_stats().bytes() > 2 * all.bits_sent / 8);
}

#[tokio::test]
async fn frames_are_sent_only_where_they_are_counted() {
    let pair = pair(&loopback(), false).await;
    let (mut calling, _called) = channels(&pair).await;
    let uncounted = calling.sender.send(&PeerMessage::Frame(frame(0, 0, 0, 8))).await;
    assert!(matches!(uncounted, Err(LinkError::Bug(_))), "{uncounted:?}");
}

#[tokio::test]
async fn a_payload_of_another_length_ends_the_connection_and_names_the_peer() {
    let pair = pair(&loopback(), false).await;
    let (mut calling, mut called) = channels(&pair).await;
    calling.sender.send_frame(frame(0, 1, 2, 800), Causal::START).await.expect("sends");
    let error = called.receiver.recv(|head| (head.step == 1).then_some(99)).await.expect_err("99 is not 100");
    assert_eq!(error.fault(), Fault::Peer);
    let LinkError::Message { remote, source, .. } = error else { panic!("{error:?}") };
    assert!(remote.starts_with("party0 at "), "{remote}");
    assert_eq!(source, WireError::Length { field: "data frame", expected: 99, got: 100 });
    let told = calling.receiver.recv(|_| None).await.expect_err("the connection is closed");
    assert!(told.to_string().contains("data frame: 100 bytes, 99 expected"), "{told}");
}

#[tokio::test]
async fn receiving_may_be_interrupted_anywhere() {
    let pair = pair(&loopback(), false).await;
    let (mut calling, called) = channels(&pair).await;
    let (_sender, mut receiver) = called.split();
    let sending = tokio::spawn(async move {
        for tile in 0..200 {
            calling.sender.send_frame(frame(0, 0, tile, 40_000), Causal::START).await.expect("sends");
            tokio::task::yield_now().await;
        }
        calling
    });
    for tile in 0..200 {
        let message = loop {
            // Drops the receiving future at whatever point it has reached.
            tokio::select! {
                biased;
                message = receiver.recv(|_| Some(5000)) => break message.expect("a frame"),
                () = tokio::task::yield_now() => {}
            }
        };
        assert!(matches!(&message, PeerMessage::Frame(frame) if frame.part.tile == tile), "{message:?}");
    }
    sending.await.expect("the sender lives");
}

#[tokio::test]
async fn a_hundred_megabytes_arrive_whole() {
    const KEYS: u32 = 25;
    const BYTES: usize = 4 << 20;
    let pair = pair(&loopback(), false).await;
    let (batch, party) = (BatchId([7; 16]), Party::P1);
    let part = |tile| Part::new(NodeId(1), tile);
    let mut sender = pair.calling.open::<DealerMessage>().await.expect("opens").sender;
    let sending = tokio::spawn(async move {
        for index in 0..KEYS {
            let bytes: Vec<u8> =
                (0..BYTES).map(|at| (at as u32 ^ index.wrapping_mul(0x9e37)) as u8).collect();
            let key = KeyPart::new(batch, party, part(index), bytes.into());
            sender.send(&DealerMessage::Key(key)).await.expect("sends");
        }
        sender.send(&DealerMessage::End { batch }).await.expect("sends");
        sender.finish();
        sender.flushed().await;
    });
    let mut receiver = pair.called.accept::<DealerMessage>().await.expect("accepts").receiver;
    for index in 0..KEYS {
        match receiver.recv(|head| (head.part == part(index)).then_some(BYTES)).await.expect("a key") {
            DealerMessage::Key(key) => assert!(key.is_intact(batch, party), "key {index}"),
            other => panic!("{other:?} is no key"),
        }
    }
    assert_eq!(receiver.recv(|_| None).await.expect("the end"), DealerMessage::End { batch });
    let ended = receiver.recv(|_| None).await.expect_err("nothing follows");
    assert!(matches!(ended, LinkError::Ended { .. }), "{ended:?}");
    sending.await.expect("the sender lives");
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_the_writer() {
    let pair = pair(&loopback(), false).await;
    let (mut calling, _called) = channels(&pair).await;
    let settings = pair.caller.settings();
    let bits = 8 << 20;
    let room = settings.send_window_bytes + settings.stream_receive_window_bytes;
    let frames = room / (bits / 8) + 2;
    let flood = async {
        for tile in 0..frames {
            calling.sender.send_frame(frame(0, 0, tile as u32, bits), Causal::START).await.expect("sends");
        }
    };
    let held = tokio::time::timeout(Duration::from_secs(1), flood).await;
    assert!(held.is_err(), "{frames} MB were taken though nobody reads");
}

#[tokio::test]
async fn a_closed_connection_says_why() {
    let pair = pair(&loopback(), false).await;
    let (mut calling, mut called) = channels(&pair).await;
    let abort =
        PeerMessage::Abort { run: RunId([1; 16]), fault: Fault::Device, reason: Reason::new("no memory") };
    called.sender.send(&abort).await.expect("sends");
    assert_eq!(calling.receiver.recv(|_| None).await.expect("the abort"), abort);
    pair.called.close("shutting down");
    let error = calling.receiver.recv(|_| None).await.expect_err("closed");
    assert!(matches!(&error, LinkError::Closed { reason, .. } if reason == "shutting down"), "{error:?}");
    assert!(matches!(pair.calling.ended(), Some(LinkError::Closed { .. })));
}

/// The peer's runtime stops at once, without a farewell, as under kill -9.
#[test]
fn a_peer_that_dies_is_noticed() {
    let here = tokio::runtime::Runtime::new().expect("a runtime");
    let there = tokio::runtime::Runtime::new().expect("a runtime");
    let folder = crate::common::authority();
    let caller = here.block_on(async { crate::common::endpoint(&folder, Role::Party0, &loopback(), false) });
    let listener =
        there.block_on(async { crate::common::endpoint(&folder, Role::Party1, &loopback(), false) });
    let addr = listener.local_addr().expect("bound");
    let called = there.spawn(async move { (listener.accept(&[Role::Party0]).await, listener) });
    let calling = here.block_on(caller.connect(addr, "party1", Role::Party1)).expect("calls");
    let (called, listener) = there.block_on(called).expect("is called");
    // The handles must outlive the runtime, or they would say good-bye.
    there.shutdown_background();
    let error = here.block_on(calling.closed());
    assert!(matches!(error, LinkError::Lost { .. }), "{error:?}");
    assert_eq!(error.fault(), Fault::Peer);
    drop((called, listener));
}

#[tokio::test]
async fn a_port_can_be_had_once() {
    let pair = pair(&loopback(), false).await;
    let identity = suf_link::Identity::load_from(pair.folder.path(), "dealer").expect("an identity");
    let taken = pair.listener.local_addr().expect("bound");
    let error = suf_link::Endpoint::bind(taken, &identity, &loopback(), false).expect_err("taken");
    assert!(matches!(error, LinkError::Bind { addr, .. } if addr == taken), "{error:?}");
    assert_eq!(error.fault(), Fault::Config);
}
