"""Vectors of texts, by the model in the folder that SUF_MODEL names. The harness compares them with a reference."""

from __future__ import annotations

import asyncio
import os
import unittest

import numpy as np

import suf

MODEL = os.environ["SUF_MODEL"]
TEXTS = os.environ["SUF_TEXTS"].split("\n")


class Encode(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.client = suf.local(model=MODEL)
        cls.encoder = suf.SentenceEncoder(MODEL, cls.client)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.client.close()

    def test_a_row_for_each_text_in_their_order(self) -> None:
        vectors = self.encoder.encode(TEXTS)
        self.assertEqual((vectors.shape, vectors.dtype), ((len(TEXTS), self.encoder.dimension), np.dtype("float32")))
        np.save(os.environ["SUF_VECTORS"], vectors)
        again = self.encoder.encode(reversed(TEXTS))[::-1]
        self.assertGreater((vectors * again).sum(1).min(), 0.9999)
        one = self.encoder.encode(TEXTS[0])
        self.assertEqual(one.shape, (self.encoder.dimension,))
        self.assertGreater(vectors[0] @ one, 0.9999)

    def test_batches_and_figures(self) -> None:
        texts = TEXTS[:1] * 5
        for batch_size, batches in ((32, [4, 1]), (2, [2, 2, 1]), (1, [1] * 5)):
            told: list[tuple[int, int, str]] = []
            self.encoder.encode(texts, batch_size=batch_size, progress=lambda *news: told.append(news))
            last = self.encoder.last
            assert last is not None
            self.assertEqual([run["texts"] for run in last.runs], batches)
            self.assertEqual(told[-1][:2], (5, 5))
            self.assertGreater(last.rounds, 0)
            self.assertEqual(last, self.client.last)

    def test_padding_hides_lengths(self) -> None:
        self.encoder.encode(TEXTS, length="bucket")
        bucket = self.encoder.last
        self.encoder.encode(TEXTS, length="exact")
        exact = self.encoder.last
        assert bucket is not None and exact is not None
        self.assertLess(len(bucket.runs), len(exact.runs))

    def test_parties_elsewhere(self) -> None:
        with suf.Client() as client:
            encoder = suf.SentenceEncoder(MODEL, client)
            vectors = asyncio.run(encoder.encode_async(TEXTS))
        self.assertGreater((vectors * self.encoder.encode(TEXTS)).sum(1).min(), 0.999)

    def test_parties_without_the_model_are_named(self) -> None:
        with suf.local() as client, self.assertRaisesRegex(suf.InputError, r"party 0 has not loaded the model"):
            suf.SentenceEncoder(MODEL, client).encode(TEXTS)

    def test_mistakes(self) -> None:
        too_long = [" ".join("a" * self.encoder.max_tokens)]
        for texts, words in [
            ([1], "text 1 is a int"),
            (["a", None], "text 2 is a NoneType"),
            (7, "not a int"),
            (too_long, "tokens"),
        ]:
            with self.assertRaisesRegex(suf.InputError, words):
                self.encoder.encode(texts)  # type: ignore[arg-type]
        self.assertEqual(self.encoder.encode(too_long, truncate=True).shape[0], 1)
        for options in ({"batch_size": 0}, {"batch_size": 257}, {"length": "short"}, {"deadline": 0}):
            with self.assertRaises(suf.InputError):
                self.encoder.encode(TEXTS, **options)  # type: ignore[arg-type]
        self.assertEqual(self.encoder.encode([]).shape, (0, self.encoder.dimension))


if __name__ == "__main__":
    unittest.main()
