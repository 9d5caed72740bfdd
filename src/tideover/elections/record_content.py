"""The content of one candidate's record: the document as last read, and the one to write next."""

from __future__ import annotations

from collections.abc import Callable

from tideover.elections.claim import CandidateClaim
from tideover.elections.record_document import RecordDocument, decode, entry
from tideover.elections.rules.candidate import Candidate, Seen
from tideover.errors import ElectionMismatch, RecordCorrupt
from tideover.holders import NOBODY
from tideover.shown import shown
from tideover.types import Entry


class RecordContent:
    """What the record says, and what the candidate makes of it."""

    def __init__(self, key: bytes, ttl: float, claim: CandidateClaim, word: Callable[[], str]) -> None:
        self.claim = claim  # what the candidate writes while it holds the record
        self.wanted: Callable[[], dict[str, str]] = dict  # candidates to list while held, and their addresses
        self.document: RecordDocument | None = None  # as last read or written; None if there is none
        self.corrupt: RecordCorrupt | None = None  # why the record cannot be read; None if it can
        self.held_by = NOBODY  # the candidate for people, the same for the whole term
        self._key = key
        self._ttl = ttl
        self._word = word

    @property
    def in_force(self) -> RecordDocument | None:
        """The document; None if there is none, or its holder has vacated the record."""
        return None if self.document is None or self.document.vacant else self.document

    def is_outdated(self, *, held: bool) -> bool:
        """Whether the record lists other candidates than it should, or does not say that its holder leads."""
        written = self.document
        if not self.claim.limit or written is None or not held:
            return False
        return not written.entered or written.listed != self.wanted()

    def refuse_others(self) -> None:
        """Raise on a record that cannot be read, or that has another policy."""
        if self.corrupt is not None:
            raise self.corrupt
        found = self.document
        if found is not None and found.policy != self.claim.policy:
            raise ElectionMismatch(
                f"{shown(self._key)} is an election with on_outage='{shown(found.policy)}', and this candidate "
                f"asks for {self.claim.policy!r}: all candidates must say the same"
            )

    def read(self, record: Entry | None, token: Entry | None) -> Seen:
        """Keep the record as etcd has it; return what the rules need of it."""
        self.document = self.corrupt = None
        if record is None:
            return Seen()
        try:
            self.document = found = decode(record.value, self._key)
        except RecordCorrupt as exc:
            self.corrupt = exc
            return Seen(record.mod_revision, holder="somebody who writes no records")
        return Seen(
            record.mod_revision,
            holder=found.holder,
            write=found.write,
            vacant=found.vacant,
            ttl=found.ttl,
            token=token.mod_revision if token else 0,
            term=found.term,
            candidates=frozenset(found.listed),
            limit=found.limit,
            name=found.holder_shown,
        )

    def compose(
        self, state: Candidate, *, leads: bool, founding: bool = False, taking: bool = False, vacant: bool = False
    ) -> RecordDocument:
        """Return the document that the candidate writes next."""
        before, claim = self.document, self.claim
        return RecordDocument(
            holder="" if founding else state.me,
            term=(before.term if before else 0) + taking,
            policy=claim.policy,
            ttl=self._ttl,
            write=state.draft or self._word(),
            vacant=vacant,
            candidates=() if founding else self._candidates(state, leads=leads and not taking),
            address="" if founding or vacant else claim.address,
            value="" if founding or vacant else claim.value,
            held_by=NOBODY if founding or vacant else self.held_by,
            peer="" if founding or vacant else claim.peer,
            limit=claim.limit,
            # Unknown until the takeover succeeds; the first renewal then writes it.
            entered=not claim.limit or (leads and not taking),
            extra=before.extra if before else {},
        )

    def _candidates(self, state: Candidate, *, leads: bool) -> tuple[str, ...]:
        """Return the candidates to list. Only a holder that leads changes them; each holder removes itself."""
        listed = self.document.listed if self.document else {}
        if self.claim.limit and leads:
            listed = self.wanted()
        return tuple(entry(name, address) for name, address in listed.items() if name != state.me)
