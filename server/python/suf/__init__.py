"""Private evaluation of activations and sentence encoders by two parties.

    import numpy as np
    import suf

    with suf.local() as client:  # a dealer and two parties on this machine
        y = client.evaluate(np.linspace(-4, 4, 1000), gate="gelu", protocol="onehot")

Values are split into two random shares on this machine. Each party is sent one, and sees nothing of the values. The page
docs/python.md of the repository has more examples.
"""

from __future__ import annotations

from ._client import Client, Local, local
from ._describe import describe
from ._encoder import SentenceEncoder
from ._errors import (
    ClosedError,
    ConfigurationError,
    DealerError,
    DeviceError,
    Error,
    InputError,
    InternalError,
    InterruptedCall,
    PeerError,
    RequestError,
)
from ._figures import Figures
from ._suf import VERSION as __version__

__all__ = [
    "Client",
    "ClosedError",
    "ConfigurationError",
    "DealerError",
    "DeviceError",
    "Error",
    "Figures",
    "InputError",
    "InternalError",
    "InterruptedCall",
    "Local",
    "PeerError",
    "RequestError",
    "SentenceEncoder",
    "__version__",
    "describe",
    "local",
]
