"""Activations of torch models, evaluated by two parties. Forward only: there is no gradient."""

from __future__ import annotations

from typing import Any

import torch

from ._client import Client
from ._errors import InputError

__all__ = ["Activation"]


class Activation(torch.nn.Module):
    """An activation that two parties evaluate, such as the GELU of a model whose other layers run here.

    client: who evaluates it.
    gate, protocol, shape, deadline: as for `suf.Client.evaluate`.

    The input is a tensor of floats (float16, bfloat16, float32, float64) of any shape, and so is the output, on the same
    device. A tensor on a GPU is copied to this machine's memory and back. The other layers see their values in the
    clear, on the machine that runs them: only the activation is private.

    It is for inference: an input that needs a gradient is refused with InputError. Use torch.no_grad().
    """

    def __init__(
        self,
        client: Client,
        gate: str,
        protocol: str | None = None,
        *,
        shape: str | None = None,
        deadline: float | None = None,
    ) -> None:
        super().__init__()
        self.gate = gate
        self.protocol = protocol
        self.shape = shape
        self.deadline = deadline
        self._client = client

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The activation's values at `x`, element by element."""
        if x.requires_grad and torch.is_grad_enabled():
            raise InputError("the parties compute no gradient: call the model under torch.no_grad()")
        if not x.is_floating_point():
            raise InputError(f"the tensor's dtype is {x.dtype}: pass floats")
        host = x.detach().cpu()
        # NumPy has no bfloat16.
        values = host.float() if host.dtype == torch.bfloat16 else host
        y: Any = self._client.evaluate(
            values.numpy(), gate=self.gate, protocol=self.protocol, shape=self.shape, deadline=self.deadline
        )
        return torch.from_numpy(y).to(device=x.device, dtype=x.dtype)

    def extra_repr(self) -> str:
        """What torch prints in the brackets."""
        return ", ".join([repr(self.gate), *([repr(self.protocol)] if self.protocol else [])])
