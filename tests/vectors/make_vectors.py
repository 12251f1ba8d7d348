#!/usr/bin/env python3
"""Makes trees.json: known answers for the streams, the fixed keys and the two DPF trees. They come from a second
implementation that shares no code with the first.

usage: make_vectors.py [--check]

Without arguments the file beside this script is written. With --check it is compared with what would be written. The exit
status is 1 if they differ. Needs numpy only. Numbers are little endian. Byte strings are in hex and laid out as in the
keys. Correction words stand element after element, bits in planes (bit e of a plane is bit e % 8 of byte e / 8).

BGI: Boyle, Gilboa, Ishai, CCS 2016, section 3.2. Half-tree: Guo et al., EUROCRYPT 2023, figure 8, with independent roots.
Comparison by prefix parity: Storrier et al. (Grotto), CCS 2023, section 4. Both trees end 7 levels early in blocks of 128
leaves.
"""
import functools
import hashlib
import pathlib

import numpy as np

from written import write_or_check

STREAM_DOMAIN = b"suf/v2/stream"
TREE_DOMAIN = b"suf/v2/tree-keys"
MASK = 0xFFFF
LEAF_BITS = 7
ONES = (1 << 128) - 1
FILE = pathlib.Path(__file__).with_name("trees.json")


# AES-128 (FIPS 197), on arrays of blocks: bytes are numbered as in the standard, column after column.

def xtime(a):
    return ((a << 1) ^ (0x1B if a & 0x80 else 0)) & 0xFF


def make_sbox():
    # 3 generates the multiplicative group; with p = 3^i and q = 3^-i every pair (a, 1 / a) is met once.
    sbox = np.zeros(256, np.uint8)
    p = q = 1
    while True:
        p ^= xtime(p)
        q ^= q << 1
        q ^= q << 2
        q ^= q << 4
        q &= 0xFF
        if q & 0x80:
            q ^= 0x09
        rotations = [((q << i) | (q >> (8 - i))) & 0xFF for i in range(5)]
        sbox[p] = rotations[0] ^ rotations[1] ^ rotations[2] ^ rotations[3] ^ rotations[4] ^ 0x63
        if p == 1:
            break
    sbox[0] = 0x63
    return sbox


SBOX = make_sbox()
TWICE = np.array([xtime(a) for a in range(256)], np.uint8)
SHIFT_ROWS = np.array([(i + 4 * (i % 4)) % 16 for i in range(16)])


@functools.cache
def expand_key(key):
    words = [list(key[4 * i:4 * i + 4]) for i in range(4)]
    constant = 1
    for i in range(4, 44):
        word = list(words[i - 1])
        if i % 4 == 0:
            word = [int(SBOX[b]) for b in word[1:] + word[:1]]
            word[0] ^= constant
            constant = xtime(constant)
        words.append([a ^ b for a, b in zip(words[i - 4], word)])
    return np.array(words, np.uint8).reshape(11, 16)


def encrypt(key, blocks):
    """AES-128 of each row of an array of 16 columns."""
    rounds = expand_key(key)
    state = blocks ^ rounds[0]
    for i in range(1, 11):
        state = SBOX[state][:, SHIFT_ROWS]
        if i < 10:
            column = state.reshape(-1, 4, 4)
            following = np.roll(column, -1, axis=2)
            others = column ^ following
            parity = np.bitwise_xor.reduce(column, axis=2)[:, :, None]
            state = (column ^ parity ^ TWICE[others]).reshape(-1, 16)
        state = state ^ rounds[i]
    return state


def cipher(key, numbers):
    """AES-128 of 128-bit integers."""
    blocks = np.frombuffer(b"".join(n.to_bytes(16, "little") for n in numbers), np.uint8).reshape(-1, 16)
    return [int.from_bytes(row.tobytes(), "little") for row in encrypt(key, blocks)]


# BLAKE3 of at most one chunk of 1024 bytes, section 2 of its paper.

IV = [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19]
ORDER = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8]
QUARTERS = [(0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
            (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)]
START, END, ROOT, KEYED = 1, 2, 8, 16


def rotate(word, by):
    return (word >> by | word << (32 - by)) & 0xFFFFFFFF


def compress(chaining, block, length, flags):
    v = chaining + IV[:4] + [0, 0, length, flags]
    words = [int.from_bytes(block[4 * i:4 * i + 4], "little") for i in range(16)]
    for _ in range(7):
        for i, (a, b, c, d) in enumerate(QUARTERS):
            for word, first, second in ((words[2 * i], 16, 12), (words[2 * i + 1], 8, 7)):
                v[a] = (v[a] + v[b] + word) & 0xFFFFFFFF
                v[d] = rotate(v[d] ^ v[a], first)
                v[c] = (v[c] + v[d]) & 0xFFFFFFFF
                v[b] = rotate(v[b] ^ v[c], second)
        words = [words[i] for i in ORDER]
    return [v[i] ^ v[i + 8] for i in range(8)]


def blake3(message, key=None):
    """32 bytes."""
    assert 0 < len(message) <= 1024
    chaining = IV if key is None else [int.from_bytes(key[4 * i:4 * i + 4], "little") for i in range(8)]
    mode = 0 if key is None else KEYED
    blocks = [message[i:i + 64] for i in range(0, len(message), 64)]
    for i, block in enumerate(blocks):
        flags = mode | (START if i == 0 else 0) | (END | ROOT if i == len(blocks) - 1 else 0)
        chaining = compress(chaining, block.ljust(64, b"\0"), len(block), flags)
    return b"".join(word.to_bytes(4, "little") for word in chaining)


class Domain:
    """What a stream belongs to, and what fixed keys are fixed for."""

    def __init__(self, batch, program, node, tile):
        self.name = batch + program + node.to_bytes(2, "little") + tile.to_bytes(4, "little")

    def stream(self, seed, field):
        """Key and nonce."""
        made = blake3(STREAM_DOMAIN + self.name + field.to_bytes(2, "little"), seed)
        return made[:16], made[16:]

    def fixed_keys(self):
        """Of nodes and of leaves."""
        made = blake3(TREE_DOMAIN + self.name)
        return made[:16], made[16:]


DOMAIN = Domain(bytes(range(16)), bytes(range(100, 132)), 0x0102, 0x03040506)
NODE_KEY, LEAF_KEY = DOMAIN.fixed_keys()


# A rule says how a node, whose bit 0 is its control bit, becomes its children (before correction) and its leaves.

class Bgi:
    name = "bgi"

    def children(self, node):
        left = node & ~1
        right = left | 1
        a, b = cipher(NODE_KEY, [left, right])
        return [a ^ left, b ^ right]

    def correct(self, children, node, word):
        seed, bits = word
        if node & 1:
            children = [child ^ seed ^ bit for child, bit in zip(children, bits)]
        return children

    def correction(self, children, nodes, alpha):
        left, right = (a ^ b for a, b in zip(*children))
        lost = left if alpha else right
        return lost & ~1, [left & 1 ^ alpha ^ 1, right & 1 ^ alpha]

    def stored(self, word):
        return word[0] | word[1][0], word[1][1]

    def leaves(self, node):
        seed = node & ~1
        return cipher(LEAF_KEY, [seed])[0] ^ seed


class HalfTree:
    name = "half-tree"

    def hash(self, key, node):
        low, high = node & (1 << 64) - 1, node >> 64
        x = (high ^ low) << 64 | high
        return cipher(key, [x])[0] ^ x

    def children(self, node):
        left = self.hash(NODE_KEY, node)
        return [left, left ^ node]

    def correct(self, children, node, word):
        return [child ^ word for child in children] if node & 1 else children

    def correction(self, children, nodes, alpha):
        word = children[0][0] ^ children[1][0]
        return word if alpha else word ^ nodes[0] ^ nodes[1]

    def stored(self, word):
        return word, None

    def leaves(self, node):
        return self.hash(LEAF_KEY, node)


class Key:
    """Both parties' trees of one element."""

    def __init__(self, rule, levels, roots, alpha):
        self.rule, self.levels = rule, levels
        self.roots = [root & ~1 | party for party, root in enumerate(roots)]
        self.words = []
        nodes = list(self.roots)
        for level in range(levels):
            bit = alpha >> (levels + LEAF_BITS - 1 - level) & 1
            children = [rule.children(node) for node in nodes]
            word = rule.correction(children, nodes, bit)
            nodes = [rule.correct(pair, node, word)[bit] for pair, node in zip(children, nodes)]
            self.words.append(word)
        raw = [rule.leaves(node) for node in nodes]
        self.leaf = raw[0] ^ raw[1] ^ 1 << alpha % 128
        self.hot = self.block(0, alpha >> LEAF_BITS) >> alpha % 128 & 1

    def path(self, party, block):
        """Nodes from the root to the one over a block of leaves, with the right child beside each turn."""
        node = self.roots[party]
        steps = []
        for level, word in enumerate(self.words):
            children = self.rule.correct(self.rule.children(node), node, word)
            turn = block >> (self.levels - 1 - level) & 1
            steps.append((node, children[1], turn))
            node = children[turn]
        return node, steps

    def block(self, party, index):
        node, _ = self.path(party, index)
        return self.rule.leaves(node) ^ (self.leaf if node & 1 else 0)

    def below(self, party, point):
        """Share of 1[alpha < point]."""
        _, steps = self.path(party, point >> LEAF_BITS)
        share = sum(turn & (node ^ right) for node, right, turn in steps)
        bits = self.block(party, point >> LEAF_BITS) & (1 << point % 128) - 1
        return (share + bits.bit_count()) & 1

    def window(self, party, centre, height):
        """The leaves round the centre, as blocks: the first leaf at bit centre mod 128, cyclically."""
        points, size = 128 << self.levels, 128 << height
        first = (centre - size // 2) % points
        count = (1 << height) + 1
        blocks = [self.block(party, (first >> LEAF_BITS) + i & (1 << self.levels) - 1) for i in range(count)]
        before = (1 << first % 128) - 1
        blocks[0] = blocks[0] & ~before & ONES | blocks.pop() & before
        return blocks


def draw(label, count, size):
    """`count` numbers of `size` bytes that depend on a label alone."""
    return [int.from_bytes(hashlib.sha256(f"{label} {i}".encode()).digest()[:size], "little") for i in range(count)]


def blocks_hex(numbers):
    return b"".join(n.to_bytes(16, "little") for n in numbers).hex()


def plane_hex(bits):
    out = bytearray((len(bits) + 7) // 8)
    for e, bit in enumerate(bits):
        out[e // 8] |= bit << e % 8
    return out.hex()


def case(rule, levels, heights=(), expanded=False):
    elems = 9
    label = f"{rule.name} {levels}"
    domain = (1 << levels + LEAF_BITS) - 1
    roots = [draw(f"{label} root {party}", elems, 16) for party in (0, 1)]
    alphas = [alpha & domain for alpha in draw(f"{label} alpha", elems, 8)]
    # The ends of the domain among them.
    alphas[0], alphas[1] = 0, domain
    keys = [Key(rule, levels, [roots[0][e], roots[1][e]], alphas[e]) for e in range(elems)]
    stored = [[rule.stored(word) for word in key.words] for key in keys]
    out = {
        "rule": rule.name,
        "levels": levels,
        "alphas": alphas,
        "roots": [blocks_hex(party) for party in roots],
        "words": blocks_hex([word for words in stored for word, _ in words]),
        "leaves": blocks_hex([key.leaf for key in keys]),
        "hot": plane_hex([key.hot for key in keys]),
    }
    if rule.name == "bgi":
        out["right"] = "".join(plane_hex([words[level][1] for words in stored]) for level in range(levels))

    base = [p & domain for p in draw(f"{label} point", elems, 8)]
    # A third of the points at alpha and beside it.
    base = [[p, alpha, alpha + 1 & domain][e % 3] for e, (p, alpha) in enumerate(zip(base, alphas))]
    points = [base, [p + 255 & domain for p in base], [p - 256 & domain for p in base]]
    out["points"] = points
    out["below"] = [
        [plane_hex([key.below(party, p) for key, p in zip(keys, line)]) for line in points] for party in (0, 1)
    ]
    for e, key in enumerate(keys):
        for line in points:
            assert key.below(0, line[e]) ^ key.below(1, line[e]) == (alphas[e] < line[e])

    out["windows"] = [
        {
            "height": height,
            "blocks": [
                blocks_hex([block for key, p in zip(keys, base) for block in key.window(party, p, height)])
                for party in (0, 1)
            ],
        }
        for height in heights
    ]
    if expanded:
        out["expanded"] = [
            blocks_hex([key.block(party, i) for key in keys for i in range(1 << levels)]) for party in (0, 1)
        ]
    return out


def stream(field):
    seed = bytes(range(200, 232))
    key, nonce = DOMAIN.stream(seed, field)
    number = int.from_bytes(nonce, "little")
    # Two blocks on either side of a block number that needs three bytes.
    firsts = [0, 65535]
    return {
        "seed": seed.hex(),
        "field": field,
        "key": key.hex(),
        "nonce": nonce.hex(),
        "blocks": [
            {"first": first, "bytes": blocks_hex(cipher(key, [i ^ number for i in range(first, first + 3)]))}
            for first in firsts
        ],
    }


def make():
    standard = cipher(bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"), [0])[0].to_bytes(16, "little")
    assert standard.hex() == "7df76b0c1ab899b33e42f047b91b546f", "NIST's example of a block of zeros"
    assert blake3(b"IETF").hex().startswith("83a2de1ee6f4e6ab686889248f4ec0cf"), "BLAKE3's own example"
    return {
        "domain": {
            "batch": DOMAIN.name[:16].hex(),
            "program": DOMAIN.name[16:48].hex(),
            "node": int.from_bytes(DOMAIN.name[48:50], "little"),
            "tile": int.from_bytes(DOMAIN.name[50:], "little"),
        },
        "fixed_keys": {"node": NODE_KEY.hex(), "leaf": LEAF_KEY.hex()},
        "streams": [stream(field) for field in (0, 5, MASK)],
        "trees": [
            case(Bgi(), 1, expanded=True),
            case(Bgi(), 3, expanded=True),
            case(Bgi(), 23),
            case(HalfTree(), 3, heights=(1, 2, 3), expanded=True),
            case(HalfTree(), 22, heights=(2, 3)),
        ],
    }


if __name__ == "__main__":
    write_or_check(__doc__, FILE, make)
