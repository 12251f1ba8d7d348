//! Pictures of the format: every message as nested hex with its fields' names, encoded, compared and decoded back.
//! A picture that changes is a new version of the protocol: `proto/WIRE.md` and `VERSION` change with it.

use bytes::Bytes;
use suf_wire::{
    Accept, BatchId, Causal, CommonParts, DataFrame, DealerMessage, Digest, Fault, Finished, Header, Hello,
    KeyChunk, KeyRequest, Message, Party, PeerMessage, Propose, Reason, Role, RunId, Seed, Tag, VERSION,
    decode_frame,
};

const RUN: RunId = RunId([0x11; 16]);
const BATCH: BatchId = BatchId([0x22; 16]);
const DIGEST: Digest = Digest([0x33; 32]);

const RUN_HEX: &str = "11111111 11111111 11111111 11111111";
const BATCH_HEX: &str = "22222222 22222222 22222222 22222222";
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
    assert_eq!(VERSION, 4);
    assert_picture(
        &PeerMessage::Hello(Hello { version: VERSION, role: Role::Party1, software: "suf 0.1.0".into() }),
        &[
            ("0f000000", "length: 15"),
            ("01", "kind: Hello"),
            ("0400", "version"),
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
            gate: Bytes::from_static(&[0xaa, 0xbb, 0xcc]),
            elems: 393_216,
            deadline_ms: 60_000,
        }),
        &[
            ("54000000", "length: 84"),
            ("02", "kind: Propose"),
            (RUN_HEX, "run"),
            (BATCH_HEX, "batch"),
            (DIGEST_HEX, "digest"),
            ("0000060000000000", "elems"),
            ("60ea0000", "deadline_ms"),
            ("03000000", "length of gate"),
            ("aabbcc", "gate"),
        ],
    );
}

#[test]
fn accept() {
    assert_picture(
        &PeerMessage::Accept(Accept { run: RUN, digest: DIGEST, batch: BATCH, elems: 1 }),
        &[
            ("49000000", "length: 73"),
            ("03", "kind: Accept"),
            (RUN_HEX, "run"),
            (DIGEST_HEX, "digest"),
            (BATCH_HEX, "batch"),
            ("0100000000000000", "elems"),
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
fn ready() {
    assert_picture(
        &PeerMessage::Ready { run: RUN, common: [0x77; 32] },
        &[
            ("31000000", "length: 49"),
            ("05", "kind: Ready"),
            (RUN_HEX, "run"),
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
        &PeerMessage::Frame(DataFrame { step: 1, depth, chunk: 7, bits: 39, payload }),
        &[
            ("15000000", "length: 21"),
            ("06", "kind: Frame"),
            ("01", "step"),
            ("02", "depth"),
            ("07000000", "chunk"),
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
            ("42000000", "length: 66"),
            ("07", "kind: Finished"),
            (RUN_HEX, "run"),
            ("03", "rounds"),
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
            elems: 65_537,
            gate: Bytes::from_static(&[0xaa]),
        }),
        &[
            ("3f000000", "length: 63"),
            ("41", "kind: Request"),
            (BATCH_HEX, "batch"),
            (DIGEST_HEX, "digest"),
            ("01", "party: 1"),
            ("0100010000000000", "elems"),
            ("01000000", "length of gate"),
            ("aa", "gate"),
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
            elems: 65_537,
            chunks: 2,
            seed: Seed::new([0x55; 32]),
        }),
        &[
            ("5d000000", "length: 93"),
            ("43", "kind: Header"),
            (BATCH_HEX, "batch"),
            (DIGEST_HEX, "digest"),
            ("0100010000000000", "elems"),
            ("02000000", "chunks"),
            ("5555555555555555 5555555555555555 5555555555555555 5555555555555555", "seed"),
        ],
    );
}

#[test]
fn key_chunk() {
    assert_picture(
        &DealerMessage::Chunk(KeyChunk {
            index: 2,
            tag: Tag([0x66; 16]),
            bytes: Bytes::from_static(&[0xde, 0xad]),
        }),
        &[
            ("17000000", "length: 23"),
            ("44", "kind: Chunk"),
            ("02000000", "index"),
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
fn hash_of_the_common_parts() {
    let mut common = CommonParts::new(BATCH, DIGEST, 3);
    common.absorb(0, [&b"seed"[..], b"leaf"]);
    let mut input = b"suf/v1/common-parts".to_vec();
    input.extend([0x22; 16]);
    input.extend([0x33; 32]);
    input.extend([3, 0, 0, 0, 0, 0, 0, 0]);
    input.extend([0; 4]);
    input.extend(b"\x04\0\0\0\0\0\0\0seed\x04\0\0\0\0\0\0\0leaf");
    assert_eq!(common.digest(), *blake3::hash(&input).as_bytes());
}

#[test]
fn tag_of_a_key_chunk() {
    let chunk = KeyChunk::new(BATCH, Party::P0, 3, Bytes::from_static(b"key"));
    let mut input = b"suf/v1/key-chunk".to_vec();
    input.extend([0x22; 16]);
    input.push(0);
    input.extend([3, 0, 0, 0]);
    input.extend(b"key");
    assert_eq!(chunk.tag.0, blake3::hash(&input).as_bytes()[..16]);
    assert!(chunk.is_intact(BATCH, Party::P0));
    assert!(!chunk.is_intact(BATCH, Party::P1));
    assert!(!chunk.is_intact(BatchId([0; 16]), Party::P0));
    assert!(!KeyChunk { index: 4, ..chunk }.is_intact(BATCH, Party::P0));
}
