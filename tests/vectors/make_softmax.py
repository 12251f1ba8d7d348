#!/usr/bin/env python3
"""Makes softmax.json: known answers for exponentials as rotations, comparison keys and pieces of splines, from a second implementation
that shares no code with the first.

usage: make_softmax.py [--check]

Without arguments the file beside this script is written. With --check it is compared with what would be written. The exit
status is 1 if they differ. Needs numpy only, for the cipher of make_vectors.py. Numbers are little endian; what exceeds
64 bits, and byte strings, are in hex. Formulas: docs/protocols/exponential.md, comparison.md and spline.md.
"""
import math
import pathlib
from decimal import Decimal, getcontext

from make_vectors import LEAF_KEY, NODE_KEY, HalfTree, draw
from written import write_or_check

FILE = pathlib.Path(__file__).with_name("softmax.json")
FRACTION = 12
LOW = (1 << FRACTION) - 1
getcontext().prec = 60


def mantissa(precision, fraction):
    return int((Decimal(2) ** precision * Decimal(2) ** (Decimal(fraction) / (1 << FRACTION))).to_integral_value())


# Shares modulo M = 2^m - 1, as Python's integers.

def exponential(bits, precision, offset, dropped):
    modulus = (1 << bits) - 1
    label = f"exponential {bits}"
    masks = draw(f"{label} mask", 6, 8)
    # From the least x to near the greatest.
    most = (bits - 2 * precision - 66 if dropped else bits - 2 * precision - 2) - offset
    step = (most - (1 - offset) << FRACTION) // 5
    xs = [(1 - offset << FRACTION) + i * step + (i * 977 & LOW) for i in range(6)]
    seeded = [int.from_bytes(b"".join(n.to_bytes(32, "little") for n in draw(f"{label} share {i}", 4, 32))[:bits // 8], "little")
              for i in range(6)]
    explicit, shares, sums = [], [[], []], [0, 0]
    hats = [(x + mask) % (1 << 64) for x, mask in zip(xs, masks)]
    for x, mask, hat, share in zip(xs, masks, hats, seeded):
        minus = -mask % (bits << FRACTION)
        beta = mantissa(precision, minus & LOW) << (minus >> FRACTION)
        rest = (beta - share) % modulus
        explicit.append(rest)
        factor = mantissa(precision, hat & LOW) << ((hat >> FRACTION) + offset) % bits
        halves = [number * factor % modulus for number in (share, rest)]
        e = sum(halves) % modulus
        first = hat & LOW
        second = (x - first) & LOW
        whole = (x - first - second >> FRACTION) + offset
        assert e == mantissa(precision, first) * mantissa(precision, second) << whole
        sums = [(total + half) % modulus for total, half in zip(sums, halves)]
        if dropped:
            shares[0].append(halves[0] >> dropped & (1 << 64) - 1)
            shares[1].append(-((modulus - halves[1]) % modulus >> dropped) % (1 << 64))
            assert (shares[0][-1] + shares[1][-1] - (e >> dropped)) % (1 << 64) in (0, 1)
    number = lambda value: value.to_bytes(bits // 8, "little").hex()
    return {
        "bits": bits,
        "precision": precision,
        "offset": offset,
        "masks": masks,
        "x_hat": hats,
        "seeded": "".join(map(number, seeded)),
        "explicit": "".join(map(number, explicit)),
        "row_sums": [number(total) for total in sums],
        "dropped": dropped,
        "truncated": shares,
    }


# Comparison keys, one number and one level at a time.

def comparison(bits, depths, size):
    """Keys of 3 rows of `bits` bits with a payload of `size` bytes, whose comparisons end after each of `depths` levels."""
    rule, rows, label = HalfTree(), 3, f"comparison {bits} {size}"
    # A payload of 16 bytes is a pair of numbers of 8 bytes.
    word_bits = 8 * min(size, 8)
    limit = 1 << bits

    def split(number):
        return [number >> at & (1 << word_bits) - 1 for at in range(0, 8 * size, word_bits)]

    def join(numbers):
        return sum((number % (1 << word_bits)) << i * word_bits for i, number in enumerate(numbers))

    def add(a, b, sign=1):
        return join(x + sign * y for x, y in zip(split(a), split(b)))

    points = [point % limit for point in draw(f"{label} point", rows, 16)]
    payloads = draw(f"{label} payload", rows, size)
    roots = [draw(f"{label} root {party}", rows, 16) for party in (0, 1)]
    ys = [(point + y) % limit for point, y in zip(points, (-5, 0, 1 << bits - 3))]
    words, payload_words, shares = [], [], [[], []]
    for row in range(rows):
        nodes = [root[row] & ~1 | party for party, root in enumerate(roots)]
        starts, of_row, payload_of_row = list(nodes), [], []
        for level in range(bits):
            bit = points[row] >> bits - 1 - level & 1
            children = [rule.children(node) for node in nodes]
            word = rule.correction(children, nodes, bit)
            nodes = [rule.correct(pair, node, word)[bit] for pair, node in zip(children, nodes)]
            converted = [rule.leaves(node) for node in nodes]
            payload = add(add(payloads[row], converted[0], -1), converted[1])
            of_row.append(word)
            payload_of_row.append(add(0, payload, -1 if nodes[1] & 1 else 1))
        words += of_row
        payload_words += payload_of_row
        for party in (0, 1):
            node, total, ended = starts[party], 0, []
            for level in range(bits):
                left, right = rule.correct(rule.children(node), node, of_row[level])
                if ys[row] >> bits - 1 - level & 1:
                    node = right
                else:
                    node = left
                    total = add(add(total, rule.leaves(right)), payload_of_row[level] if right & 1 else 0)
                if level + 1 in depths:
                    ended.append(add(0, total, -1 if party else 1))
            shares[party].append(ended)
        for i, depth in enumerate(depths):
            is_less = ys[row] >> bits - depth < points[row] >> bits - depth
            assert add(shares[0][row][i], shares[1][row][i]) == (payloads[row] if is_less else 0)
    pack = lambda numbers, size: b"".join(n.to_bytes(size, "little") for n in numbers).hex()
    wide = -(-bits // 64) * 8
    return {
        "bits": bits,
        "depths": depths,
        "points": pack(points, wide),
        "payloads": pack(payloads, size),
        "roots": [pack(party, 16) for party in roots],
        "node_words": pack(words, 16),
        "payload_words": pack(payload_words, size),
        "y": pack(ys, wide),
        "shares": [pack([share for row in party for share in row], size) for party in shares],
    }


# Pieces, in doubles: sums, products, quotients and square roots alone.

def pieces(name, of, frac, to_frac, low, high):
    value = (lambda x: 2.0 ** to_frac * 2.0 ** frac / x) if of == 0 else (
        lambda x: 2.0 ** to_frac * math.sqrt(of * 2.0 ** frac / x))
    octaves = range(low.bit_length() - 1, high.bit_length())
    inner = [mantissa(8, i << 8) << octave - 8 for octave in octaves for i in range(16)]
    ends = [low] + [end for end in inner if low < end < high] + [high]
    made = b""
    for a, b in zip(ends, ends[1:]):
        first, last = float(a), float(b)
        slope = round((value(last) - value(first)) / (last - first))
        points = [first + (last - first) * i / 32.0 for i in range(33)]
        errors = [value(x) - slope * x for x in points]
        offset = round((min(errors) + max(errors)) / 2.0)
        made += a.to_bytes(8, "little") + b"".join(n.to_bytes(8, "little", signed=True) for n in (slope, offset))
    return {"name": name, "of": of, "frac": frac, "to_frac": to_frac, "low": low, "high": high,
            "pieces": len(ends) - 1, "first": made[:24 * 8].hex(), "last": made[-24:].hex()}


def make():
    return {
        "fixed_keys": {"node": NODE_KEY.hex(), "leaf": LEAF_KEY.hex()},
        "mantissas": [[p, i, mantissa(p, i)] for p in (6, 15) for i in (0, 1, 45, 2047, 2048, 3000, 4094, 4095)],
        "exponentials": [
            exponential(64, 6, 20, 0),
            exponential(128, 6, 50, 0),
            exponential(128, 15, 31, 37),
            exponential(256, 15, 159, 165),
            exponential(512, 15, 415, 421),
            exponential(1024, 15, 927, 933),
        ],
        "comparisons": [
            comparison(20, [20], 16),
            comparison(64, [9, 40, 64], 1),
            comparison(128, [10, 128], 2),
        ],
        "splines": [
            pieces("1/x", 0, 24, 36, 122880, 69206016),
            pieces("1/sqrt", 384, 24, 52, 161061273, 3350074490880),
        ],
    }


if __name__ == "__main__":
    write_or_check(__doc__, FILE, make)
