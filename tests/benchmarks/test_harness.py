"""The benchmarks' arithmetic, on a clock that does as it is told; nothing here measures anything."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from benchmarks.harness import Comparison, Goal, Row, Timings, awaiting, interleave, run_row, statement
from benchmarks.registry import ROWS
from benchmarks.report import document, lines, spell, table


class FakeClock:
    """A clock that only work moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return seconds."""
        return self.now

    def work(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    async def work_async(self, seconds: float) -> None:
        """Let time pass in a coroutine."""
        self.now += seconds


def _row(*ratios: float, goal: Goal, tries: list[int] | None = None) -> Row:
    """Return a row whose successive measurements have these ratios."""
    left = list(ratios)

    async def measure() -> Sequence[Comparison]:
        if tries is not None:
            tries.append(1)
        return [Comparison("it", left.pop(0), "a peer", 1.0), Comparison("for scale", 9.0, "a peer", 1.0)]

    return Row("row", "it", "a peer", {"it": goal}, measure)


@pytest.fixture
def anyio_backend() -> str:
    """The benchmarks run on asyncio, as aetcd does."""
    return "asyncio"


@pytest.mark.anyio
async def test_ratio_is_that_of_the_times_per_call() -> None:
    """A case that takes three times as long per call has the ratio 3, however often each was called."""
    clock = FakeClock()
    cases = {
        "ours": statement("work(3e-6)", {"work": clock.work}, clock=clock),
        "theirs": awaiting("await work(1e-6)", {"work": clock.work_async}, clock=clock),
    }
    times = await interleave(cases, rounds=5, slice=1e-4)
    compared = times.compare("ours", "ours", "theirs", "theirs")
    assert compared.value == pytest.approx(3e-6)
    assert compared.peer_value == pytest.approx(1e-6)
    assert (compared.ratio, compared.low, compared.high) == pytest.approx((3, 3, 3))


@pytest.mark.anyio
async def test_rounds_are_interleaved_and_calibrated() -> None:
    """Within a round every case runs once, for about a slice."""
    clock, order = FakeClock(), []

    def slow(count: int) -> float:
        order.append(("slow", count))
        return count * 0.5

    def quick(count: int) -> float:
        order.append(("quick", count))
        return count * 0.001

    await interleave({"slow": slow, "quick": quick}, rounds=3, slice=1.0)
    assert order[-6:] == [("slow", 2), ("quick", 1000)] * 3
    assert clock() == 0.0


def test_noise_in_one_round_does_not_show_in_the_ratio() -> None:
    """The least of all rounds counts; the quartiles tell of the rest."""
    times = Timings([{"a": 4.0, "b": 2.0}, {"a": 40.0, "b": 2.0}, {"a": 4.0, "b": 20.0}, {"a": 4.0, "b": 2.0}])
    compared = times.compare("a", "a", "b", "b")
    assert compared.ratio == 2.0
    assert compared.low is not None
    assert compared.high is not None
    assert compared.low < 2.0 < compared.high


def test_formulas_compare_differences() -> None:
    """What a decorator adds is the decorated call minus the plain one."""
    times = Timings([{"plain": 1.0, "ours": 1.5, "theirs": 3.0}] * 4)
    compared = times.compare(
        "ours", lambda t: t["ours"] - t["plain"], "theirs", lambda t: t["theirs"] - t["plain"]
    )
    assert compared.ratio == pytest.approx(0.25)


@pytest.mark.parametrize(("value", "peer", "ratio"), [(0.0, 0.0, 0.0), (1.0, 0.0, float("inf")), (0.0, 2.0, 0.0)])
def test_ratio_to_nothing(value: float, peer: float, ratio: float) -> None:
    """Nothing compared with nothing is no excess; something compared with nothing is a boundless one."""
    assert Comparison("it", value, "a peer", peer).ratio == ratio


@pytest.mark.anyio
async def test_a_row_is_repeated_until_its_goal_is_met() -> None:
    """The second try meets the goal, so there is no third, and the better one is kept."""
    tries: list[int] = []
    goal, scale = await run_row(_row(3.0, 1.5, 1.0, goal=Goal(2), tries=tries))
    assert len(tries) == 2
    assert (goal.comparison.ratio, goal.met, goal.tries) == (1.5, True, 2)
    assert scale.met is None


@pytest.mark.anyio
async def test_a_goal_missed_three_times_is_missed() -> None:
    """The best of three is shown, and it is still a miss."""
    goal, _ = await run_row(_row(5.0, 3.0, 4.0, goal=Goal(2)))
    assert (goal.comparison.ratio, goal.met, goal.tries) == (3.0, False, 3)


@pytest.mark.anyio
async def test_a_goal_may_limit_the_value_itself() -> None:
    """The ratio plays no part then."""
    goal, _ = await run_row(_row(0.5, goal=Goal(0.5, of="value")))
    assert goal.met is True


@pytest.mark.anyio
async def test_a_goal_that_is_not_measured_is_an_error() -> None:
    """A renamed comparison must not silently lose its goal."""
    row = _row(1.0, goal=Goal(2))
    renamed = Row(row.name, row.what, row.peer, {"something else": Goal(2)}, row.measure)
    with pytest.raises(LookupError, match="something else"):
        await run_row(renamed)


def test_every_row_has_a_name_a_peer_and_a_goal() -> None:
    """No number stands alone."""
    assert len({row.name for row in ROWS}) == len(ROWS) >= 9
    for row in ROWS:
        assert row.what
        assert row.peer
        assert row.goals


@pytest.mark.parametrize(("peer", "goals"), [("", {"it": Goal(1)}), ("a peer", {})])
def test_a_row_without_peer_or_goal_is_refused(peer: str, goals: dict[str, Goal]) -> None:
    """The registry cannot hold a number that nothing gives a meaning."""
    with pytest.raises(ValueError, match="needs a peer and a goal"):
        Row("row", "it", peer, goals, ROWS[0].measure)


@pytest.mark.anyio
async def test_report_says_what_was_missed() -> None:
    """The table and the JSON carry the same verdicts."""
    outcomes = await run_row(_row(3.0, goal=Goal(2)), tries=1)
    missed, scale = lines(outcomes)
    assert missed == ("it", "3 s", "a peer", "1 s", "3 x", "<= 2 x", "NO")
    assert scale[-2:] == ("-", "-")
    assert table(outcomes).count("\n") == 3
    results = document(outcomes, {})["results"]
    assert isinstance(results, list)
    assert [result["met"] for result in results] == [False, None]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0 s"), (3.2e-8, "32 ns"), (1.5e-6, "1.5 us"), (0.05, "50 ms"), (2.0, "2 s")]
)
def test_seconds_are_spelled_with_a_fitting_unit(value: float, text: str) -> None:
    """So that a table can be read without counting zeros."""
    assert spell(value, "s") == text
