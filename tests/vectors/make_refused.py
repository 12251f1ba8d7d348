#!/usr/bin/env python3
"""Makes refused.json: bytes that a decoder must refuse, each with the reason. It shares no code with the decoders.

usage: make_refused.py [--check]

Without arguments the file beside this script is written. With --check it is compared with what would be written. The exit
status is 1 if they differ. Each family has whole messages that are accepted. Every refused case is one of them with one
fault, so that the fault alone is the reason. The layouts are those of proto/WIRE.md and docs/protocols/programs.md.
"""
import pathlib
import struct

from written import write_or_check

FILE = pathlib.Path(__file__).with_name("refused.json")
RUN, BATCH, DIGEST, TAG = (bytes([value]) * size for value, size in ((1, 16), (2, 16), (3, 32), (4, 16)))


def message(kind, body, length=None):
    return struct.pack("<IB", len(body) + 1 if length is None else length, kind) + body


def text(value):
    return struct.pack("<H", len(value)) + value


def blob(value, length=None):
    return struct.pack("<I", len(value) if length is None else length) + value


def hello(version=7, role=1, software=b"suf"):
    return message(0x01, struct.pack("<HB", version, role) + text(software))


def propose(deadline=1000, program=b"sufp", load=bytes(32), load_batch=bytes(16), **more):
    head = RUN + BATCH + DIGEST + load + load_batch
    return message(0x02, head + struct.pack("<I", deadline) + blob(program, **more))


def ready(segment=0):
    return message(0x05, RUN + struct.pack("<H", segment) + DIGEST)


def frame(node=1, step=0, tile=0, depth=1, bits=18, payload=bytes(3)):
    return message(0x06, struct.pack("<HBIHQ", node, step, tile, depth, bits) + payload)


def refuse(kind, first, fault=0, reason=b"no"):
    return message(kind, first + bytes([fault]) + text(reason))


def peer():
    accepted = {
        "hello": hello(),
        "propose": propose(),
        "propose a load": propose(load=DIGEST),
        "propose a run on a load": propose(load=DIGEST, load_batch=BATCH),
        "accept": message(0x03, RUN + DIGEST + BATCH),
        "refuse": refuse(0x04, RUN),
        "ready": ready(),
        "frame": frame(),
        "finished": message(0x07, RUN + struct.pack("<HQQ", 3, 9, 9) + DIGEST),
        "abort": refuse(0x08, RUN, fault=5),
        "queued": message(0x09, RUN + struct.pack("<H", 3)),
    }
    refused = [
        ("no message at all", b"", "prefix: cut short"),
        ("a length of zero", struct.pack("<IB", 0, 0x01), "length"),
        ("a kind that there is not", message(0x0A, b""), "kind: unknown value 10"),
        ("a kind of the other family", message(0x41, b""), "kind: unknown value 65"),
        ("a body that is cut short", hello()[:-1], "body: cut short"),
        ("a byte after the end", hello() + b"\0", "message: 1 bytes left over"),
        ("a body with a byte too many", message(0x03, RUN + DIGEST + BATCH + b"\0"), "length"),
        ("a role that there is not", hello(role=7), "role: unknown value 7"),
        ("software of 65 bytes", hello(software=b"s" * 65), "length"),
        ("a control character in a text", refuse(0x04, RUN, reason=b"a\n"), "reason: not plain UTF-8"),
        ("a text that is no UTF-8", refuse(0x08, RUN, reason=b"\xff"), "reason: not plain UTF-8"),
        ("a fault that there is not", refuse(0x08, RUN, fault=6), "fault: unknown value 6"),
        ("a reason of 513 bytes", refuse(0x08, RUN, reason=b"r" * 513), "length"),
        ("no time for the run", propose(deadline=0), "deadline_ms"),
        ("a batch of a load that has no digest", propose(load_batch=BATCH), "load: unknown value 0"),
        ("a day and a millisecond for the run", propose(deadline=86_400_001), "deadline_ms"),
        ("a program longer than its message", propose(length=5), "program: cut short"),
        ("a program over the limit", propose(program=bytes(262_145)), "length"),
        ("segment 4096", ready(segment=4096), "segment"),
        ("node 4096", frame(node=4096), "node"),
        ("tile 3052", frame(tile=3052), "tile"),
        ("causal depth 0", frame(depth=0), "causal depth 0"),
        ("causal depth 65535", frame(depth=65_535), "causal depth 65535"),
        ("more bits than the payload has", frame(bits=25), "bits"),
        ("a payload of 65 bytes that no bit needs", frame(bits=8, payload=bytes(66)), "bits"),
        ("no bits", frame(bits=0, payload=bytes(1)), "bits"),
    ]
    return accepted, refused


def key(node=1, tile=0, payload=bytes(8)):
    return message(0x44, struct.pack("<HI", node, tile) + TAG + payload)


def header(parts=1):
    return message(0x43, BATCH + DIGEST + struct.pack("<I", parts) + bytes(32))


def request(party=0, program=b"sufp", load_batch=bytes(16)):
    return message(0x41, BATCH + DIGEST + bytes([party]) + load_batch + blob(program))


def keys():
    accepted = {
        "request": request(),
        "request of keys on a load": request(load_batch=BATCH),
        "refuse": refuse(0x42, BATCH),
        "header": header(),
        "key": key(),
        "an empty key": key(payload=b""),
        "end": message(0x45, BATCH),
        "stored": message(0x46, BATCH),
        "abort": refuse(0x47, BATCH),
        "forget": message(0x48, BATCH),
        "forget all": message(0x48, bytes(16)),
    }
    refused = [
        ("a kind of the other family", message(0x06, b""), "kind: unknown value 6"),
        ("party 2", request(party=2), "party: unknown value 2"),
        ("a program over the limit", request(program=bytes(262_145)), "length"),
        ("more parts than any program has", header(parts=4096 * 3052 + 1), "parts"),
        ("a key of node 4096", key(node=4096), "node"),
        ("a key of tile 3052", key(tile=3052), "tile"),
        ("a header without its seed", message(0x43, BATCH + DIGEST + struct.pack("<I", 1)), "length"),
        ("an end with a byte too many", message(0x45, BATCH + b"\0"), "length"),
        ("a batch of 15 bytes", message(0x46, BATCH[:15]), "length"),
        ("a request of version 6", message(0x41, BATCH + DIGEST + bytes([0]) + blob(b"sufp")), "length"),
        ("a load of 15 bytes to forget", message(0x48, BATCH[:15]), "length"),
    ]
    return accepted, refused


MASKED, SHARED = 0, 1


def node(code, inputs, body=b""):
    return struct.pack("<BB", code, len(inputs)) + b"".join(struct.pack("<H", taken) for taken in inputs) + body


def tensor(rows=2, cols=3, bits=48, frac=12, form=MASKED):
    return node(1, [], struct.pack("<IIBBB", rows, cols, bits, frac, form))


def output(taken):
    return node(2, [taken])


def opened(taken, form=MASKED, start=48, drop=4, end=48):
    return node(4, [taken], bytes([form, start, drop, end]))


def add(*taken):
    return node(6, taken)


def shift(taken, bits=2):
    return node(7, [taken], bytes([bits]))


def drop(taken, bits=2):
    return node(8, [taken], bytes([bits]))


def program(*nodes, magic=b"sufp", version=1, gates=0, count=None):
    count = len(nodes) if count is None else count
    return magic + bytes([version]) + struct.pack("<HH", gates, count) + b"".join(nodes)


def programs():
    accepted = {
        "input and output": program(tensor(), output(0)),
        "a sum": program(tensor(), tensor(), add(0, 1), output(2)),
        "an opening": program(tensor(), opened(0), output(1)),
        "a shared wire is opened": program(tensor(form=SHARED), opened(0, SHARED, 48, 0, 48), output(1)),
        "shift and drop": program(tensor(), shift(0), drop(1), opened(2, start=46), output(3)),
    }
    whole = program(tensor(), output(0))
    refused = [
        ("nothing", b"", "cut short"),
        ("another magic", program(tensor(), output(0), magic=b"sufq"), "not a program"),
        ("another version", program(tensor(), output(0), version=2), "another version"),
        ("cut short", whole[:-1], "cut short"),
        ("a byte after the end", whole + b"\0", "not canonical"),
        ("a gate that is not there", program(tensor(), output(0), gates=1), ""),
        ("65535 gates", program(tensor(), output(0), gates=65_535), "too many gates"),
        ("65535 nodes", program(tensor(), output(0), count=65_535), "too many nodes"),
        ("no nodes", program(), "has an output"),
        ("no output", program(tensor()), "has an output"),
        ("an operation that there is not", program(tensor(), node(255, [0]), output(0)), "unknown operation"),
        ("17 wires", program(tensor(), add(*[0] * 17), output(0)), "takes too many wires"),
        ("a node that takes itself", program(tensor(), add(0, 1), output(0)), "makes no wire"),
        ("a node that takes a later one", program(output(1), tensor()), "makes no wire"),
        ("an output of an output", program(tensor(), output(0), output(1)), "makes no wire"),
        ("an output of nothing", program(tensor(), node(2, [])), "takes one wire"),
        ("no rows", program(tensor(rows=0), output(0)), "empty or larger"),
        ("no columns", program(tensor(cols=0), output(0)), "empty or larger"),
        ("65537 columns", program(tensor(rows=1, cols=65_537), output(0)), "empty or larger"),
        ("more elements than a tensor has", program(tensor(rows=50_000_001, cols=2), output(0)), "empty or larger"),
        ("a ring of no bits", program(tensor(bits=0, frac=0), output(0)), ""),
        ("a ring of 65 bits", program(tensor(bits=65), output(0)), "1 to 64 bits"),
        ("all bits fractional", program(tensor(bits=12, frac=12), output(0)), "fractional"),
        ("a form that there is not", program(tensor(form=2), output(0)), "unknown form"),
        ("a sum of one wire", program(tensor(), add(0), output(1)), "takes two wires"),
        ("a sum of two shapes", program(tensor(), tensor(rows=3), add(0, 1), output(2)), "one shape"),
        ("a sum of two scales", program(tensor(), tensor(frac=11), add(0, 1), output(2)), "one shape"),
        ("a sum of two forms", program(tensor(), tensor(form=SHARED), add(0, 1), output(2)), "one shape"),
        ("a shift by nothing", program(tensor(), shift(0, 0), output(1)), "cannot be shifted"),
        ("a shift beyond the ring", program(tensor(), shift(0, 36), output(1)), "cannot be shifted"),
        ("nothing is dropped", program(tensor(), drop(0, 0), output(1)), "no 0 fractional bits"),
        ("more is dropped than the fraction", program(tensor(), drop(0, 13), output(1)), "no 13 fractional bits"),
        ("bits of a shared wire are dropped", program(tensor(form=SHARED), drop(0), output(1)), "masked wire"),
        ("an opening of another ring", program(tensor(), opened(0, start=47), output(1)), ""),
        ("an opening that leaves no bit", program(tensor(), opened(0, drop=47), output(1)), "no bit is left"),
        (
            "an opening of a shared wire that drops",
            program(tensor(form=SHARED), opened(0, SHARED, 48, 1, 48), output(1)),
            "opened as it is",
        ),
        ("an opening of another form", program(tensor(form=SHARED), opened(0), output(1)), ""),
    ]
    return accepted, refused


def make():
    families = {}
    for name, (accepted, refused) in (("peer", peer()), ("keys", keys()), ("program", programs())):
        families[name] = {
            "accepted": [{"what": what, "bytes": value.hex()} for what, value in accepted.items()],
            "refused": [{"what": what, "bytes": short(value), "reason": reason} for what, value, reason in refused],
        }
    return families


def short(value):
    """Hex; zeros at the end, if there are many, as their number."""
    head = value.rstrip(b"\0")
    zeros = len(value) - len(head)
    return value.hex() if zeros < 1000 else f"{head.hex()}+{zeros}"


if __name__ == "__main__":
    write_or_check(__doc__, FILE, make)
