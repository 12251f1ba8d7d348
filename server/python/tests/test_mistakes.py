"""What cannot be taken, and who is to blame, as exceptions with types."""

from __future__ import annotations

import os
import pickle
import unittest
from pathlib import Path

import numpy as np

import suf


class OnGpu:
    __cuda_array_interface__: dict[str, object] = {}


class Inputs(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.client = suf.local()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.client.close()

    def refused(self, x: object, words: str, **options: object) -> None:
        with self.assertRaises(suf.InputError) as caught:
            self.client.evaluate(x, **{"gate": "gelu", "protocol": "onehot", **options})  # type: ignore[arg-type]
        self.assertIn(words, str(caught.exception))
        self.assertIsInstance(caught.exception, ValueError)
        self.assertIsNone(self.client.last, "nothing was sent")

    def test_values(self) -> None:
        for wrong in (np.nan, np.inf, -np.inf, 1e30, 8193.0):
            x = np.zeros((2, 3), np.float32)
            x[1, 2] = wrong
            self.refused(x, "[1, 2]")
            self.refused(np.asfortranarray(x), "[1, 2]")

    def test_types(self) -> None:
        for x, words in [
            (np.array([True]), "bool"),
            (np.array([1j]), "x.real"),
            (np.array([object()]), "object"),
            (np.array(["1"]), "numbers"),
            (np.array([1], "datetime64[s]"), "numbers"),
            (np.array([1], np.longdouble), "float"),
            (np.zeros(2, [("a", "f4")]), "numbers"),
            (np.array([1], "int32"), "fixed=True"),
            (np.array([1], "uint8"), "fixed=True"),
            (np.ma.masked_array([1.0], mask=[True]), "filled"),
            (OnGpu(), "GPU"),
            ([[1.0], [1.0, 2.0]], "no array"),
            (None, "object"),
            ("text", "numbers"),
        ]:
            self.refused(x, words)
        self.refused(np.array([1.0]), "leave it out", fixed=True)

    def test_sizes(self) -> None:
        for x in (np.zeros(0), np.zeros((3, 0, 2)), []):
            self.refused(x, "empty")
        # One value, seen 10^8 + 1 times: the copy that this asks for is refused before it is made.
        self.refused(np.broadcast_to(np.float32(1), 100_000_001), "100000001 elements")

    def test_names(self) -> None:
        self.refused([1.0], "did you mean `gelu`", gate="gleu")
        self.refused([1.0], "no-such.toml", gate="no-such.toml")
        self.refused([1.0], "protocol", protocol="one-hot")
        self.refused([1.0], "`full`", shape="ful")
        for wrong in (0, -1, float("nan"), 1e9):
            self.refused([1.0], "seconds", deadline=wrong)
        with self.assertRaises(suf.InputError):
            suf.describe("gleu")
        with self.assertRaises(suf.InputError):
            suf.describe("gelu", protocol="one-hot")
        with self.assertRaises(suf.InputError):
            suf.local(backend="tpu")
        with self.assertRaises(suf.InputError):
            suf.local(plan="plan.toml")
        with self.assertRaises(suf.InputError):
            suf.local(model="no-such-folder")
        with self.assertRaises(suf.InputError):
            suf.SentenceEncoder("no-such-folder", self.client)


class Faults(unittest.TestCase):
    """Each kind, from daemons elsewhere."""

    def test_nobody_listens(self) -> None:
        with self.assertRaises(suf.PeerError) as caught:
            suf.Client(party0="127.0.0.1:1", party1="127.0.0.1:2", identity=os.environ["SUF_IDENTITY"])
        self.assertIn(caught.exception.place, ("party0", "party1"))

    def test_addresses_and_files(self) -> None:
        identity = os.environ["SUF_IDENTITY"]
        for party0, party1, words in [
            ("a", "b:2", "no port"),
            ("http://a:1", "b:2", "https"),
            ("a:1", "a:1", "two daemons"),
        ]:
            with self.assertRaisesRegex(suf.InputError, words):
                suf.Client(party0=party0, party1=party1, identity=identity)
        with self.assertRaises(suf.InputError):
            suf.Client(identity="no-such.pem")
        address = os.environ.pop("SUF_PARTY1")
        try:
            with self.assertRaisesRegex(suf.InputError, "SUF_PARTY1"):
                suf.Client()
        finally:
            os.environ["SUF_PARTY1"] = address

    def test_a_certificate_of_another_authority(self) -> None:
        with self.assertRaises(suf.ConfigurationError) as caught:
            suf.Client(identity=os.environ["SUF_STRANGER"])
        self.assertIn(caught.exception.place, ("party0", "party1"))

    def test_a_gate_that_the_parties_do_not_take(self) -> None:
        with suf.Client() as client, self.assertRaises(suf.ConfigurationError) as caught:
            client.evaluate([1.0], gate="gelu", protocol="sigma")
        self.assertIn(caught.exception.place, ("party 0", "party 1"))

    def test_a_certificate_of_another_role(self) -> None:
        observer = Path(os.environ["SUF_IDENTITY"]).with_name("observer.pem")
        with suf.Client(identity=observer) as client, self.assertRaises(suf.RequestError) as caught:
            client.evaluate([1.0], gate="gelu", protocol="onehot")
        self.assertIn(caught.exception.place, ("party 0", "party 1"))

    def test_no_gpu(self) -> None:
        if os.path.exists("/dev/nvidiactl"):
            return
        with self.assertRaisesRegex(suf.DeviceError, "CUDA|cuda|GPU"):
            suf.local(backend="cuda")

    def test_errors_can_be_sent_to_another_process(self) -> None:
        error = pickle.loads(pickle.dumps(suf.PeerError("party 1 is gone", "party 1")))
        self.assertEqual((type(error), str(error), error.place), (suf.PeerError, "party 1 is gone", "party 1"))


if __name__ == "__main__":
    unittest.main()
