"""What a gate costs, before anything runs."""

from __future__ import annotations

import json
from typing import Any

from . import _suf


def describe(
    gate: str, protocol: str | None = None, shape: str | None = None, elements: int | None = None
) -> dict[str, Any]:
    """What `gate` computes and costs, as `suf describe --json` says it. Nothing runs.

    gate: a built-in name such as "gelu", or the path of a gate file or operator specification.
    protocol: only this one; without it each that can evaluate the gate.
    shape: only this shape of `onehot`; without it each.
    elements: totals for a tensor of so many elements.

    The list "protocols" of the result has a row for each protocol and shape: "domain" (real numbers),
    "key_bytes_per_elem" (mean of both parties), "bits_per_elem" (that each party sends), "rounds",
    "expected_max_err" and others.
    """
    return dict(json.loads(_suf.describe(gate, protocol, shape, elements)))
