"""Exceptions. The class says who has to act, and the message what to do."""

from __future__ import annotations


class Error(Exception):
    """A call failed. `place` is the daemon that reported it, such as "party 0", or empty."""

    place: str

    def __init__(self, message: str, place: str = "") -> None:
        super().__init__(message)
        self.place = place

    def __reduce__(self) -> tuple[type[Error], tuple[str, str]]:
        return type(self), (str(self), self.place)


class InputError(Error, ValueError):
    """The arguments cannot be taken: a value, a type, a name, a file. Nothing was sent."""


class RequestError(Error):
    """A party refuses what this client asks for: by a limit, or because of its certificate's role."""


class PeerError(Error):
    """A party is at fault: it does not answer, it ended, or it broke the protocol."""


class DealerError(Error):
    """The dealer is at fault: no keys come from it."""


class DeviceError(Error):
    """A machine is at fault: no memory, a full disk, a GPU that is lost. `place` is empty for this machine."""


class ConfigurationError(Error):
    """A configuration is at fault: certificates, addresses, files of a daemon."""


class InternalError(Error):
    """A defect in this software. Please report it."""


class ClosedError(Error):
    """The client takes no calls: it was closed, or made before this process was forked."""


class InterruptedCall(Error):
    """The call was ended by this process: the client was closed meanwhile. It is the cause of a KeyboardInterrupt, too.

    The message says what became of the run at each party.
    """


# Tracebacks and pickles have the names that users have.
for _class in (Error, *Error.__subclasses__()):
    _class.__module__ = "suf"
