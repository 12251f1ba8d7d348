#!/usr/bin/env python3
"""Whether a party used a key twice, from its log alone: python3 tests/key_reuse.py party0.log party1.log

The log is written with RUST_LOG=info,suf_server::captured=trace. This shares no code with the program. Breaches:
  - a batch burnt twice;
  - a frame sent before its batch was burnt, or by another run than the one that burnt it;
  - the same step of the same tile of the same node of a batch sent twice;
  - a payload of 16 bytes or more sent twice: the same masks on the same values, since a fresh mask makes it fresh;
  - a masked matrix of a load that changes, or that another load has, too.
Exit status 0 without a breach, 1 with one, 2 if a log has nothing to check.
"""

import re
import sys

FIELD = re.compile(r"(\w+)=\"?(?:hash:)?([0-9a-f]+)\"?")
MARKS = ("batch burnt", "suf_server::captured: sent", "suf_server::captured: kept")


def check(path):
    burnt, steps, payloads, breaches = {}, set(), {}, []
    matrices, of_load = {}, {}
    with open(path, encoding="utf-8", errors="replace") as log:
        for number, line in enumerate(log, 1):
            mark = next((mark for mark in MARKS if mark in line), None)
            if mark is None:
                continue
            fields = dict(FIELD.findall(line.split(mark, 1)[1]))
            # A killed process may leave half a line.
            if "run" not in fields or len(fields.get("batch", "")) != 32:
                continue
            run, batch = fields["run"], fields["batch"]
            where = f"{path}:{number}: batch {batch}"
            if mark == MARKS[0]:
                if batch in burnt:
                    breaches.append(f"{where} was burnt before")
                burnt[batch] = run
                continue
            if len(fields.get("hash", "")) != 64:
                continue
            if mark == MARKS[2]:
                matrix = (fields["load"], fields["matrix"])
                if matrices.setdefault(matrix, fields["hash"]) != fields["hash"]:
                    breaches.append(f"{where}: matrix {matrix[1]} of the load {matrix[0]} has changed")
                if of_load.setdefault(fields["hash"], matrix) != matrix:
                    breaches.append(f"{where}: matrix {matrix[1]} of the load {matrix[0]} is that of another")
                continue
            if burnt.get(batch) != run:
                breaches.append(f"{where}: run {run} sent a frame without having burnt it")
            step = (batch, fields["node"], fields["tile"], fields["step"])
            if step in steps:
                breaches.append(f"{where}: step {step[3]} of tile {step[2]} of node {step[1]} was sent before")
            steps.add(step)
            if int(fields["bytes"]) >= 16:
                if fields["hash"] in payloads:
                    breaches.append(f"{where}: the payload of {payloads[fields['hash']]} again")
                payloads[fields["hash"]] = where
    return burnt, steps, breaches


def main():
    status = 0
    for path in sys.argv[1:]:
        burnt, steps, breaches = check(path)
        print(f"{path}: {len(burnt)} batches burnt, {len(steps)} frames sent, {len(breaches)} keys reused")
        for breach in breaches:
            print(breach)
        status = max(status, 1 if breaches else 0, 0 if burnt and steps else 2)
    return status


if __name__ == "__main__":
    sys.exit(main() if len(sys.argv) > 1 else 2)
