#!/usr/bin/env python3
"""Makes products.json: known answers for products of masked wires, from a second implementation that shares no code with the first.

usage: make_products.py [--check]

Without arguments the file beside this script is written. With --check it is compared with what would be written. The exit
status is 1 if they differ. Needs the standard library only. Byte strings are in hex. Formulas: docs/protocols/products.md.
Numbers are Python's integers; each opened value is compared with the integer function.
"""
import hashlib
import pathlib

from written import write_or_check

FILE = pathlib.Path(__file__).with_name("products.json")
HEADS, TOKENS, DIM, SEQUENCES = 2, 3, 2, 2


def draw(label, count, size):
    """`count` numbers of `size` bytes that depend on a label alone."""
    return [int.from_bytes(hashlib.sha256(f"{label} {i}".encode()).digest()[:size], "little") for i in range(count)]


def packed(numbers, bits):
    """`bits` bits of each number, one after another from the lowest."""
    whole = sum((number % (1 << bits)) << i * bits for i, number in enumerate(numbers))
    return whole.to_bytes(-(-bits * len(numbers) // 8), "little").hex()


def shared(label, values, bits):
    """A field of `values`: what the seeded side has, and what is shipped to the other."""
    seeded = [share % (1 << bits) for share in draw(label, len(values), 8)]
    return seeded, [(value - share) % (1 << bits) for value, share in zip(values, seeded)]


class Case:
    def __init__(self, name, seeded, bits):
        """`seeded` is the party that expands its shares; what is made has `bits` bits."""
        self.name, self.seeded, self.bits = name, seeded, bits
        self.masks, self.hats, self.xs, self.pads, self.fields, self.loaded = [], [], [], [], [], []

    def wire(self, bits, xs):
        masks = [mask % (1 << bits) for mask in draw(f"{self.name} mask {len(self.masks)}", len(xs), 8)]
        self.masks.append(masks)
        self.xs.append(xs)
        self.hats.append([(x + mask) % (1 << bits) for x, mask in zip(xs, masks)])
        return masks

    def by_party(self, pair):
        return pair if self.seeded == 0 else pair[::-1]

    def pad(self, values, bits):
        self.pads.append(self.by_party(shared(f"{self.name} pad {len(self.pads)}", values, bits)))

    def field(self, values, bits):
        self.fields.append((bits, shared(f"{self.name} field {len(self.fields)}", values, bits)))

    def load(self, values):
        """A matrix of a loaded model, of 64 bits: the parties' shares of its mask, and what they opened of it."""
        shares = [draw(f"{self.name} loaded {len(self.loaded)} {party}", len(values), 8) for party in (0, 1)]
        opened = [(value + first + second) % (1 << 64) for value, first, second in zip(values, *shares)]
        self.loaded.append({"opened": opened, "masks": shares})

    def finish(self, share, expected):
        """`share` gives a party's shares from its number, its pads and its fields; `expected` is what they sum up to."""
        count, ring = len(expected), 1 << self.bits
        out = [[mask % ring for mask in draw(f"{self.name} made {party}", count, 8)] for party in (0, 1)]
        messages = []
        for party in (0, 1):
            fields = [self.by_party(pair)[party] for _, pair in self.fields]
            shares = share(party, [pad[party] for pad in self.pads], fields)
            messages.append([(value + mask) % ring for value, mask in zip(shares, out[party])])
        opened = [sum(pair) % ring for pair in zip(*messages)]
        for value, first, second, integers in zip(opened, *out, expected):
            assert (value - first - second) % ring in [integer % ring for integer in integers], self.name
        return {
            "name": self.name,
            "seeded": self.seeded,
            "masks": self.masks,
            "x_hat": self.hats,
            "loaded": self.loaded,
            "pads": self.pads,
            "streams": [packed(seeded, bits) for bits, (seeded, _) in self.fields],
            "explicit": "".join(packed(explicit, bits) for bits, (_, explicit) in self.fields),
            "made_masks": out,
            "messages": [packed(message, self.bits) for message in messages],
            "opened": opened,
        }


def numbers(label, count, bits):
    """Numbers of `bits` bits and a sign."""
    return [number % (1 << bits + 1) - (1 << bits) for number in draw(label, count, 8)]


def matrices(kind):
    """Scores and mixes: rows are numbered by sequence, head and token."""
    tokens = SEQUENCES * TOKENS * HEADS * DIM
    scores = SEQUENCES * HEADS * TOKENS * TOKENS
    case = Case(kind, 0, 33)
    x = case.wire(36, numbers(f"{kind} x", tokens if kind == "scores" else scores, 20))
    y = case.wire(40, numbers(f"{kind} y", tokens, 20))

    def of_token(wire, sequence, head, token, i):
        return wire[((sequence * TOKENS + token) * HEADS + head) * DIM + i]

    def of_scores(wire, sequence, head, row, column):
        return wire[((sequence * HEADS + head) * TOKENS + row) * TOKENS + column]

    def product(x, y):
        if kind == "scores":
            return [
                sum(of_token(x, s, h, row, i) * of_token(y, s, h, column, i) for i in range(DIM))
                for s in range(SEQUENCES) for h in range(HEADS) for row in range(TOKENS) for column in range(TOKENS)
            ]
        return [
            sum(of_scores(x, s, h, row, column) * of_token(y, s, h, column, i) for column in range(TOKENS))
            for s in range(SEQUENCES) for row in range(TOKENS) for h in range(HEADS) for i in range(DIM)
        ]

    case.pad(x, 33)
    case.pad(y, 33)
    case.field(product(x, y), 33)

    def share(party, pads, fields):
        x_hat, y_hat = case.hats
        terms = [product(x_hat, pads[1]), product(pads[0], y_hat), [-value for value in fields[0]]]
        public = product(x_hat, y_hat) if party == 0 else [0] * len(fields[0])
        return [whole - sum(parts) for whole, *parts in zip(public, *terms)]

    return case.finish(share, [[value] for value in product(*case.xs)])


def extended(hats, bits, dropped):
    """T and p of each number."""
    moved = [(hat + (1 << bits - 2)) % (1 << bits) for hat in hats]
    return [((u >> dropped) - (1 << bits - 2 - dropped), 1 - (u >> bits - 1)) for u in moved]


def of_masks(masks, bits, dropped):
    """mu and c of each mask."""
    return [(mask >> dropped, mask >> bits - 1) for mask in masks]


def rounded(x, dropped):
    return [x >> dropped, (x >> dropped) + 1]


ROWS, COLUMNS = 3, 4


def scale():
    (n, d), (m, e) = (52, 22), (48, 20)
    a, b = n - d, m - e
    case = Case("scale", 0, 64)
    r = of_masks(case.wire(n, numbers("scale x", ROWS * COLUMNS, 49)), n, d)
    s = of_masks(case.wire(m, numbers("scale y", ROWS, 45)), m, e)
    case.pad([mu for mu, _ in r], 64)
    case.pad([c for _, c in r], 64 - a)
    case.pad([nu for nu, _ in s], 64)
    case.pad([c for _, c in s], 64 - b)
    both = [(mask, s[i // COLUMNS]) for i, mask in enumerate(r)]
    case.field([mu * nu for (mu, _), (nu, _) in both], 64)
    case.field([c * nu for (_, c), (nu, _) in both], 64 - a)
    case.field([c * mu for (mu, _), (_, c) in both], 64 - b)
    case.field([c * of_row for (_, c), (_, of_row) in both], 64 - a - b)

    def share(party, pads, fields):
        shares = []
        for i, (t, p) in enumerate(extended(case.hats[0], n, d)):
            row = i // COLUMNS
            t_row, p_row = extended(case.hats[1], m, e)[row]
            mu, c, nu, c_row = pads[0][i], pads[1][i], pads[2][row], pads[3][row]
            mu_nu, c_nu, c_mu, c_c = (field[i] for field in fields)
            public = t * t_row if party == 0 else 0
            shares.append(
                public - t * nu - t_row * mu + mu_nu
                + (p_row * (t * c_row - c_mu) << b)
                + (p * (t_row * c - c_nu) << a)
                + (p * p_row * c_c << a + b)
            )
        return shares

    expected = [
        [first * second for first in rounded(x, d) for second in rounded(case.xs[1][i // COLUMNS], e)]
        for i, x in enumerate(case.xs[0])
    ]
    return case.finish(share, expected)


def square_sum():
    n, d = 52, 22
    a = n - d
    case = Case("square sum", 1, 64)
    r = of_masks(case.wire(n, numbers("square x", ROWS * COLUMNS, 49)), n, d)
    case.pad([mu for mu, _ in r], 64)
    case.pad([c for _, c in r], 64 - a)
    case.pad([mu * c for mu, c in r], 63 - a)
    rows = [range(row * COLUMNS, (row + 1) * COLUMNS) for row in range(ROWS)]
    case.field([sum(r[i][0] ** 2 for i in row) for row in rows], 64)
    public = extended(case.hats[0], n, d)

    def share(party, pads, fields):
        mu, c, c_mu = pads

        def square(i):
            t, p = public[i]
            return (
                (t * t if party == 0 else 0) - 2 * t * mu[i]
                + (p * (t * c[i] - c_mu[i]) << a + 1)
                + (p * c[i] << 2 * a)
            )

        return [sum(map(square, row)) + squares for row, squares in zip(rows, fields[0])]

    # The coin of each element follows from its masked low bits.
    low = (1 << d) - 1
    quotients = [(x >> d) + (hat & low < x & low) for x, hat in zip(case.xs[0], case.hats[0])]
    return case.finish(share, [[sum(quotients[i] ** 2 for i in row)] for row in rows])


def private():
    """X W + (y << 10) g + b, with three rows and two columns of W, and the same columns of b."""
    shift, width, rows_used, columns_used = 10, 5, (0, 2, 3), (1, 4)
    case = Case("private", 0, 50)
    r = case.wire(64, numbers("private x", ROWS * 3, 26))
    s = case.wire(48, numbers("private y", ROWS * 2, 16))
    case.pad(r, 64)
    case.pad(s, 48)
    sizes = [(4 * width, 13), (2, 13), (width, 45)]
    values = [numbers(f"private matrix {i}", count, bits) for i, (count, bits) in enumerate(sizes)]
    for matrix in values:
        case.load(matrix)

    def sums(x, y, matrices, with_summand):
        w, g, b = matrices
        return [
            sum(x[row * 3 + i] * w[of * width + column] for i, of in enumerate(rows_used))
            + (y[row * 2 + i] << shift) * g[i]
            + (b[column] if with_summand else 0)
            for row in range(ROWS) for i, column in enumerate(columns_used)
        ]

    masks = [[first + second for first, second in zip(*loaded["masks"])] for loaded in case.loaded]
    opened = [loaded["opened"] for loaded in case.loaded]
    case.field(sums(r, s, masks, False), 50)

    def share(party, pads, fields):
        mine = [loaded["masks"][party] for loaded in case.loaded]
        terms = [sums(*case.hats, mine, True), sums(*pads, opened, False), [-value for value in fields[0]]]
        public = sums(*case.hats, opened, True) if party == 0 else [0] * len(fields[0])
        return [whole - sum(parts) for whole, *parts in zip(public, *terms)]

    return case.finish(share, [[value] for value in sums(*case.xs, values, True)])


def make():
    return [matrices("scores"), matrices("mix"), scale(), square_sum(), private()]


if __name__ == "__main__":
    write_or_check(__doc__, FILE, make)
