"""Clients: of two parties somewhere, or of three processes on this machine."""

from __future__ import annotations

import asyncio
import os
import sys
import warnings
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from . import _suf
from ._arrays import prepare
from ._errors import Error, InputError
from ._figures import Figures
from ._progress import Progress, reporting

if TYPE_CHECKING:
    from numpy.typing import NDArray

_T = TypeVar("_T")

_clients: weakref.WeakSet[_suf.Client] = weakref.WeakSet()


def _forget_all() -> None:
    for native in list(_clients):
        native.forget()


# A copy of this process has no threads that serve the connections, and must not end the daemons of a local run.
os.register_at_fork(after_in_child=_forget_all)


async def in_thread(call: Callable[[_suf.Stop], _T]) -> _T:
    """The result of `call`, which runs on a thread of the event loop's pool. It is ended when the awaiting task is cancelled."""
    stop = _suf.Stop()
    running = asyncio.get_running_loop().run_in_executor(None, call, stop)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.send()
        try:
            # It ends within a second: the run is cancelled at both parties first.
            await running
        except Error:
            pass
        raise


class Client:
    """Both parties, as a client. Every method may be called from several threads at once.

    party0, party1: control addresses such as "10.0.0.1:7101".
    identity: this client's certificate, a file such as "pki/client.pem".
    key: its private key; without it the file beside the certificate that ends in .key.
    ca: the authority's certificate; without it ca.pem beside the certificate.

    The variables SUF_PARTY0, SUF_PARTY1 and SUF_IDENTITY stand in for what is not given. Connects at once: PeerError if a
    party does not answer, ConfigurationError if one side does not accept the other's certificate.
    """

    def __init__(
        self,
        *,
        party0: str | None = None,
        party1: str | None = None,
        identity: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        ca: str | os.PathLike[str] | None = None,
    ) -> None:
        addresses = [
            given or os.environ.get(name) or _missing(f"{keyword}=", name)
            for given, keyword, name in [(party0, "party0", "SUF_PARTY0"), (party1, "party1", "SUF_PARTY1")]
        ]
        identity = identity or os.environ.get("SUF_IDENTITY") or _missing("identity=", "SUF_IDENTITY")
        self._use(_suf.Client.connect(addresses[0], addresses[1], identity, key, ca))

    def _use(self, native: _suf.Client) -> None:
        self._native = native
        self._last: Figures | None = None
        _clients.add(native)
        # Also at the end of the interpreter.
        self._finalizer = weakref.finalize(self, native.close)

    @property
    def closed(self) -> bool:
        """Whether it takes no calls any more."""
        return self._native.closed

    @property
    def last(self) -> Figures | None:
        """What the last call cost that ended well, on whichever thread; None before the first one."""
        return self._last

    def evaluate(
        self,
        x: Any,
        *,
        gate: str,
        protocol: str | None = None,
        shape: str | None = None,
        fixed: bool = False,
        deadline: float | None = None,
        progress: Progress = None,
    ) -> NDArray[Any]:
        """The values of `gate` at `x`, element by element, in an array of the same shape and dtype.

        x: an array of 1 to 10^8 elements and any shape, or what numpy.asarray takes. Floats (float16, float32, float64,
            bfloat16 of ml_dtypes) are real numbers, rounded to multiples of 2^-12. Integers are fixed point in units
            of 2^-12, and so are the outputs: int64 always, others with `fixed`. Tensors of torch are taken on the CPU
            and without a gradient.
        gate: a built-in name such as "gelu", or the path of a gate file or operator specification.
        protocol: "onehot", "dpf", "suf", "sigma" or "suf-lut". Without it the one that is fastest on the links as
            measured; `last.runs[0]["why"]` says why.
        shape: shape of `onehot`, as the gate file names it.
        fixed: integers are fixed point, whatever their type.
        deadline: seconds after which the parties end the run.
        progress: True for a bar on the terminal, or a function of (elements done, all, what is being done).

        Contiguous arrays in either order of the axes are read where they are. Others are copied once, and so are those
        in another byte order. An output beyond the range of a small type comes in a wider one, with a warning.

        InputError if a value is NaN, infinite or outside the gate's domain, or the dtype is none of these: nothing was
        sent. Ctrl-C cancels the run at both parties, within a second.
        """
        return self._evaluate(
            _suf.Stop(), x, gate=gate, protocol=protocol, shape=shape, fixed=fixed, deadline=deadline, progress=progress
        )

    async def evaluate_async(
        self,
        x: Any,
        *,
        gate: str,
        protocol: str | None = None,
        shape: str | None = None,
        fixed: bool = False,
        deadline: float | None = None,
        progress: Progress = None,
    ) -> NDArray[Any]:
        """As `evaluate`, for asyncio. A task that is cancelled ends the run at both parties.

        `progress` is called on a thread of the event loop's pool.
        """
        call = partial(
            self._evaluate, x=x, gate=gate, protocol=protocol, shape=shape, fixed=fixed, deadline=deadline, progress=progress
        )
        return await in_thread(call)

    def _evaluate(
        self,
        stop: _suf.Stop,
        x: Any,
        gate: str,
        protocol: str | None,
        shape: str | None,
        fixed: bool,
        deadline: float | None,
        progress: Progress,
    ) -> NDArray[Any]:
        prepared = prepare(x, fixed)
        out = prepared.room()
        with reporting(progress) as told:
            figures, returned = self._native.evaluate(
                prepared.data,
                prepared.form,
                gate,
                protocol,
                shape,
                deadline,
                None if out is None else prepared.bytes_of(out),
                stop,
                told,
            )
        self._last = Figures.parse(figures)
        if out is None:
            assert returned is not None
            data, dtype, wider = returned
            if wider is not None:
                warnings.warn(wider, stacklevel=3)
            out = prepared.returned(data, dtype)
        return prepared.finished(out)

    def close(self) -> None:
        """Ends open calls of other threads with InterruptedCall, then the connections. May be called again."""
        self._finalizer()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<suf.{type(self).__name__}{' closed' if self.closed else ''}>"


class Local(Client):
    """A client of a dealer and two parties on this machine, with certificates that are thrown away. See `suf.local`."""

    def __init__(
        self,
        *,
        backend: str = "auto",
        link: str = "loopback",
        model: str | os.PathLike[str] | None = None,
        plan: str | os.PathLike[str] | None = None,
        program: str | os.PathLike[str] | None = None,
    ) -> None:
        if backend not in ("auto", "cpu", "cuda"):
            raise InputError(f"backend = {backend!r}: it is 'auto', 'cpu' or 'cuda'")
        if plan is not None and model is None:
            raise InputError("plan= is the plan of a model: name the model's folder, too")
        setup = None if model is None else _suf.Model(model, plan).setup
        self._use(_suf.Client.local(_program(program), backend, link, setup))


def local(
    *,
    backend: str = "auto",
    link: str = "loopback",
    model: str | os.PathLike[str] | None = None,
    plan: str | os.PathLike[str] | None = None,
    program: str | os.PathLike[str] | None = None,
) -> Local:
    """Starts a dealer and two parties on this machine; a client of them, for a with-block.

    backend: what computes: "cpu", "cuda", or "auto" for a GPU where there is one.
    link: link profile: "loopback", another built-in name, or the path of a file.
    model: folder of a model whose programs they evaluate, for a `SentenceEncoder`.
    plan: its plan, a file; without it the one that `SentenceEncoder` takes.
    program: the command `suf`, if another one than this package's is to be started.

    It protects nothing: one machine has all shares. Use it to try and to test. The processes end with the block, or with
    this process, however that ends.
    """
    return Local(backend=backend, link=link, model=model, plan=plan, program=program)


def _missing(keyword: str, variable: str) -> str:
    raise InputError(f"{keyword} is missing, and so is the variable {variable}")


# What a daemon's interpreter runs: the extension alone, without this package and what that imports.
_DAEMON = "import sys; sys.path.insert(0, sys.argv.pop(1)); import _suf; sys.exit(_suf.daemon(sys.argv[1:]))"


def _program(given: str | os.PathLike[str] | None) -> tuple[str, list[str]]:
    """What to start, and its arguments before those of a daemon."""
    if given is not None:
        return os.fspath(given), []
    if not sys.executable:
        raise InputError("this interpreter does not know where it is: name the command `suf` by program=")
    folder = Path(str(_suf.__file__)).parent
    return sys.executable, ["-S", "-c", _DAEMON, str(folder)]
