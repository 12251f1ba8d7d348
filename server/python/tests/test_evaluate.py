"""Arrays in, arrays out."""

from __future__ import annotations

import math
import threading
import unittest
from pathlib import Path

import numpy as np

import suf

FOLDER = Path(__file__).parents[3]
X = np.linspace(-5, 5, 24)


def gelu(x: np.ndarray) -> np.ndarray:
    return np.array([v / 2 * (1 + math.erf(v / math.sqrt(2))) for v in x.astype(float).ravel()]).reshape(x.shape)


class Evaluate(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.client = suf.local(backend="cpu")

    @classmethod
    def tearDownClass(cls) -> None:
        cls.client.close()

    def check(self, x: np.ndarray) -> np.ndarray:
        y = self.client.evaluate(x, gate="gelu", protocol="onehot")
        self.assertEqual((y.dtype, y.shape), (x.dtype, x.shape))
        self.assertLess(abs(y.astype(float) - gelu(x)).max(), 0.02)
        return y

    def test_types_stay(self) -> None:
        for dtype in ("float16", "float32", "float64", ">f4", ">f8", ">f2"):
            self.check(X.astype(dtype))

    def test_shapes_and_orders_stay(self) -> None:
        cube = X.reshape(2, 3, 4)
        for x in (X[0], cube, np.array(X[3]), cube[:, :, 1:2]):
            self.check(np.asarray(x))
        fortran = np.asfortranarray(cube)
        self.assertTrue(self.check(fortran).flags.f_contiguous)
        self.check(cube.transpose(1, 0, 2))
        self.check(X[::-1])
        self.check(X[::3])
        frozen = X.copy()
        frozen.flags.writeable = False
        self.check(frozen)

    def test_numbers_and_lists_are_arrays(self) -> None:
        self.assertEqual(self.client.evaluate(1.5, gate="relu").tolist(), 1.5)
        self.assertEqual(self.client.evaluate([[1.0, -1.0]], gate="relu").tolist(), [[1.0, 0.0]])

    def test_integers_are_fixed_point(self) -> None:
        for dtype in ("int64", "int32", ">i8"):
            y = self.client.evaluate(np.array([4096, -4096], dtype), gate="relu", fixed=True)
            self.assertEqual((y.dtype, y.tolist()), (np.dtype(dtype), [4096, 0]))
        with self.assertWarnsRegex(UserWarning, "fixed=True") as caught:
            self.client.evaluate(np.array([4096]), gate="relu")
        self.assertEqual(caught.filename, __file__)

    def test_an_output_beyond_its_type_comes_in_a_wider_one(self) -> None:
        with self.assertWarnsRegex(UserWarning, "the output is int64") as caught:
            y = self.client.evaluate(np.array([-120, 5], "int8"), gate="softplus", protocol="dpf", fixed=True)
        self.assertEqual((y.dtype, caught.filename), (np.dtype("int64"), __file__))
        self.assertGreater(y.min(), 127)

    def test_every_protocol_and_the_choice(self) -> None:
        for protocol in ("onehot", "dpf", "suf", "sigma", None):
            y = self.client.evaluate(X, gate="gelu", protocol=protocol)
            self.assertLess(abs(y - gelu(X)).max(), 0.02, protocol)
        assert self.client.last is not None
        self.assertIn("between the parties", self.client.last.runs[0]["why"])

    def test_figures_are_those_that_describe_declares(self) -> None:
        for protocol in ("onehot", "dpf", "suf", "sigma"):
            x = np.zeros(70_000, np.float32)
            self.client.evaluate(x, gate="silu", protocol=protocol)
            last = self.client.last
            [row, *_] = suf.describe("silu", protocol=protocol, elements=x.size)["protocols"]
            assert last is not None
            self.assertEqual(last.rounds, row["rounds"])
            total = row["total"]
            # A seed comes with the keys.
            keys = (total["key_bytes_p0"] + 32, total["key_bytes_p1"] + 32)
            self.assertEqual(last.key_bytes, keys)
            self.assertEqual(last.sent_bytes, 2 * total["bits_per_direction"] // 8)
            self.assertEqual((len(last.runs), last.runs[0]["wrong"]), (1, 0))
            self.assertGreater(last.eval_ms, 0)

    def test_progress_counts_elements(self) -> None:
        told: list[tuple[int, int, str]] = []
        self.client.evaluate(
            np.zeros(140_000), gate="gelu", protocol="onehot", progress=lambda *news: told.append(news)
        )
        done = [news[0] for news in told]
        self.assertEqual(done, sorted(done))
        self.assertEqual(told[-1][:2], (140_000, 140_000))
        self.assertEqual(sorted(set(done) - {0}), [65_536, 131_072, 140_000])

    def test_two_threads_use_one_client(self) -> None:
        failed: list[BaseException] = []

        def work(seed: int) -> None:
            try:
                for _ in range(5):
                    self.check(np.random.default_rng(seed).normal(size=(100, 7)))
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failed, [])

    def test_other_threads_run_meanwhile(self) -> None:
        going, counted = threading.Event(), threading.Event()

        def count() -> None:
            going.wait()
            counted.set()

        thread = threading.Thread(target=count)
        thread.start()

        def told(*_: object) -> None:
            going.set()
            # It can be set by the other thread alone.
            counted.wait()

        self.client.evaluate(X, gate="gelu", progress=told)
        thread.join()
        self.assertTrue(counted.is_set())

    def test_a_gate_may_be_a_file(self) -> None:
        path = str(FOLDER / "config" / "gates" / "mish.toml")
        y = self.client.evaluate(X, gate=path, protocol="onehot")
        self.assertLess(abs(y - X * np.tanh(np.log1p(np.exp(X)))).max(), 0.02)
        self.assertEqual(suf.describe(path)["gate"], "mish")


if __name__ == "__main__":
    unittest.main()
