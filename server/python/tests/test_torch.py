"""`suf.torch`, where torch is installed."""

from __future__ import annotations

import unittest

import torch

import suf
import suf.torch
from test_examples import run


class Activations(unittest.TestCase):
    def test_the_example_runs(self) -> None:
        self.assertEqual(run("python torch", {"__name__": "examples", "suf": suf}), 1)

    def test_types_and_shapes_stay(self) -> None:
        with suf.local() as client, torch.no_grad():
            gelu = suf.torch.Activation(client, "gelu", "onehot")
            self.assertIn("'gelu', 'onehot'", repr(gelu))
            for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
                x = torch.randn(3, 5, 7).to(dtype).transpose(0, 2)
                y = gelu(x)
                self.assertEqual((y.dtype, y.shape), (x.dtype, x.shape))
                expected = torch.nn.functional.gelu(x.double())
                self.assertLess(float((y.double() - expected).abs().max()), 0.05)

    def test_tensors_are_arrays(self) -> None:
        with suf.local() as client:
            x = torch.randn(4, 4)
            y = client.evaluate(x, gate="gelu", protocol="onehot")
            self.assertLess(abs(y - torch.nn.functional.gelu(x).numpy()).max(), 0.05)
            for wrong, words in [
                (x.requires_grad_(), "x.detach()"),
                (x.detach().to(torch.bfloat16), "x.float()"),
                (torch.empty(2, device="meta"), "x.cpu()"),
            ]:
                with self.assertRaisesRegex(suf.InputError, words.replace("(", r"\(").replace(")", r"\)")):
                    client.evaluate(wrong, gate="gelu")

    def test_gradients_are_refused(self) -> None:
        with suf.local() as client:
            gelu = suf.torch.Activation(client, "gelu")
            x = torch.randn(4, requires_grad=True)
            with self.assertRaisesRegex(suf.InputError, "no_grad"):
                gelu(x)
            with self.assertRaisesRegex(suf.InputError, "int64"):
                gelu(torch.arange(4))
            with torch.no_grad():
                self.assertEqual(gelu(x).shape, x.shape)


if __name__ == "__main__":
    unittest.main()
