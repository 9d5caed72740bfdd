"""When a registration is tried again."""

from __future__ import annotations

import secrets

from hypothesis import given
from hypothesis import strategies as st

from tideover.registration.rules import SPREAD, Comeback, Failure, share_of

CHANCE = st.floats(0, 1, exclude_max=True)


@given(st.lists(st.sampled_from(Failure), max_size=100), CHANCE, CHANCE)
def test_no_delay_is_longer_than_its_reason_allows(failures: list[Failure], share: float, chance: float) -> None:
    """Whatever has happened, the next try is at most 5 s away after a definite no, else the spread or 1 s."""
    comeback, most = Comeback(), 0.0
    for failure in failures:
        comeback = comeback.after(failure)
        most = {Failure.REFUSED: 5.0, Failure.OUTAGE: SPREAD, Failure.LOST: SPREAD}.get(failure, 1.0)
    assert 0 <= comeback.delay(share=share, chance=chance) <= most


def test_a_first_try_waits_for_nothing() -> None:
    """On an ordinary start there is no delay, and none is left over from what is long past."""
    assert Comeback().delay(share=0.9, chance=0.9) == 0
    worn = Comeback(failures=9).there()
    assert worn.delay(share=0.9, chance=0.9) > 0.5
    assert worn.lasted(60).delay(share=0.9, chance=0.9) == 0
    assert worn.lasted(1).delay(share=0.9, chance=0.9) > 0.5


def test_incarnations_share_the_spread_evenly() -> None:
    """Of 10,000 incarnations each tenth of the spread gets between 8 % and 12 %."""
    shares = [share_of(secrets.token_hex(8)) for _ in range(10_000)]
    for tenth in range(10):
        assert 800 < sum(tenth / 10 <= share < (tenth + 1) / 10 for share in shares) < 1200


def test_who_returns_together_waits_for_its_share() -> None:
    """After an outage or a lost lease the delay is the incarnation's share, whatever failed before."""
    for failure in (Failure.OUTAGE, Failure.LOST):
        comeback = Comeback(failures=7).after(failure)
        assert comeback.delay(share=0.5, chance=0.0) == SPREAD / 2
