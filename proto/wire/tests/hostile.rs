//! What a peer that lies can send: cut, flipped, overlong and unasked-for messages. Each ends as a typed error or as
//! another valid message, never as a panic or an allocation that the agreed parameters do not give.

use bytes::Bytes;
use proptest::prelude::*;
use suf_wire::limits::{MAX_KEY_PART_BYTES, MAX_NODES, MAX_PARTS, MAX_PROGRAM_BYTES, MAX_TILES};
use suf_wire::{
    Accept, BatchId, Causal, DataFrame, DataHead, DealerMessage, Digest, Fault, Finished, Header, Hello,
    KeyPart, KeyPartHead, KeyRequest, LoadName, Message, NodeId, PREFIX_BYTES, Part, Party, PeerMessage,
    Prefix, Propose, Reason, Role, RunId, Seed, Segments, VERSION, WireError, decode_frame,
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

fn depth(rounds: u16) -> Causal {
    (0..rounds).fold(Causal::START, |causal, _| causal.next().expect("few rounds"))
}

fn id() -> impl Strategy<Value = [u8; 16]> {
    any::<[u8; 16]>()
}

fn part() -> impl Strategy<Value = Part> {
    (0..MAX_NODES as u16, 0..MAX_TILES).prop_map(|(node, tile)| Part::new(NodeId(node), tile))
}

fn ending() -> impl Strategy<Value = ([u8; 16], Fault, Reason)> {
    let reason = ".{0,600}".prop_map(|text| Reason::new(&text));
    (id(), prop::sample::select(&Fault::ALL[..]), reason)
}

/// A batch of a load, never of zeros.
fn load_batch() -> impl Strategy<Value = BatchId> {
    any::<[u8; 15]>().prop_map(|rest| {
        let mut batch = [1; 16];
        batch[1..].copy_from_slice(&rest);
        BatchId(batch)
    })
}

fn load() -> impl Strategy<Value = Option<LoadName>> {
    let name = (load_batch(), any::<[u8; 16]>(), prop::option::of(load_batch()));
    prop::option::of(name.prop_map(|(first, rest, batch)| {
        let mut digest = [0; 32];
        digest[..16].copy_from_slice(&first.0);
        digest[16..].copy_from_slice(&rest);
        LoadName { digest: Digest(digest), batch }
    }))
}

fn peer_message() -> impl Strategy<Value = PeerMessage> {
    let hello = (any::<u16>(), prop::sample::select(&Role::ALL[..]), "[ -~]{0,64}")
        .prop_map(|(version, role, software)| PeerMessage::Hello(Hello { version, role, software }));
    let program = prop::collection::vec(any::<u8>(), 0..200);
    let propose = (id(), id(), any::<[u8; 32]>(), load(), program, 1..=86_400_000u32).prop_map(
        |(run, batch, digest, load, program, deadline_ms)| {
            let (run, batch, digest) = (RunId(run), BatchId(batch), Digest(digest));
            PeerMessage::Propose(Propose { run, batch, digest, load, program: program.into(), deadline_ms })
        },
    );
    let accept = (id(), id(), any::<[u8; 32]>()).prop_map(|(run, batch, digest)| {
        PeerMessage::Accept(Accept { run: RunId(run), digest: Digest(digest), batch: BatchId(batch) })
    });
    let refuse =
        ending().prop_map(|(run, fault, reason)| PeerMessage::Refuse { run: RunId(run), fault, reason });
    let abort =
        ending().prop_map(|(run, fault, reason)| PeerMessage::Abort { run: RunId(run), fault, reason });
    let ready = (id(), 0..MAX_NODES as u16, any::<[u8; 32]>())
        .prop_map(|(run, segment, common)| PeerMessage::Ready { run: RunId(run), segment, common });
    let frame = (part(), any::<u8>(), 1..=65_534u16, prop::collection::vec(any::<u8>(), 1..300)).prop_map(
        |(part, step, rounds, payload)| {
            let bits = payload.len() as u64 * 8 - 3;
            PeerMessage::Frame(DataFrame { part, step, depth: depth(rounds), bits, payload: payload.into() })
        },
    );
    let finished = (id(), any::<u16>(), any::<u64>(), any::<u64>(), any::<[u8; 32]>()).prop_map(
        |(run, rounds, bits_sent, bits_received, transcript)| {
            PeerMessage::Finished(Finished { run: RunId(run), rounds, bits_sent, bits_received, transcript })
        },
    );
    let queued = (id(), any::<u16>()).prop_map(|(run, ahead)| PeerMessage::Queued { run: RunId(run), ahead });
    prop_oneof![hello, queued, propose, accept, refuse, abort, ready, frame, finished]
}

fn dealer_message() -> impl Strategy<Value = DealerMessage> {
    let program = prop::collection::vec(any::<u8>(), 0..200);
    let load_batch = || prop::option::of(load_batch());
    let party = prop::sample::select(&Party::BOTH[..]);
    let request = (id(), any::<[u8; 32]>(), party, load_batch(), program).prop_map(
        |(batch, digest, party, load_batch, program)| {
            let (batch, digest) = (BatchId(batch), Digest(digest));
            DealerMessage::Request(KeyRequest { batch, digest, party, load_batch, program: program.into() })
        },
    );
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
    let header = (id(), any::<[u8; 32]>(), 0..=MAX_PARTS, any::<[u8; 32]>()).prop_map(
        |(batch, digest, parts, seed)| {
            let (batch, digest) = (BatchId(batch), Digest(digest));
            DealerMessage::Header(Header { batch, digest, parts, seed: Seed::new(seed) })
        },
    );
    let key = (id(), part(), prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(batch, part, bytes)| {
        DealerMessage::Key(KeyPart::new(BatchId(batch), Party::P0, part, bytes.into()))
    });
    let end = id().prop_map(|batch| DealerMessage::End { batch: BatchId(batch) });
    let stored = id().prop_map(|batch| DealerMessage::Stored { batch: BatchId(batch) });
    let forget = load_batch().prop_map(|batch| DealerMessage::Forget { batch });
    prop_oneof![request, refuse, abort, header, key, end, stored, forget]
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
    let most = (MAX_KEY_PART_BYTES + KeyPartHead::BYTES + 1) as u32;
    assert!(Prefix::decode::<DealerMessage>(prefix(most, 0x44)).is_ok());
    assert!(Prefix::decode::<DealerMessage>(prefix(most + 1, 0x44)).is_err());
}

fn frame(part: Part, bits: u64, payload: Bytes) -> PeerMessage {
    PeerMessage::Frame(DataFrame { part, step: 2, depth: depth(1), bits, payload })
}

#[test]
fn payloads_must_have_the_agreed_length() {
    let bytes = encoded(&frame(Part::new(NodeId(4), 5), 24, Bytes::from_static(&[1, 2, 3])));
    assert_eq!(
        decode_frame::<PeerMessage>(&bytes, |_| Some(4)),
        Err(WireError::Length { field: "data frame", expected: 4, got: 3 })
    );
    assert_eq!(
        decode_frame::<PeerMessage>(&bytes, |_| None),
        Err(WireError::Unexpected { field: "data frame", node: 4, tile: 5, step: 2 })
    );
}

#[test]
fn a_frame_cannot_hide_bits_from_the_count() {
    let frame = |bits, bytes| frame(Part::new(NodeId(0), 0), bits, vec![0; bytes].into());
    assert!(frame(0, 1).encode().is_err());
    assert!(frame(9, 1).encode().is_err());
    assert!(frame(8, 1).encode().is_ok());
    assert!(frame(64, 8 + 64).encode().is_ok());
    assert!(frame(64, 8 + 65).encode().is_err());
    assert!(frame(u64::MAX, 8).encode().is_err());
}

#[test]
fn what_no_program_has_is_neither_sent_nor_understood() {
    let (most_node, most_tile) = (MAX_NODES as u16 - 1, MAX_TILES - 1);
    let key = |part| DealerMessage::Key(KeyPart::new(BatchId([0; 16]), Party::P0, part, Bytes::new()));
    for (node, tile, is_known) in [
        (most_node, most_tile, true),
        (most_node + 1, 0, false),
        (u16::MAX, 0, false),
        (0, most_tile + 1, false),
        (0, u32::MAX, false),
    ] {
        let part = Part::new(NodeId(node), tile);
        assert_eq!(frame(part, 8, Bytes::from_static(&[1])).encode().is_ok(), is_known, "{part}");
        assert_eq!(key(part).encode().is_ok(), is_known, "{part}");
        let place = [&node.to_le_bytes()[..], &[2], &tile.to_le_bytes()].concat();
        let head = [&place[..], &1u16.to_le_bytes(), &8u64.to_le_bytes()].concat();
        assert_eq!(head.len(), DataHead::BYTES);
        assert_eq!(PeerMessage::decode_head(0x06, &head).is_ok(), is_known, "{part}");
        let head = [&node.to_le_bytes()[..], &tile.to_le_bytes(), &[0; 16]].concat();
        assert_eq!(head.len(), KeyPartHead::BYTES);
        assert_eq!(DealerMessage::decode_head(0x44, &head).is_ok(), is_known, "{part}");
    }
    let ready = |segment| PeerMessage::Ready { run: RunId([0; 16]), segment, common: [0; 32] };
    assert!(ready(most_node).encode().is_ok());
    assert!(ready(most_node + 1).encode().is_err());
    let mut body = encoded(&ready(0))[PREFIX_BYTES..].to_vec();
    body[16..18].copy_from_slice(&(most_node + 1).to_le_bytes());
    let refused = PeerMessage::decode_body(0x05, &body);
    assert!(matches!(refused, Err(WireError::OutOfRange { field: "segment", .. })), "{refused:?}");
    let header = |parts| {
        let (batch, digest, seed) = (BatchId([0; 16]), Digest([0; 32]), Seed::new([0; 32]));
        DealerMessage::Header(Header { batch, digest, parts, seed })
    };
    assert!(header(MAX_PARTS).encode().is_ok());
    assert!(header(MAX_PARTS + 1).encode().is_err());
    let mut body = encoded(&header(0))[PREFIX_BYTES..].to_vec();
    body[48..52].copy_from_slice(&(MAX_PARTS + 1).to_le_bytes());
    let refused = DealerMessage::decode_body(0x43, &body);
    assert!(matches!(refused, Err(WireError::OutOfRange { field: "parts", .. })), "{refused:?}");
}

/// A greeting of another version is understood, so that whoever sent it can be told; nothing else of version 4 is.
#[test]
fn a_greeting_of_version_4_says_so_and_its_messages_are_refused() {
    let greeting = [&[0x0b, 0, 0, 0, 0x01, 4, 0, 1, 5, 0][..], b"older"].concat();
    let Ok(PeerMessage::Hello(hello)) = decode_frame::<PeerMessage>(&greeting, |_| None) else {
        panic!("a greeting has one form in every version");
    };
    assert_eq!((hello.version, VERSION, &*hello.software), (4, 7, "older"));
    let length = |kind: u8, body: usize| {
        let [a, b, c, d] = (body as u32 + 1).to_le_bytes();
        [a, b, c, d, kind]
    };
    // Accept, Ready, Finished; Header, and a key of one byte.
    for (kind, body) in [(0x03, 72), (0x05, 48), (0x07, 65)] {
        assert!(Prefix::decode::<PeerMessage>(length(kind, body)).is_err(), "kind {kind}");
    }
    for (kind, body) in [(0x43, 92), (0x44, 21)] {
        assert!(Prefix::decode::<DealerMessage>(length(kind, body)).is_err(), "kind {kind}");
    }
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
    let propose = |deadline_ms, program_bytes| {
        let program = vec![0; program_bytes].into();
        let (run, batch, digest) = (RunId([0; 16]), BatchId([0; 16]), Digest([0; 32]));
        PeerMessage::Propose(Propose { run, batch, digest, load: None, program, deadline_ms }).encode()
    };
    assert!(propose(1, MAX_PROGRAM_BYTES).is_ok());
    assert!(propose(1, MAX_PROGRAM_BYTES + 1).is_err());
    assert!(propose(86_400_000, 1).is_ok());
    assert!(propose(86_400_001, 1).is_err());
    assert!(propose(0, 1).is_err());
    let request = |program_bytes| {
        let (batch, digest, program) = (BatchId([0; 16]), Digest([0; 32]), vec![0; program_bytes].into());
        let request = KeyRequest { batch, digest, party: Party::P0, load_batch: None, program };
        DealerMessage::Request(request).encode()
    };
    assert!(request(MAX_PROGRAM_BYTES).is_ok());
    assert!(request(MAX_PROGRAM_BYTES + 1).is_err());
}

/// Zeros stand for no load, in one way.
#[test]
fn a_load_of_zeros_is_neither_sent_nor_understood() {
    let none = (Digest([0; 32]), BatchId([0; 16]));
    let (digest, batch) = (Digest([1; 32]), BatchId([1; 16]));
    let propose = |load| {
        let (run, program) = (RunId([2; 16]), Bytes::from_static(&[3]));
        let propose = Propose { run, batch, digest, load, program, deadline_ms: 1 };
        PeerMessage::Propose(propose)
    };
    for (digest, batch) in [(none.0, None), (none.0, Some(batch)), (digest, Some(none.1))] {
        let load = Some(LoadName { digest, batch });
        assert!(propose(load).encode().is_err(), "{load:?}");
    }
    let request = KeyRequest {
        batch,
        digest,
        party: Party::P0,
        load_batch: Some(none.1),
        program: Bytes::from_static(&[3]),
    };
    assert!(DealerMessage::Request(request).encode().is_err());
    assert!(DealerMessage::Forget { batch: Some(none.1) }.encode().is_err());
    let mut body = encoded(&propose(Some(LoadName { digest, batch: Some(batch) })))[PREFIX_BYTES..].to_vec();
    body[64..96].fill(0);
    let refused = PeerMessage::decode_body(0x02, &body);
    assert_eq!(refused, Err(WireError::Unknown { field: "load", value: 0 }));
}

#[test]
fn depth_saturates_as_an_error() {
    assert_eq!(depth(65_534).depth(), 65_534);
    assert!(depth(65_534).next().is_err());
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
    let segments = Segments::new(&[(1, 3), (12, 3), (48, 3)]).expect("a shape");
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
    let uneven = Segments::new(&[(3, 5), (64, 1)]).expect("a shape");
    assert_eq!((uneven.bits(), uneven.bytes()), (79, 2 + 8));
    for refused in [&[(0, 3)][..], &[(65, 3)], &[(1, 65_537)], &[(1, 0)], &[(1, 3), (1, 0)], &[]] {
        assert!(Segments::new(refused).is_err(), "{refused:?}");
    }
}

#[test]
fn secrets_print_their_length() {
    let header =
        Header { batch: BatchId([0; 16]), digest: Digest([0; 32]), parts: 1, seed: Seed::new([0x5a; 32]) };
    let printed = format!("{header:?}");
    assert!(printed.contains("Seed(32 bytes)") && !printed.contains("90") && !printed.contains("5a"));
    let part = Part::new(NodeId(3), 4);
    let key = KeyPart::new(BatchId([0; 16]), Party::P0, part, Bytes::from_static(&[0x5a; 7]));
    assert_eq!(format!("{key:?}"), "KeyPart { node: 3, tile: 4, bytes: 7 }");
}
