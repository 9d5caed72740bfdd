"""What members have answered: the newest question to each, and what it counts for in a round."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from tideover.clock import Clock
from tideover.cluster.rules.diagnosis import Answer, MemberAnswers
from tideover.cluster.rules.questions import completed
from tideover.store.operations import Lane

# Seconds for which a late answer counts: from one round to the next, and more.
_LATE_COUNTS = 3.0
ALIVE = frozenset({Answer.OK, Answer.LATE})


@dataclass(slots=True)
class Asked:
    """One question to one member, to be answered within `limit` seconds; until then `answer` is None."""

    sent_at: float
    limit: float
    answer: Answer | None = None
    answered_at: float = 0.0

    @property
    def judged(self) -> Answer:
        """The answer as it counts in its own round."""
        if self.answer is Answer.OK and self.answered_at - self.sent_at > self.limit:
            return Answer.LATE
        return Answer.SILENT if self.answer is None else self.answer


class Answers:
    """The newest questions, by member and lane, and when a member last answered late."""

    def __init__(self, clock: Clock) -> None:
        self.newest: dict[tuple[str, Lane], Asked] = {}
        self.late_at: dict[tuple[str, Lane], float] = {}
        self._clock = clock

    def all_answered(self, members: Collection[str], began: float) -> bool:
        """Whether nothing that was asked of these members since then is unanswered."""
        return all(
            asked.answer is not None
            for (member, _), asked in self.newest.items()
            if asked.sent_at >= began and member in members
        )

    def is_good(self, member: str, began: float) -> bool:
        """Whether a member has answered a linearizable read in the round that began then."""
        asked = self._of_round(member, Lane.QUORUM, began)
        return asked is not None and asked.judged is Answer.OK

    def unasked(self, members: Collection[str], began: float) -> list[str]:
        """Return those who were not asked for a linearizable read in the round that began then, and are there.

        Now that they answer, be it a question of an earlier round, the other question makes sense.
        """
        return [
            member
            for member in members
            if self._of_round(member, Lane.QUORUM, began) is None
            and self.recent(member, Lane.MEMBER, began) in ALIVE
        ]

    def of_member(self, member: str, began: float) -> MemberAnswers:
        """Return a member's answers; those that came late, to an earlier round, count until contradicted."""

        def of(lane: Lane) -> Answer | None:
            asked = self.newest.get((member, lane))
            if asked is None or max(asked.sent_at, asked.answered_at) < began:
                return None
            return self.recent(member, lane, began if asked.sent_at >= began else -math.inf)

        alone = self.newest.get((member, Lane.MEMBER))
        return completed(of(Lane.QUORUM), of(Lane.MEMBER), lately=None if alone is None else alone.answer)

    def has_failed(self, member: str, began: float) -> bool:
        """Whether a member that gave no good answer in this round has had the time to give one."""
        asked = self.newest.get((member, Lane.MEMBER)) or self.newest.get((member, Lane.QUORUM))
        if asked is None:
            return False
        patience = asked.limit if asked.answer is None else 0.0
        return asked.sent_at >= began and self._clock.monotonic() - asked.sent_at >= patience * 0.9

    def recent(self, member: str, lane: Lane, began: float) -> Answer:
        """Return the answer in the round that began then; silence is LATE where the last answer was."""
        asked = self._of_round(member, lane, began)
        answer = Answer.SILENT if asked is None else asked.judged
        return Answer.LATE if answer is Answer.SILENT and self.was_late(member, lane) else answer

    def was_late(self, member: str, lane: Lane) -> bool:
        """Whether a member's last late answer still counts."""
        return self._clock.monotonic() - self.late_at.get((member, lane), -math.inf) < _LATE_COUNTS

    def _of_round(self, member: str, lane: Lane, began: float) -> Asked | None:
        asked = self.newest.get((member, lane))
        return None if asked is None or asked.sent_at < began else asked
