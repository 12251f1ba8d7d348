"""Arrays as bytes and back. Bytes are those of the array's own memory wherever that is possible."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import _suf
from ._errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")

# Types that hold every output of a gate, so that the outputs can be written where they stay.
HOLD_ALL = ("bfloat16", "float32", "float64", "int64")


@dataclass
class Prepared:
    """An array whose bytes can be taken."""

    array: NDArray[Any]
    """In native byte order and contiguous."""

    fortran: bool
    """Whether its first index changes fastest."""

    dtype: np.dtype[Any]
    """The type that was asked for; its byte order may be another one."""

    @property
    def form(self) -> tuple[str, list[int], bool]:
        """Name of the type, lengths of the axes, order."""
        return self.array.dtype.name, list(self.array.shape), self.fortran

    @property
    def data(self) -> NDArray[np.uint8]:
        """The bytes, not copied."""
        return _bytes(self.array, self.fortran)

    def room(self) -> NDArray[Any] | None:
        """An array for the outputs, if its type holds them whatever they are."""
        import numpy as np

        if self.array.dtype.name not in HOLD_ALL:
            return None
        return np.empty(self.array.shape, self.array.dtype, order="F" if self.fortran else "C")

    def bytes_of(self, room: NDArray[Any]) -> NDArray[np.uint8]:
        """The bytes of an array from `room`."""
        return _bytes(room, self.fortran)

    def returned(self, data: NDArray[np.uint8], dtype: str) -> NDArray[Any]:
        """The array of these bytes."""
        import numpy as np

        flat = data.view(np.dtype(dtype))
        return flat.reshape(self.array.shape, order="F" if self.fortran else "C")

    def finished(self, array: NDArray[Any]) -> NDArray[Any]:
        """`array` in the byte order that was asked for."""
        same = array.dtype == self.dtype or array.dtype != self.array.dtype
        return array if same else array.astype(self.dtype)


def _bytes(array: NDArray[Any], fortran: bool) -> NDArray[np.uint8]:
    import numpy as np

    return (array.T if fortran else array).reshape(-1).view(np.uint8)


def prepare(x: object, fixed: bool) -> Prepared:
    """The array of `x`, or an InputError that says what to pass instead."""
    import numpy as np

    array = _array(x)
    dtype = array.dtype
    name = dtype.name
    if name in INTEGERS:
        _integers(name, fixed)
    elif name not in FLOATS:
        reason = {
            "b": "booleans are no numbers",
            "c": "complex numbers are not evaluated: pass x.real and x.imag",
            "O": "Python objects are not read",
            "f": "it differs between machines",
        }.get(dtype.kind, "it has no numbers")
        advice = "" if dtype.kind == "c" else "; pass x.astype('float32') if its values are numbers"
        raise InputError(f"the array's dtype is {name}: {reason}{advice}")
    elif fixed:
        raise InputError(f"the array's dtype is {name}, and fixed=True is for integers: leave it out")
    if array.size > _suf.MOST_ELEMENTS:
        raise InputError(
            f"the array has {array.size} elements, and a run at most {_suf.MOST_ELEMENTS}: cut it into several"
        )
    if not dtype.isnative:
        array = array.astype(dtype.newbyteorder("="))
    fortran = not array.flags.c_contiguous and array.flags.f_contiguous
    if not fortran:
        # Copies what is not contiguous, and nothing else.
        array = np.asarray(array, order="C")
    return Prepared(array, fortran, dtype)


def _integers(name: str, fixed: bool) -> None:
    if fixed:
        return
    if name != "int64":
        raise InputError(
            f"the array's dtype is {name}: pass fixed=True if its integers are fixed point with 12 fractional bits "
            "(4096 is 1.0); if they are plain numbers, pass x.astype('float64')"
        )
    warnings.warn(
        "the array is int64: it is taken as fixed point with 12 fractional bits (4096 is 1.0), and so is the output. "
        "Pass fixed=True to confirm that; pass x.astype('float64') if they are plain numbers",
        stacklevel=5,
    )


def _array(x: object) -> NDArray[Any]:
    import numpy as np

    if isinstance(x, np.ma.MaskedArray):
        raise InputError("the array has a mask, which would be lost: pass x.filled(VALUE)")
    if hasattr(x, "__cuda_array_interface__"):
        raise InputError("the tensor is on a GPU: pass x.cpu() (torch) or x.get() (cupy), which copies it")
    if type(x).__module__.split(".")[0] == "torch":
        x = _of_torch(x)
    try:
        return np.asarray(x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"this is no array: {error}") from error


def _of_torch(tensor: Any) -> Any:
    """The NumPy array of a tensor of torch, in the same memory."""
    if not hasattr(tensor, "device"):
        return tensor
    if tensor.device.type != "cpu":
        raise InputError(f"the tensor is on {tensor.device}: pass x.cpu(), which copies it")
    if tensor.requires_grad:
        raise InputError("the tensor requires a gradient, and none can be computed: pass x.detach()")
    try:
        return tensor.numpy()
    except (TypeError, RuntimeError) as error:
        raise InputError(f"NumPy has no such tensor ({error}): pass x.float()") from error
