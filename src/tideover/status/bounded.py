"""The base of the status records: their texts and lists are bounded, whatever others have written."""

from __future__ import annotations

from tideover.records import Record
from tideover.shown import cut

# Characters of a text, and of the sentence; entries of a list that others can make longer.
LONGEST = 500
_LONGEST_SENTENCE = 4000
MOST = 100


class BoundedRecord(Record):
    """A record whose texts and lists of texts have bounds.

    A text of more than 500 characters ends in `...`, a list of more than 100 texts in how many more there are.
    """

    __slots__ = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        # Not by `fields()`, which takes several times as long: a report has dozens of records.
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if value.__class__ is str:
                longest = _LONGEST_SENTENCE if name == "sentence" else LONGEST
                if len(value) > longest and name != "stack":  # all of which is our own
                    object.__setattr__(self, name, cut(value, longest))
            elif value.__class__ is tuple and value and isinstance(value[0], str):
                more = (f"and {len(value) - MOST} more",) if len(value) > MOST else ()
                object.__setattr__(self, name, (*(cut(text, LONGEST) for text in value[:MOST]), *more))
