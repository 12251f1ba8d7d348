//! Pictures of the format: every message as nested hex with its fields' names, encoded, compared and decoded back.
//! A picture that changes is a new version of the protocol: `proto/WIRE.md` and `VERSION` change with it.

use bytes::Bytes;
use suf_wire::{
    Accept, BatchId, Causal, CommonParts, DataFrame, DealerMessage, Digest, Fault, Finished, Header, Hello,
    KeyPart, KeyRequest, LoadName, Message, NodeId, Part, Party, PeerMessage, Propose, Reason, Role, RunId,
    Seed, Tag, Transcript, VERSION, decode_frame,
};

const RUN: RunId = RunId([0x11; 16]);
const BATCH: BatchId = BatchId([0x22; 16]);
const DIGEST: Digest = Digest([0x33; 32]);

const RUN_HEX: &str = "11111111 11111111 11111111 11111111";
const BATCH_HEX: &str = "22222222 22222222 22222222 22222222";
const NONE_HEX: &str = "00000000 00000000 00000000 00000000";
const DIGEST_HEX: &str = "33333333 33333333 33333333 33333333 33333333 33333333 33333333 33333333";

/// Each field's hex beside its name; blanks are for the eye.
type Picture<'a> = &'a [(&'a str, &'a str)];

fn bytes_of(picture: Picture<'_>) -> Vec<u8> {
    let digits: String =
        picture.iter().flat_map(|(hex, _)| hex.chars()).filter(|c| !c.is_whitespace()).collect();
    let digit = |index: usize| u8::from_str_radix(&digits[index..index + 2], 16).expect("hex in a picture");
    (0..digits.len()).step_by(2).map(digit).collect()
}

#[track_caller]
fn assert_picture<M: Message + PartialEq + std::fmt::Debug>(message: &M, picture: Picture<'_>) {
    let encoded = message.encode().expect("the picture's message keeps every limit");
    let bytes = [&encoded.head[..], &encoded.payload[..]].concat();
    assert_eq!(bytes, bytes_of(picture), "{message:?}");
    let payload_bytes = encoded.payload.len();
    assert_eq!(&decode_frame::<M>(&bytes, |_| Some(payload_bytes)).expect("decodes"), message);
}

#[test]
fn hello() {
    assert_eq!(VERSION, 7);
    assert_picture(
        &PeerMessage::Hello(Hello { version: VERSION, role: Role::Party1, software: "suf 0.1.0".into() }),
        &[
            ("0f000000", "length: 15"),
            ("01", "kind: Hello"),
            ("0700", "version"),
            ("02", "role: party 1"),
            ("0900", "length of software"),
            ("737566 20 302e312e30", "software"),
        ],
    );
}

#[test]
fn propose() {
    assert_picture(
        &PeerMessage::Propose(Propose {
            run: RUN,
            batch: BATCH,
            digest: DIGEST,
            load: None,
            program: Bytes::from_static(&[0xaa, 0xbb, 0xcc]),
            deadline_ms: 60_000,
        }),
        &[
            ("7c000000", "length: 124"),
            ("02", "kind: Propose"),
            (RUN_HEX, "run"),
            (BATCH_HEX, "batch"),
            (DIGEST_HEX, "digest"),
            (NONE_HEX, "load: none"),
            (NONE_HEX, "its digest, continued"),
            (NONE_HEX, "load_batch: none"),
            ("60ea0000", "deadline_ms"),
            ("03000000", "length of program"),
            ("aabbcc", "program"),
        ],
    );
}

#[test]
fn propose_of_a_load_and_on_it() {
    let digest = Digest([0x88; 32]);
    let propose = |batch| {
        let load = Some(LoadName { digest, batch });
        let program = Bytes::from_static(&[0xaa]);
        PeerMessage::Propose(Propose {
            run: RUN,
            batch: BATCH,
            digest: DIGEST,
            load,
            program,
            deadline_ms: 1,
        })
    };
    for (batch, hex, words) in [
        (None, NONE_HEX, "load_batch: the run makes the load"),
        (Some(BatchId([0x99; 16])), "99999999 99999999 99999999 99999999", "load_batch"),
    ] {
        assert_picture(
            &propose(batch),
            &[
                ("7a000000", "length: 122"),
                ("02", "kind: Propose"),
                (RUN_HEX, "run"),
                (BATCH_HEX, "batch"),
                (DIGEST_HEX, "digest"),
                ("88888888 88888888 88888888 88888888 88888888 88888888 88888888 88888888", "load"),
                (hex, words),
                ("01000000", "deadline_ms"),
                ("01000000", "length of program"),
                ("aa", "program"),
            ],
        );
    }
}

#[test]
fn accept() {
    assert_picture(
        &PeerMessage::Accept(Accept { run: RUN, digest: DIGEST, batch: BATCH }),
        &[
            ("41000000", "length: 65"),
            ("03", "kind: Accept"),
            (RUN_HEX, "run"),
            (DIGEST_HEX, "digest"),
            (BATCH_HEX, "batch"),
        ],
    );
}

#[test]
fn refuse_and_abort() {
    let (fault, reason) = (Fault::Caller, Reason::new("busy"));
    assert_picture(
        &PeerMessage::Refuse { run: RUN, fault, reason: reason.clone() },
        &[
            ("18000000", "length: 24"),
            ("04", "kind: Refuse"),
            (RUN_HEX, "run"),
            ("04", "fault: caller"),
            ("0400", "length of reason"),
            ("62757379", "reason"),
        ],
    );
    assert_picture(
        &PeerMessage::Abort { run: RUN, fault: Fault::Bug, reason },
        &[
            ("18000000", "length: 24"),
            ("08", "kind: Abort"),
            (RUN_HEX, "run"),
            ("05", "fault: bug"),
            ("0400", "length of reason"),
            ("62757379", "reason"),
        ],
    );
}

#[test]
fn queued() {
    assert_picture(
        &PeerMessage::Queued { run: RUN, ahead: 3 },
        &[("13000000", "length: 19"), ("09", "kind: Queued"), (RUN_HEX, "run"), ("0300", "ahead")],
    );
}

#[test]
fn ready() {
    assert_picture(
        &PeerMessage::Ready { run: RUN, segment: 2, common: [0x77; 32] },
        &[
            ("33000000", "length: 51"),
            ("05", "kind: Ready"),
            (RUN_HEX, "run"),
            ("0200", "segment"),
            ("7777777777777777 7777777777777777 7777777777777777 7777777777777777", "common"),
        ],
    );
}

#[test]
fn frame() {
    let depth = Causal::START.next().and_then(Causal::next).expect("two rounds");
    // One segment of one bit and one of twelve, for three elements: 3 and 36 bits, in 1 and 5 bytes.
    let payload = Bytes::from_static(&[0x05, 0x01, 0x20, 0x00, 0x03, 0x0f]);
    assert_picture(
        &PeerMessage::Frame(DataFrame { part: Part::new(NodeId(9), 7), step: 1, depth, bits: 39, payload }),
        &[
            ("18000000", "length: 24"),
            ("06", "kind: Frame"),
            ("0900", "node"),
            ("01", "step"),
            ("07000000", "tile"),
            ("0200", "depth"),
            ("2700000000000000", "bits"),
            ("05 012000030f", "payload: 3 * 1 bit, 3 * 12 bits"),
        ],
    );
}

#[test]
fn finished() {
    assert_picture(
        &PeerMessage::Finished(Finished {
            run: RUN,
            rounds: 3,
            bits_sent: 0x0102,
            bits_received: 0x0304,
            transcript: [0x44; 32],
        }),
        &[
            ("43000000", "length: 67"),
            ("07", "kind: Finished"),
            (RUN_HEX, "run"),
            ("0300", "rounds"),
            ("0201000000000000", "bits_sent"),
            ("0403000000000000", "bits_received"),
            ("4444444444444444 4444444444444444 4444444444444444 4444444444444444", "transcript"),
        ],
    );
}

#[test]
fn key_request() {
    assert_picture(
        &DealerMessage::Request(KeyRequest {
            batch: BATCH,
            digest: DIGEST,
            party: Party::P1,
            load_batch: Some(BatchId([0x99; 16])),
            program: Bytes::from_static(&[0xaa]),
        }),
        &[
            ("47000000", "length: 71"),
            ("41", "kind: Request"),
            (BATCH_HEX, "batch"),
            (DIGEST_HEX, "digest"),
            ("01", "party: 1"),
            ("99999999 99999999 99999999 99999999", "load_batch"),
            ("01000000", "length of program"),
            ("aa", "program"),
        ],
    );
}

#[test]
fn key_refuse_and_abort() {
    let (fault, reason) = (Fault::Device, Reason::new("full"));
    assert_picture(
        &DealerMessage::Refuse { batch: BATCH, fault, reason: reason.clone() },
        &[
            ("18000000", "length: 24"),
            ("42", "kind: Refuse"),
            (BATCH_HEX, "batch"),
            ("02", "fault: device"),
            ("0400", "length of reason"),
            ("66756c6c", "reason"),
        ],
    );
    assert_picture(
        &DealerMessage::Abort { batch: BATCH, fault, reason },
        &[
            ("18000000", "length: 24"),
            ("47", "kind: Abort"),
            (BATCH_HEX, "batch"),
            ("02", "fault: device"),
            ("0400", "length of reason"),
            ("66756c6c", "reason"),
        ],
    );
}

#[test]
fn header() {
    assert_picture(
        &DealerMessage::Header(Header {
            batch: BATCH,
            digest: DIGEST,
            parts: 2,
            seed: Seed::new([0x55; 32]),
        }),
        &[
            ("55000000", "length: 85"),
            ("43", "kind: Header"),
            (BATCH_HEX, "batch"),
            (DIGEST_HEX, "digest"),
            ("02000000", "parts"),
            ("5555555555555555 5555555555555555 5555555555555555 5555555555555555", "seed"),
        ],
    );
}

#[test]
fn key_part() {
    assert_picture(
        &DealerMessage::Key(KeyPart {
            part: Part::new(NodeId(1), 2),
            tag: Tag([0x66; 16]),
            bytes: Bytes::from_static(&[0xde, 0xad]),
        }),
        &[
            ("19000000", "length: 25"),
            ("44", "kind: Key"),
            ("0100", "node"),
            ("02000000", "tile"),
            ("66666666 66666666 66666666 66666666", "tag"),
            ("dead", "key"),
        ],
    );
}

#[test]
fn end_and_stored() {
    assert_picture(
        &DealerMessage::End { batch: BATCH },
        &[("11000000", "length: 17"), ("45", "kind: End"), (BATCH_HEX, "batch")],
    );
    assert_picture(
        &DealerMessage::Stored { batch: BATCH },
        &[("11000000", "length: 17"), ("46", "kind: Stored"), (BATCH_HEX, "batch")],
    );
}

#[test]
fn forget() {
    assert_picture(
        &DealerMessage::Forget { batch: Some(BATCH) },
        &[("11000000", "length: 17"), ("48", "kind: Forget"), (BATCH_HEX, "batch")],
    );
    assert_picture(
        &DealerMessage::Forget { batch: None },
        &[("11000000", "length: 17"), ("48", "kind: Forget"), (NONE_HEX, "batch: all")],
    );
}

#[test]
fn hash_of_the_common_parts() {
    let mut common = CommonParts::new(BATCH, DIGEST, 3);
    common.absorb(Part::new(NodeId(5), 6), [&b"seed"[..], b"leaf"]);
    let mut input = b"suf/v2/common-parts".to_vec();
    input.extend([0x22; 16]);
    input.extend([0x33; 32]);
    input.extend([3, 0]);
    input.extend([5, 0, 6, 0, 0, 0]);
    input.extend(b"\x04\0\0\0\0\0\0\0seed\x04\0\0\0\0\0\0\0leaf");
    assert_eq!(common.digest(), *blake3::hash(&input).as_bytes());
}

#[test]
fn hash_of_a_transcript() {
    let depth = Causal::START.next().expect("one round");
    let frame = |node, tile, step, byte| DataFrame {
        depth,
        ..DataFrame::new(Part::new(NodeId(node), tile), step, 7, Bytes::from(vec![byte]))
    };
    let mut transcript = Transcript::new(RUN, DIGEST);
    transcript.absorb(Party::P1, &frame(8, 0, 0, 0x0c));
    transcript.absorb(Party::P0, &frame(8, 9, 0, 0x0b));
    transcript.absorb(Party::P0, &frame(2, 9, 1, 0x0a));
    let hash = |node: u8, tile: u8, step: u8, byte: u8| {
        let mut input = vec![node, 0, step, tile, 0, 0, 0, 1, 0];
        input.extend([7, 0, 0, 0, 0, 0, 0, 0]);
        input.extend([1, 0, 0, 0, 0, 0, 0, 0, byte]);
        *blake3::hash(&input).as_bytes()
    };
    let mut input = b"suf/v3/transcript".to_vec();
    input.extend([0x11; 16]);
    input.extend([0x33; 32]);
    input.extend([2, 0, 0, 0, 0, 0, 0, 0]);
    input.extend(hash(2, 9, 1, 0x0a));
    input.extend(hash(8, 9, 0, 0x0b));
    input.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    input.extend(hash(8, 0, 0, 0x0c));
    assert_eq!(transcript.digest(), *blake3::hash(&input).as_bytes());
}

#[test]
fn tag_of_a_key_part() {
    let part = Part::new(NodeId(2), 3);
    let key = KeyPart::new(BATCH, Party::P0, part, Bytes::from_static(b"key"));
    let mut input = b"suf/v2/key-part".to_vec();
    input.extend([0x22; 16]);
    input.push(0);
    input.extend([2, 0, 3, 0, 0, 0]);
    input.extend(b"key");
    assert_eq!(key.tag.0, blake3::hash(&input).as_bytes()[..16]);
    assert!(key.is_intact(BATCH, Party::P0));
    assert!(!key.is_intact(BATCH, Party::P1));
    assert!(!key.is_intact(BatchId([0; 16]), Party::P0));
    for other in [Part::new(NodeId(2), 4), Part::new(NodeId(3), 3)] {
        assert!(!KeyPart { part: other, ..key.clone() }.is_intact(BATCH, Party::P0));
    }
}
