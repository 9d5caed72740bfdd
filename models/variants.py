"""What is checked: the election as it is, and each way of breaking it, with the verdict that is expected."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a search says."""

    SAFE = "safe"
    TWO_LEADERS = "two leaders"
    DISTURBED = "a leader is disturbed"
    REACHED = "reached"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Variant:
    """One search through one form of the model.

    Attributes:
        name: What it is called in the output and on the command line.
        says: What is looked at, or which rule is broken.
        flags: What Spin is given to define.
        expected: What the search must say.
        deep: Whether it takes too long to be run every time.
    """

    name: str
    says: str
    flags: tuple[str, ...]
    expected: Verdict
    deep: bool = False

    @property
    def shortest(self) -> bool:
        """Whether to search for the shortest way to what is expected, rather than through everything."""
        return self.expected is not Verdict.SAFE


# Timers are 2 ticks for the ttl and 3 for confirm_limit, unless said otherwise. How many takeovers, changes of
# the list and restarts there are is bounded where peers are asked; renewals, rounds, looks and ticks never are.
BOUNDED = ("TAKES=2", "CHANGES=1", "RESTARTS=0")


def _peers(name: str, says: str, *flags: str, expected: Verdict = Verdict.TWO_LEADERS) -> Variant:
    """Return a variant of `"peers"` without restarts, unless the flags say otherwise."""
    return Variant(name, says, (*(f for f in BOUNDED if not _given(f, flags)), *flags), expected)


def _given(flag: str, flags: tuple[str, ...]) -> bool:
    return any(other.split("=")[0] == flag.split("=")[0] for other in flags)


SOUND = (
    Variant("step_down", "no bounds but one restart", ("STEP_DOWN", "RESTARTS=1", "CHECK_STAYS"), Verdict.SAFE),
    Variant(
        "peers-restarts",
        "2 takeovers, 1 change of the list, 1 restart",
        ("TAKES=2", "CHANGES=1", "RESTARTS=1", "CHECK_STAYS"),
        Verdict.SAFE,
        deep=True,
    ),
    Variant(
        "peers-long",
        "2 takeovers, 1 change of the list, confirm_limit of 5 ticks",
        (*BOUNDED, "CONFIRM_LIMIT=5", "CHECK_STAYS"),
        Verdict.SAFE,
    ),
    Variant(
        "peers-changes",
        "3 takeovers, 3 changes of the list, confirm_limit of 4 ticks",
        ("TAKES=3", "CHANGES=3", "RESTARTS=0", "CONFIRM_LIMIT=4", "CHECK_STAYS"),
        Verdict.SAFE,
        deep=True,
    ),
    Variant(
        "peers-deep",
        "2 takeovers, 2 changes of the list, 1 restart, confirm_limit of 4 ticks",
        ("TAKES=2", "CHANGES=2", "RESTARTS=1", "CONFIRM_LIMIT=4", "CHECK_STAYS"),
        Verdict.SAFE,
        deep=True,
    ),
    Variant(
        "peers-unbounded", "no bounds, but no restart", ("RESTARTS=0", "CHECK_STAYS"), Verdict.SAFE, deep=True
    ),
    Variant("stay", "the plain promise: the counter-example", ("STAY", "RESTARTS=0"), Verdict.TWO_LEADERS),
)

REACHED = tuple(
    _peers(f"reach-{name}", says, f"SHOW_{name.upper().replace('-', '_')}", *flags, expected=Verdict.REACHED)
    for name, says, flags in (
        ("confirmed", "a leader leads on confirmations alone, beyond its last renewal's deadline", ()),
        ("takeover", "another process takes over and leads", ()),
        ("not-in-office", "a takeover succeeds while a promise is open: holder, not in office", ()),
        ("regained", "a leader whose deadline has passed renews and leads again", ()),
        ("late", "a write of an incarnation that has ended is applied", ("RESTARTS=1",)),
    )
)

BROKEN = (
    Variant(
        "clocks",
        "margin: challengers wait a tick less than clocks may be off",
        ("STEP_DOWN", "RESTARTS=0", "BREAK_MARGIN"),
        Verdict.TWO_LEADERS,
    ),
    _peers("sibling", "1: a sibling on the same port answers for another incarnation", "BREAK_SIBLING"),
    _peers("421", "1: a 421 is taken for a yes", "BREAK_421"),
    _peers("incarnation", "1: a restarted process goes on under its old id", "BREAK_INCARNATION", "RESTARTS=1"),
    _peers("added-after", "2: an added candidate enters the memory after the write", "BREAK_ADDED_AFTER"),
    _peers("removed-before", "2: a removed candidate leaves the memory before the write", "BREAK_REMOVED_BEFORE"),
    _peers("take-lists", "2: a takeover lists newcomers", "BREAK_TAKE_LISTS", "CONFIRM_LIMIT=5"),
    _peers("entry", "3: the body is entered although a promise was made meanwhile", "BREAK_ENTRY"),
    _peers("atomic", "3: promise and entry are decided in two steps", "BREAK_ATOMIC"),
    _peers(
        "take-promised",
        "3: a takeover is sent although a promise is open",
        "BREAK_TAKES_UNDER_PROMISE",
        "CHECK_STAYS",
        expected=Verdict.DISTURBED,
    ),
    _peers("resigns", "3: who has not taken office resigns", "BREAK_RESIGNS_UNDER_PROMISE"),
    _peers("unlisted", "4: who is not listed waits like who is", "BREAK_LISTED"),
    _peers("limit", "5: confirmations have no limit", "BREAK_LIMIT"),
    _peers("limit-margin", "5: no margin between the limit and who is not listed", "BREAK_LIMIT_MARGIN"),
    _peers("promise", "5: a promise is shorter than the ttl", "BREAK_PROMISE_MARGIN", "CONFIRM_LIMIT=4"),
    _peers("reply", "5: the deadline counts from the replies", "BREAK_COUNTS_FROM_REPLY", "CONFIRM_LIMIT=5"),
    _peers("silent", "5: one may be silent", "BREAK_ONE_SILENT"),
    _peers("veto", "6: who leads promises all the same", "BREAK_VETO"),
    _peers("replay", "7: a reply of an earlier round counts", "BREAK_REPLAY"),
    _peers("alone", "8: a lone leader stays, and without a limit", "BREAK_ALONE", "BREAK_LIMIT", "LONE"),
)

# What can be left out without harm: said so, rather than believed.
SPARE = (
    _peers("no-restart", "3: an open promise does not restart the observation", "BREAK_RESTART", "CHECK_STAYS",
           expected=Verdict.SAFE),
    _peers("alone-limited", '8: a lone leader stays until the limit (alone="stay")', "BREAK_ALONE", "LONE",
           expected=Verdict.SAFE),
    Variant("adds-promised", "2: a holder lists a newcomer while its promise is open",
            (*BOUNDED, "CONFIRM_LIMIT=5", "BREAK_ADDS_UNDER_PROMISE"),
            Verdict.SAFE, deep=True),
)  # fmt: skip

VARIANTS = SOUND + REACHED + BROKEN + SPARE
