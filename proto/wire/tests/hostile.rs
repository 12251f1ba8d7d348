//! What a peer that lies can send: cut, flipped, overlong and unasked-for messages. Each ends as a typed error or as
//! another valid message, never as a panic or an allocation that the agreed parameters do not give.

use bytes::Bytes;
use proptest::prelude::*;
use suf_wire::limits::{MAX_CHUNKS, MAX_ELEMS, MAX_GATE_BYTES, MAX_KEY_CHUNK_BYTES};
use suf_wire::{
    Accept, BatchId, Causal, DataFrame, DealerMessage, Digest, Fault, Finished, Header, Hello, KeyChunk,
    KeyRequest, Message, PREFIX_BYTES, Party, PeerMessage, Prefix, Propose, Reason, Role, RunId, Seed,
    Segments, Transcript, WireError, decode_frame,
};

fn encoded<M: Message>(message: &M) -> Vec<u8> {
    let encoded = message.encode().expect("a message within its limits");
    [&encoded.head[..], &encoded.payload[..]].concat()
}

/// Every prefix of a message is an error, and every flipped byte an error or a message that encodes to itself.
fn torture<M: Message + PartialEq + std::fmt::Debug>(message: &M) {
    let bytes = encoded(message);
    for length in 0..bytes.len() {
        assert!(
            decode_frame::<M>(&bytes[..length], |_| Some(length)).is_err(),
            "{message:?} cut at {length}"
        );
    }
    let payload_bytes = message.encode().expect("encodes").payload.len();
    for index in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut flipped = bytes.clone();
            flipped[index] ^= flip;
            if let Ok(other) = decode_frame::<M>(&flipped, |_| Some(payload_bytes)) {
                assert_eq!(encoded(&other), flipped, "two encodings of {other:?}");
            }
        }
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(matches!(decode_frame::<M>(&longer, |_| Some(payload_bytes)), Err(WireError::LeftOver { .. })));
}

fn depth(rounds: u8) -> Causal {
    (0..rounds).fold(Causal::START, |causal, _| causal.next().expect("few rounds"))
}

fn id() -> impl Strategy<Value = [u8; 16]> {
    any::<[u8; 16]>()
}

fn ending() -> impl Strategy<Value = ([u8; 16], Fault, Reason)> {
    let reason = ".{0,600}".prop_map(|text| Reason::new(&text));
    (id(), prop::sample::select(&Fault::ALL[..]), reason)
}

fn peer_message() -> impl Strategy<Value = PeerMessage> {
    let hello = (any::<u16>(), prop::sample::select(&Role::ALL[..]), "[ -~]{0,64}")
        .prop_map(|(version, role, software)| PeerMessage::Hello(Hello { version, role, software }));
    let gate = prop::collection::vec(any::<u8>(), 0..200);
    let propose = (id(), id(), any::<[u8; 32]>(), gate, 1..=MAX_ELEMS, 1..=86_400_000u32).prop_map(
        |(run, batch, digest, gate, elems, deadline_ms)| {
            let (run, batch, digest) = (RunId(run), BatchId(batch), Digest(digest));
            PeerMessage::Propose(Propose { run, batch, digest, gate: gate.into(), elems, deadline_ms })
        },
    );
    let accept = (id(), id(), any::<[u8; 32]>(), 1..=MAX_ELEMS).prop_map(|(run, batch, digest, elems)| {
        PeerMessage::Accept(Accept { run: RunId(run), digest: Digest(digest), batch: BatchId(batch), elems })
    });
    let refuse =
        ending().prop_map(|(run, fault, reason)| PeerMessage::Refuse { run: RunId(run), fault, reason });
    let abort =
        ending().prop_map(|(run, fault, reason)| PeerMessage::Abort { run: RunId(run), fault, reason });
    let ready =
        (id(), any::<[u8; 32]>()).prop_map(|(run, common)| PeerMessage::Ready { run: RunId(run), common });
    let frame = (any::<u8>(), 1..=254u8, 0..MAX_CHUNKS, prop::collection::vec(any::<u8>(), 1..300)).prop_map(
        |(step, rounds, chunk, payload)| {
            let bits = payload.len() as u64 * 8 - 3;
            PeerMessage::Frame(DataFrame { step, depth: depth(rounds), chunk, bits, payload: payload.into() })
        },
    );
    let finished = (id(), any::<u8>(), any::<u64>(), any::<u64>(), any::<[u8; 32]>()).prop_map(
        |(run, rounds, bits_sent, bits_received, transcript)| {
            PeerMessage::Finished(Finished { run: RunId(run), rounds, bits_sent, bits_received, transcript })
        },
    );
    prop_oneof![hello, propose, accept, refuse, abort, ready, frame, finished]
}

fn dealer_message() -> impl Strategy<Value = DealerMessage> {
    let gate = prop::collection::vec(any::<u8>(), 0..200);
    let request = (id(), any::<[u8; 32]>(), prop::sample::select(&Party::BOTH[..]), 1..=MAX_ELEMS, gate)
        .prop_map(|(batch, digest, party, elems, gate)| {
            let (batch, digest) = (BatchId(batch), Digest(digest));
            DealerMessage::Request(KeyRequest { batch, digest, party, elems, gate: gate.into() })
        });
    let refuse = ending().prop_map(|(batch, fault, reason)| DealerMessage::Refuse {
        batch: BatchId(batch),
        fault,
        reason,
    });
    let abort = ending().prop_map(|(batch, fault, reason)| DealerMessage::Abort {
        batch: BatchId(batch),
        fault,
        reason,
    });
    let header = (id(), any::<[u8; 32]>(), 1..=MAX_ELEMS, any::<[u8; 32]>()).prop_map(
        |(batch, digest, elems, seed)| {
            let (batch, digest, chunks) = (BatchId(batch), Digest(digest), Header::chunks_of(elems));
            DealerMessage::Header(Header { batch, digest, elems, chunks, seed: Seed::new(seed) })
        },
    );
    let chunk = (id(), 0..MAX_CHUNKS, prop::collection::vec(any::<u8>(), 0..300)).prop_map(
        |(batch, index, bytes)| {
            DealerMessage::Chunk(KeyChunk::new(BatchId(batch), Party::P0, index, bytes.into()))
        },
    );
    let end = id().prop_map(|batch| DealerMessage::End { batch: BatchId(batch) });
    let stored = id().prop_map(|batch| DealerMessage::Stored { batch: BatchId(batch) });
    prop_oneof![request, refuse, abort, header, chunk, end, stored]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn peer_messages_survive(message in peer_message()) {
        let payload_bytes = message.encode().expect("within limits").payload.len();
        let decoded = decode_frame::<PeerMessage>(&encoded(&message), |_| Some(payload_bytes));
        prop_assert_eq!(decoded, Ok(message.clone()));
        torture(&message);
    }

    #[test]
    fn dealer_messages_survive(message in dealer_message()) {
        let payload_bytes = message.encode().expect("within limits").payload.len();
        let decoded = decode_frame::<DealerMessage>(&encoded(&message), |_| Some(payload_bytes));
        prop_assert_eq!(decoded, Ok(message.clone()));
        torture(&message);
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400), expected in 0..400usize) {
        let _ = decode_frame::<PeerMessage>(&bytes, |_| Some(expected));
        let _ = decode_frame::<DealerMessage>(&bytes, |_| Some(expected));
        for kind in 0..=u8::MAX {
            let _ = PeerMessage::decode_body(kind, &bytes);
            let _ = DealerMessage::decode_body(kind, &bytes);
            let _ = PeerMessage::decode_head(kind, &bytes);
            let _ = DealerMessage::decode_head(kind, &bytes);
        }
    }
}

#[test]
fn lengths_over_their_limits_end_at_the_prefix() {
    let prefix = |length: u32, kind: u8| {
        let mut bytes = [0; PREFIX_BYTES];
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes[4] = kind;
        bytes
    };
    for kind in 0..=u8::MAX {
        assert!(Prefix::decode::<PeerMessage>(prefix(u32::MAX, kind)).is_err());
        assert!(Prefix::decode::<DealerMessage>(prefix(u32::MAX, kind)).is_err());
        assert!(Prefix::decode::<PeerMessage>(prefix(0, kind)).is_err());
    }
    let most = (MAX_KEY_CHUNK_BYTES + 20 + 1) as u32;
    assert!(Prefix::decode::<DealerMessage>(prefix(most, 0x44)).is_ok());
    assert!(Prefix::decode::<DealerMessage>(prefix(most + 1, 0x44)).is_err());
}

#[test]
fn payloads_must_have_the_agreed_length() {
    let frame = PeerMessage::Frame(DataFrame {
        step: 2,
        depth: depth(1),
        chunk: 5,
        bits: 24,
        payload: Bytes::from_static(&[1, 2, 3]),
    });
    let bytes = encoded(&frame);
    assert_eq!(
        decode_frame::<PeerMessage>(&bytes, |_| Some(4)),
        Err(WireError::Length { field: "data frame", expected: 4, got: 3 })
    );
    assert_eq!(
        decode_frame::<PeerMessage>(&bytes, |_| None),
        Err(WireError::Unexpected { field: "data frame", step: 2, chunk: 5 })
    );
}

#[test]
fn a_frame_cannot_hide_bits_from_the_count() {
    let frame = |bits, bytes| {
        let payload = vec![0; bytes].into();
        PeerMessage::Frame(DataFrame { step: 0, depth: depth(1), chunk: 0, bits, payload })
    };
    assert!(frame(0, 1).encode().is_err());
    assert!(frame(9, 1).encode().is_err());
    assert!(frame(8, 1).encode().is_ok());
    assert!(frame(64, 8 + 64).encode().is_ok());
    assert!(frame(64, 8 + 65).encode().is_err());
    assert!(frame(u64::MAX, 8).encode().is_err());
}

#[test]
fn texts_are_plain() {
    let reason = Reason::new("\x1b[31mred\nline");
    assert_eq!(reason.as_str(), " [31mred line");
    assert!(Reason::new(&"ä".repeat(400)).as_str().len() <= 512);
    let mut bytes = encoded(&PeerMessage::Abort { run: RunId([0; 16]), fault: Fault::Peer, reason });
    let last = bytes.len() - 1;
    bytes[last] = 0x07;
    assert_eq!(decode_frame::<PeerMessage>(&bytes, |_| None), Err(WireError::Text { field: "reason" }));
}

#[test]
fn over_limit_messages_are_not_sent() {
    let propose = |elems, gate_bytes| {
        let gate = vec![0; gate_bytes].into();
        let (run, batch, digest) = (RunId([0; 16]), BatchId([0; 16]), Digest([0; 32]));
        PeerMessage::Propose(Propose { run, batch, digest, gate, elems, deadline_ms: 1 }).encode()
    };
    assert!(propose(1, MAX_GATE_BYTES).is_ok());
    assert!(propose(1, MAX_GATE_BYTES + 1).is_err());
    assert!(propose(0, 1).is_err());
    assert!(propose(MAX_ELEMS + 1, 1).is_err());
}

#[test]
fn depth_saturates_as_an_error() {
    assert_eq!(depth(254).depth(), 254);
    assert!(depth(254).next().is_err());
    assert_eq!(depth(2).join(depth(3)), depth(3));
}

#[test]
fn identifiers_read_what_they_print() {
    let batch = BatchId([0xa1; 16]);
    assert_eq!(batch.to_string().parse(), Ok(batch));
    assert!("a1".parse::<RunId>().is_err());
    assert!("+1".repeat(16).parse::<RunId>().is_err());
    assert_eq!(format!("{batch:?}"), "BatchId(a1a1a1a1..)");
}

#[test]
fn segments_know_their_padding() {
    let segments = Segments::new(&[1, 12, 48], 3).expect("a shape");
    assert_eq!((segments.bits(), segments.bytes()), (3 * 61, 1 + 5 + 18));
    assert_eq!(segments.ranges().collect::<Vec<_>>(), [0..1, 1..6, 6..24]);
    let mut payload = vec![0; 24];
    payload[0] = 0b111;
    payload[5] = 0x0f;
    payload[23] = 0xff;
    assert_eq!(segments.check(&payload), Ok(()));
    payload[5] = 0x10;
    assert_eq!(segments.check(&payload), Err(WireError::Padding { field: "payload" }));
    assert!(segments.check(&payload[..23]).is_err());
    assert!(Segments::new(&[0], 3).is_err());
    assert!(Segments::new(&[65], 3).is_err());
    assert!(Segments::new(&[1], 65_537).is_err());
    assert!(Segments::new(&[1], 0).is_err());
}

#[test]
fn secrets_print_their_length() {
    let header = Header {
        batch: BatchId([0; 16]),
        digest: Digest([0; 32]),
        elems: 1,
        chunks: 1,
        seed: Seed::new([0x5a; 32]),
    };
    let printed = format!("{header:?}");
    assert!(printed.contains("Seed(32 bytes)") && !printed.contains("90") && !printed.contains("5a"));
    let chunk = KeyChunk::new(BatchId([0; 16]), Party::P0, 0, Bytes::from_static(&[0x5a; 7]));
    assert_eq!(format!("{chunk:?}"), "KeyChunk { index: 0, bytes: 7 }");
}

/// What waits to be hashed is no different from what was: neither its bytes nor when the hash is asked for.
#[test]
fn a_transcript_sees_every_byte_however_late_it_is_hashed() {
    const FRAMES: u8 = 18;
    let hash = |changed: Option<u8>, asked_after: Option<u8>| {
        let mut transcript = Transcript::new(RunId([1; 16]), Digest([2; 32]));
        for step in 0..FRAMES {
            let mut payload = vec![step; 1 << 20];
            payload[77] ^= u8::from(changed == Some(step));
            let frame = DataFrame::new(step, 0, 8 << 20, payload.into());
            transcript.absorb(Party::P0, &DataFrame { depth: depth(1), ..frame });
            if asked_after == Some(step) {
                transcript.digest();
            }
        }
        transcript.digest()
    };
    let plain = hash(None, None);
    for step in [0, FRAMES / 2, FRAMES - 1] {
        assert_eq!(hash(None, Some(step)), plain);
        assert_ne!(hash(Some(step), None), plain);
    }
}
