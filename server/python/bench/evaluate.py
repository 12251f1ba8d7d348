"""`Client.evaluate` beside `suf eval`: the same values, the same two parties, one after the other.

    python bench/evaluate.py PATH_OF_SUF [ELEMENTS [REPEATS]]

`suf eval` is timed from its start to its end: it reads a file and writes one. `evaluate` is timed as a call. It also prints by how
much the memory of this process grows at most during a call.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import suf

GATE, PROTOCOL = "gelu", "onehot"


class Daemon:
    """A daemon of `suf` that ends with this process."""

    def __init__(self, program: str, folder: Path, name: str, config: str) -> None:
        (folder / f"{name}.toml").write_text(config)
        self._process = subprocess.Popen(
            [program, "dealer" if name == "dealer" else "party", "--config", f"{name}.toml", "--until-stdin-closes"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / f"{name}.log").open("w"),
        )
        assert self._process.stdout is not None
        self.ready = json.loads(self._process.stdout.readline())

    def end(self) -> None:
        self._process.communicate()


def start(program: str, folder: Path) -> list[Daemon]:
    """A dealer and two parties."""
    subprocess.run([program, "pki", "init", "pki"], cwd=folder, check=True, capture_output=True)

    def config(name: str, own: str) -> str:
        identity = f'[identity]\nca = "pki/ca.pem"\ncert = "pki/{name}.pem"\nkey = "pki/{name}.key"\n'
        return f'control = "127.0.0.1:0"\nlink = "loopback"\nbackend = "cpu"\n{own}\n{identity}'

    dealer = Daemon(program, folder, "dealer", config("dealer", 'listen = "127.0.0.1:0"'))
    party = 'party = {}\ndealer = "{}"\nstate_dir = "party{}"\npeer = {{ {} = "{}" }}'
    keys = dealer.ready["keys"]
    first = Daemon(program, folder, "party0", config("party0", party.format(0, keys, 0, "listen", "127.0.0.1:0")))
    peer = first.ready["peer"]
    second = Daemon(program, folder, "party1", config("party1", party.format(1, keys, 1, "connect", peer)))
    return [dealer, first, second]


def resident(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) * 1024


def main() -> None:
    program = str(Path(sys.argv[1]).absolute())
    elements = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    repeats = int(sys.argv[3]) if len(sys.argv) > 3 else 9
    folder = Path(tempfile.mkdtemp(prefix="suf-bench-"))
    daemons = start(program, folder)
    x = np.random.default_rng(1).normal(0, 2, elements).astype(np.float32)
    np.save(folder / "x.npy", x)
    urls = [f"https://{daemon.ready['control']}" for daemon in daemons[1:]]
    command = [program, "eval", "--gate", GATE, "--protocol", PROTOCOL, "--inputs", "x.npy", "--outputs", "y.npy"]
    command += ["--party0", urls[0], "--party1", urls[1], "--identity", "pki/client.pem"]
    times: dict[str, list[float]] = {"suf eval": [], "evaluate": []}
    grown = []
    with suf.Client(party0=urls[0], party1=urls[1], identity=folder / "pki/client.pem") as client:
        for repeat in range(repeats + 1):
            began = time.perf_counter()
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
            middle = time.perf_counter()
            # From here on the peak is that of the call.
            Path("/proc/self/clear_refs").write_text("5")
            before = resident("VmRSS:")
            began_call = time.perf_counter()
            y = client.evaluate(x, gate=GATE, protocol=PROTOCOL)
            ended = time.perf_counter()
            grown.append(resident("VmHWM:") - before)
            if repeat:  # The first one warms up.
                times["suf eval"].append(middle - began)
                times["evaluate"].append(ended - began_call)
        assert abs(y - np.load(folder / "y.npy")).max() < 0.05
    for name, values in times.items():
        low, middle, high = statistics.quantiles(values, n=4)
        print(f"{name}: median {middle * 1e3:.1f} ms, quartiles {low * 1e3:.1f} to {high * 1e3:.1f}, {len(values)} calls")
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"ratio of the medians: {medians['evaluate'] / medians['suf eval']:.3f}")
    print(f"memory grows by {statistics.median(grown[1:]) / 1e6:.1f} MB at most in a call; the output has {x.nbytes / 1e6:.1f} MB")
    for daemon in reversed(daemons):
        daemon.end()


if __name__ == "__main__":
    main()
