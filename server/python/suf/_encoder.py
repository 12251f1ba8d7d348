"""Sentence encoders."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from . import _suf
from ._client import Client, in_thread
from ._errors import InputError
from ._figures import Figures
from ._progress import Progress, reporting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# As for `suf embed --batch`.
_MOST_TOGETHER = 256


class SentenceEncoder:
    """Vectors of texts that neither party sees. It is used as an encoder of sentence-transformers.

    model: a Hugging Face folder with config.json, model.safetensors and tokenizer.json, of a BERT.
    client: both parties have to have loaded the same model; `suf.local(model=...)` starts such parties.
    plan: bounds of the values in the model, a file; without it plan.toml in the folder, or a plan that ships.

    This machine cuts a text into tokens and looks up their embeddings. The parties evaluate the layers on shares. This
    machine pools and normalises as the folder says. It evaluates each text in floats first: values beyond the plan's
    bounds would come out wrong, and no party could see that.
    """

    def __init__(
        self, model: str | os.PathLike[str], client: Client, *, plan: str | os.PathLike[str] | None = None
    ) -> None:
        self._model = _suf.Model(model, plan)
        self._client = client
        self._last: Figures | None = None

    @property
    def dimension(self) -> int:
        """Elements of a vector."""
        return self._model.dimension

    @property
    def max_tokens(self) -> int:
        """Most tokens of a text."""
        return self._model.positions

    @property
    def last(self) -> Figures | None:
        """What the last call cost that ended well; None before the first one."""
        return self._last

    def encode(
        self,
        texts: str | Iterable[str],
        batch_size: int = 32,
        *,
        length: str | None = None,
        truncate: bool = False,
        deadline: float | None = None,
        progress: Progress = None,
    ) -> NDArray[np.float32]:
        """The vectors of `texts`: float32, a row of `dimension` elements for each text. One string gives one vector.

        batch_size: texts that are evaluated together, 1 to 256 at most. They have equally many tokens, and the keys of
            one run stay below 1 GiB.
        length: "exact" if the number of tokens may be public, "bucket" if padding hides it. Without it "exact" for
            `suf.local()`, else "bucket".
        truncate: cuts a text that is too long, instead of refusing it.
        deadline: seconds after which the parties end a run; there is one for each batch.
        progress: True for a bar on the terminal, or a function of (texts done, all, what is being done).

        InputError if a text is too long or leaves the plan's bounds: nothing was sent. Ctrl-C cancels the run at both
        parties, within a second.
        """
        return self._encode(_suf.Stop(), texts, batch_size, length, truncate, deadline, progress)

    async def encode_async(
        self,
        texts: str | Iterable[str],
        batch_size: int = 32,
        *,
        length: str | None = None,
        truncate: bool = False,
        deadline: float | None = None,
        progress: Progress = None,
    ) -> NDArray[np.float32]:
        """As `encode`, for asyncio. A task that is cancelled ends the run at both parties.

        `progress` is called on a thread of the event loop's pool.
        """
        call = partial(
            self._encode,
            texts=texts,
            batch_size=batch_size,
            length=length,
            truncate=truncate,
            deadline=deadline,
            progress=progress,
        )
        return await in_thread(call)

    def _encode(
        self,
        stop: _suf.Stop,
        texts: str | Iterable[str],
        batch_size: int,
        length: str | None,
        truncate: bool,
        deadline: float | None,
        progress: Progress,
    ) -> NDArray[np.float32]:
        if not 1 <= batch_size <= _MOST_TOGETHER:
            raise InputError(f"batch_size = {batch_size}: it is a whole number from 1 to {_MOST_TOGETHER}")
        if length not in (None, "exact", "bucket"):
            raise InputError(f"length = {length!r}: it is 'exact' or 'bucket'")
        one = isinstance(texts, str)
        all_ = _texts([texts] if one else texts)
        with reporting(progress) as told:
            flat, figures = self._model.encode(
                self._client._native,
                all_,
                batch_size,
                None if length is None else length == "bucket",
                truncate,
                deadline,
                stop,
                told,
            )
        self._last = self._client._last = Figures.parse(figures)
        vectors = flat.reshape(len(all_), self.dimension)
        return vectors[0] if one else vectors


def _texts(texts: Any) -> list[str]:
    try:
        listed = list(texts)
    except TypeError as error:
        raise InputError(f"texts are strings in a list, not a {type(texts).__name__}") from error
    for at, text in enumerate(listed):
        if not isinstance(text, str):
            raise InputError(f"text {at + 1} is a {type(text).__name__}, not a string")
    return [str(text) for text in listed]
