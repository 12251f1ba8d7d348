"""The extension. Its names are no interface: the package has that."""

from collections.abc import Callable
from os import PathLike
from typing import final

import numpy as np
from numpy.typing import NDArray

VERSION: str
MOST_ELEMENTS: int

_Progress = Callable[[int, int, str], object]

def daemon(arguments: list[str]) -> int: ...
def describe(gate: str, protocol: str | None, shape: str | None, elements: int | None) -> str: ...

@final
class Stop:
    def __init__(self) -> None: ...
    def send(self) -> None: ...

@final
class Client:
    @staticmethod
    def connect(
        party0: str,
        party1: str,
        identity: str | PathLike[str],
        key: str | PathLike[str] | None,
        ca: str | PathLike[str] | None,
    ) -> Client: ...
    @staticmethod
    def local(
        program: tuple[str, list[str]],
        backend: str,
        link: str,
        model: tuple[str | PathLike[str], str] | None,
    ) -> Client: ...
    @property
    def is_local(self) -> bool: ...
    @property
    def closed(self) -> bool: ...
    def evaluate(
        self,
        data: NDArray[np.uint8],
        form: tuple[str, list[int], bool],
        gate: str,
        protocol: str | None,
        shape: str | None,
        deadline: float | None,
        out: NDArray[np.uint8] | None,
        stop: Stop,
        progress: _Progress | None,
    ) -> tuple[str, tuple[NDArray[np.uint8], str, str | None] | None]: ...
    def close(self) -> None: ...
    def forget(self) -> None: ...

@final
class Model:
    def __init__(self, path: str | PathLike[str], plan: str | PathLike[str] | None) -> None: ...
    @property
    def setup(self) -> tuple[PathLike[str], str]: ...
    @property
    def dimension(self) -> int: ...
    @property
    def positions(self) -> int: ...
    def encode(
        self,
        client: Client,
        texts: list[str],
        batch: int,
        padded: bool | None,
        truncate: bool,
        deadline_s: float | None,
        stop: Stop,
        progress: _Progress | None,
    ) -> tuple[NDArray[np.float32], str]: ...
