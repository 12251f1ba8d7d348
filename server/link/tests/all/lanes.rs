//! Connections of several lanes: order, channels of both sides at once, and how they begin and end.

use std::time::Duration;

use suf_link::{Channel, Connection, LinkError, LinkProfile};
use suf_wire::{Causal, DataFrame, NodeId, Part, PeerMessage, Role};

use crate::channels::{channels, loopback, receive};
use crate::common::{Pair, authority, endpoint, pair};

/// A stripe of each lane is this long, and a message begins anywhere in one.
const STRIPE_BYTES: usize = 64 << 10;

pub(crate) fn several() -> LinkProfile {
    LinkProfile { lanes: 3, ..loopback() }
}

/// Frame `tile` of `bytes` bytes, each of which says where it is.
pub(crate) fn frame(tile: u32, bytes: usize) -> DataFrame {
    let payload: Vec<u8> = (0..bytes).map(|at| (at as u32).wrapping_mul(tile + 1).to_be_bytes()[2]).collect();
    DataFrame::new(Part::new(NodeId(1), tile), 0, 8 * bytes as u64, payload.into())
}

/// Sends frames of all `sizes` from `sender` to `receiver` and checks that they arrive in order and whole.
async fn carry(sender: &mut Channel<PeerMessage>, receiver: &mut Channel<PeerMessage>, sizes: &[usize]) {
    let tiles = || (0..).zip(sizes);
    let sending = async {
        for (tile, bytes) in tiles() {
            sender.sender.send_frame(frame(tile, *bytes), Causal::START).await.expect("sends");
        }
    };
    let receiving = async {
        for (tile, bytes) in tiles() {
            let wanted = frame(tile, *bytes);
            let got = receive(receiver, *bytes).await;
            assert_eq!((got.part.tile, got.payload), (tile, wanted.payload), "{bytes} bytes");
        }
    };
    tokio::join!(sending, receiving);
}

#[tokio::test]
async fn messages_of_many_sizes_keep_their_order() {
    let pair = pair(&several(), false).await;
    let (mut calling, mut called) = channels(&pair).await;
    let around = |bytes: usize| (bytes - 30)..(bytes + 5);
    let sizes: Vec<usize> = [1, 2, 100_000, 1, 1 << 20, 12].into_iter().chain(around(STRIPE_BYTES)).collect();
    carry(&mut calling, &mut called, &sizes).await;
    carry(&mut called, &mut calling, &sizes).await;
}

#[tokio::test]
async fn the_side_that_was_called_may_send_first_and_more() {
    let pair = pair(&several(), false).await;
    let (mut calling, mut called) = channels(&pair).await;
    carry(&mut called, &mut calling, &[5 * STRIPE_BYTES; 4]).await;
}

#[tokio::test]
async fn channels_of_both_sides_at_once_are_kept_apart() {
    let pair = pair(&several(), false).await;
    let many = async |opener: &Connection, acceptor: &Connection, bytes: usize| {
        let each = async |bytes: usize| {
            let mut near = opener.open().await.expect("opens");
            near.sender.send_frame(frame(0, bytes), Causal::START).await.expect("sends");
            let mut far = acceptor.accept().await.expect("accepts");
            receive_any(&mut far).await;
            (near, far)
        };
        tokio::join!(each(bytes), each(bytes + STRIPE_BYTES), each(bytes + 2 * STRIPE_BYTES));
    };
    tokio::join!(many(&pair.calling, &pair.called, 1), many(&pair.called, &pair.calling, 7));
}

/// One frame, of whatever length it says.
async fn receive_any(channel: &mut Channel<PeerMessage>) {
    let message = channel.receiver.recv(|head| Some(head.bits as usize / 8)).await.expect("a frame");
    let PeerMessage::Frame(got) = message else { panic!("{message:?} is no frame") };
    assert_eq!(got.payload, frame(0, got.payload.len()).payload);
}

#[tokio::test]
async fn receiving_may_be_interrupted_anywhere() {
    let pair = pair(&several(), false).await;
    let (mut calling, mut called) = channels(&pair).await;
    let sending = tokio::spawn(async move {
        for tile in 0..100 {
            calling.sender.send_frame(frame(tile, 40_000), Causal::START).await.expect("sends");
            tokio::task::yield_now().await;
        }
        calling
    });
    for tile in 0..100 {
        let message = loop {
            tokio::select! {
                biased;
                message = called.receiver.recv(|_| Some(40_000)) => break message.expect("a frame"),
                () = tokio::task::yield_now() => {}
            }
        };
        let PeerMessage::Frame(got) = message else { panic!("{message:?} is no frame") };
        assert_eq!((got.part.tile, got.payload), (tile, frame(tile, 40_000).payload));
    }
    sending.await.expect("the sender lives");
}

#[tokio::test]
async fn an_end_is_the_end_of_all_lanes_and_says_why() {
    let pair = pair(&several(), false).await;
    let (mut calling, mut called) = channels(&pair).await;
    carry(&mut calling, &mut called, &[100_000]).await;
    calling.sender.finish();
    let ended = called.receiver.recv(|_| None).await.expect_err("nothing follows");
    assert!(matches!(ended, LinkError::Ended { .. }), "{ended:?}");
    pair.called.close("shutting down");
    let error = pair.calling.closed().await;
    assert!(matches!(&error, LinkError::Closed { reason, .. } if reason == "shutting down"), "{error:?}");
    let error = calling.receiver.recv(|_| None).await.expect_err("closed");
    assert!(matches!(&error, LinkError::Closed { reason, .. } if reason == "shutting down"), "{error:?}");
}

#[tokio::test]
async fn a_bad_message_is_told_on_whatever_lane() {
    let pair = pair(&several(), false).await;
    let (mut calling, mut called) = channels(&pair).await;
    carry(&mut calling, &mut called, &[STRIPE_BYTES]).await;
    calling.sender.send_frame(frame(1, 100), Causal::START).await.expect("sends");
    called.receiver.recv(|_| Some(99)).await.expect_err("99 is not 100");
    let told = calling.receiver.recv(|_| None).await.expect_err("the connection is closed");
    assert!(told.to_string().contains("data frame: 100 bytes, 99 expected"), "{told}");
}

#[tokio::test]
async fn traffic_is_that_of_all_lanes() {
    let pair = pair(&several(), false).await;
    let (mut calling, mut called) = channels(&pair).await;
    let before = pair.calling.udp_stats();
    carry(&mut calling, &mut called, &[10 * STRIPE_BYTES; 3]).await;
    let moved = pair.calling.udp_stats().since(before);
    assert!(moved.bytes_sent > 30 * STRIPE_BYTES as u64, "{moved:?}");
}

/// A payload is received in memory that somebody lends, if it has the right length.
#[tokio::test]
async fn payloads_are_received_in_lent_memory() {
    let pair = pair(&several(), false).await;
    let (mut calling, mut called) = channels(&pair).await;
    for (tile, lent) in [(0, 100_000), (1, 99_999)] {
        let sent = frame(tile, 100_000);
        calling.sender.send_frame(sent.clone(), Causal::START).await.expect("sends");
        let memory = vec![0xff_u8; lent];
        let start = memory.as_ptr() as usize;
        let mut memory = Some(memory);
        let lend =
            |_: &_, _| memory.take().map(|memory| Box::new(memory) as Box<dyn suf_link::PayloadMemory>);
        let message = called.receiver.recv_into(|_| Some(100_000), lend).await.expect("a frame");
        let PeerMessage::Frame(got) = message else { panic!("{message:?} is no frame") };
        assert_eq!(got.payload, sent.payload);
        // What has another length is given up at once, and may be what is used after all.
        assert!(lent != 100_000 || got.payload.as_ptr() as usize == start);
    }
}

/// A connection that nobody holds is gone for the other side too, though a task watches its lanes.
#[tokio::test]
async fn a_connection_ends_with_its_last_holder() {
    let Pair { calling, called, folder: _folder, caller: _caller, listener: _listener } =
        pair(&several(), false).await;
    drop(called);
    let error = tokio::time::timeout(Duration::from_secs(20), calling.closed()).await.expect("ends");
    assert!(matches!(error, LinkError::Closed { .. }), "{error:?}");
}

/// Two callers with as many lanes, called in turns, do not get each other's.
#[tokio::test]
async fn lanes_find_their_connection() {
    let folder = authority();
    let listener = endpoint(&folder, Role::Party1, &several(), false);
    let addr = listener.local_addr().expect("bound");
    let callers = [(); 2].map(|()| endpoint(&folder, Role::Party0, &several(), false));
    let [first, second] = callers.each_ref().map(|caller| caller.connect(addr, "party1", Role::Party1));
    let accepting = async {
        let mut accepted = Vec::new();
        for _ in &callers {
            accepted.push(listener.accept(&[Role::Party0]).await.expect("is called"));
        }
        accepted
    };
    let (first, second, accepted) = tokio::join!(first, second, accepting);
    for (caller, calling) in callers.iter().zip([first.expect("calls"), second.expect("calls")]) {
        let from = caller.local_addr().expect("bound");
        let called = accepted.iter().find(|called| called.remote() == from).expect("is called");
        let mut near = calling.open::<PeerMessage>().await.expect("opens");
        near.sender.send_frame(frame(0, 10 * STRIPE_BYTES), Causal::START).await.expect("sends");
        receive_any(&mut called.accept().await.expect("accepts")).await;
    }
}
