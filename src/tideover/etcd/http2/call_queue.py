"""Calls that were not sent yet."""

from __future__ import annotations

from tideover.etcd.http2.call import Call
from tideover.etcd.http2.frames import ErrorCode


class CallQueue(dict[Call, None]):
    """Calls in the order in which they will be sent; one that ends meanwhile leaves it."""

    def __hash__(self) -> int:  # type: ignore[override] # as what calls are with, it is itself alone
        return id(self)

    def add(self, call: Call) -> None:
        """Let a call wait."""
        call.carrier = self
        self[call] = None

    def next(self) -> Call:
        """Remove the first call and return it."""
        call = next(iter(self))
        del self[call]
        return call

    def take_all(self) -> list[Call]:
        """Remove all calls and return them."""
        calls = list(self)
        self.clear()
        return calls

    # As what a call is with --------------------------------------------------------------------------------------

    def leave(self, call: Call, reset: ErrorCode | None) -> None:
        """Forget a call that has ended; no server knows of it."""
        self.pop(call, None)

    def push(self, call: Call) -> None:
        """Do nothing: what a call has to send is sent when its turn comes."""

    def credit(self, call: Call, increment: int) -> None:
        """Do nothing: nothing has come."""
