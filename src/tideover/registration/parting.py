"""The end of registrations: those that end at the same moment are marked as leaving together, then deleted.

If all registrations of a session end, closing it deletes all their keys in one call; unless etcd refuses that for
one of the keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import anyio

from tideover.client.client import Client
from tideover.errors import TideoverError
from tideover.registration.bulk import delete, overwrite
from tideover.registration.keeper import Keeper
from tideover.registration.publisher import Publisher
from tideover.registration.rules import SPREAD
from tideover.registration.shared import SharedSession
from tideover.sessions.key import LeasedKey

# Seconds for marking endpoints as leaving. A courtesy to followers: the keys go all the same.
_MARK_TIMEOUT = 0.5
# Seconds after which a key that cannot be deleted has kept its lease from being renewed.
_SEEN_WITHIN = 2.0
_SILENT = "etcd has not answered in time"


async def part(publishers: Sequence[Publisher], keeper: Keeper, client: Client) -> None:
    """Delete ended registrations from etcd, and report the end of each; bounded in time."""
    there = {each for each in publishers if each.is_there}
    left: dict[Publisher, str | None] = dict.fromkeys(publishers, _SILENT)
    moving: set[Publisher] = set()
    until = anyio.current_time() + _MARK_TIMEOUT
    try:
        await keeper.stop(publishers, _MARK_TIMEOUT if keeper.usable else 0.0)
        there = {each for each in publishers if each.is_there}
        places = {each: keeper.places(each) for each in publishers}
        left.update((each, None) for each in publishers if not places[each])
        async with anyio.create_task_group() as tasks:
            for shared in {shared: None for each in publishers for shared in places[each]}:
                leaving = [each for each in publishers if shared in places[each]]
                ending = _Ending(shared, leaving, keeper, client)
                tasks.start_soon(ending.run, until, left, moving)
    finally:
        for each in publishers:
            why = left[each] if left[each] is None or keeper.usable else client.state.sentence
            each.report_end(why, there=each in there, moving=SPREAD + _SEEN_WITHIN if each in moving else 0.0)


class _Ending:
    """The end of the registrations that leave one session."""

    def __init__(
        self,
        shared: SharedSession[Publisher],
        leaving: Sequence[Publisher],
        keeper: Keeper,
        client: Client,
    ) -> None:
        self._shared = shared
        self._leaving = leaving
        self._keeper = keeper
        self._gateway = client.calls
        self._closing = client.state.closing

    async def run(self, until: float, left: dict[Publisher, str | None], moving: set[Publisher]) -> None:
        """Mark the endpoints as leaving, until `until` at the longest, and delete the keys.

        `left` gets the reason why a key may still be there, `moving` the registrations whose lease is renewed
        until the others have left it.
        """
        shared = self._shared
        keys = {
            each: each.own
            for each in self._leaving
            if each.shared is shared and each.own is not None and each.is_there
        }
        refused = await self._mark(keys, until)
        for each in self._leaving:
            shared.tenants.pop(each, None)
        if not shared.tenants:
            deadline = anyio.current_time() + self._closing.seconds()
            why = await self._keeper.close(shared)
            left.update(dict.fromkeys(self._leaving, why))
            if why is not None and self._keeper.usable:
                await self._delete_each(keys, deadline, left)
            return
        left.update((each, None) for each in self._leaving if each not in keys)
        with anyio.move_on_after(self._closing.seconds()):
            async with anyio.create_task_group() as tasks:
                for each, own in keys.items():
                    tasks.start_soon(self._delete, each, own, left)
        for each, own in keys.items():
            if left[each] is not None:
                shared.left.add(own.full)
                if own in refused:
                    left[each] = refused[own]
                    moving.add(each)

    async def _mark(self, keys: dict[Publisher, LeasedKey], until: float) -> dict[LeasedKey, str]:
        """Mark the endpoints as leaving; return the refused keys, with etcd's words."""
        if not keys or not self._keeper.usable:
            return {}
        values = {own: replace(each.endpoint, leaving=True).encode() for each, own in keys.items()}
        with anyio.move_on_after(until - anyio.current_time()), suppress(TideoverError):
            return await overwrite(self._gateway, values, self._shared.session.lease_id)
        return {}

    async def _delete_each(
        self, keys: dict[Publisher, LeasedKey], deadline: float, left: dict[Publisher, str | None]
    ) -> None:
        """Delete the keys of a lease that etcd does not revoke because it refuses one of them."""
        ends: dict[LeasedKey, str | None] = {}
        with anyio.move_on_after(deadline - anyio.current_time()), suppress(TideoverError):
            ends = await delete(self._gateway, list(keys.values()))
        left.update((each, ends[own]) for each, own in keys.items() if own in ends)

    async def _delete(self, publisher: Publisher, own: LeasedKey, left: dict[Publisher, str | None]) -> None:
        if await self._shared.session.delete(own):
            left[publisher] = None
