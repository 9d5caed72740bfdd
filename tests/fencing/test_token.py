"""Token arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tideover.fencing.token import MOST_HANDOVERS, fencing_token, revision_of

REVISIONS = st.integers(min_value=1, max_value=2**62)
HANDOVERS = st.integers(min_value=0, max_value=MOST_HANDOVERS)


@given(REVISIONS, HANDOVERS, REVISIONS, HANDOVERS)
def test_tokens_grow_as_grants_follow_each_other(r1: int, n1: int, r2: int, n2: int) -> None:
    """A token is larger exactly if its key is younger, or is the same key handed on more often."""
    assert (fencing_token(r1, n1) < fencing_token(r2, n2)) == ((r1, n1) < (r2, n2))
    assert revision_of(fencing_token(r1, n1)) == r1


@pytest.mark.parametrize(("revision", "handovers"), [(0, 0), (1, -1), (1, 65_536)])
def test_what_has_no_token_is_refused(revision: int, handovers: int) -> None:
    """A number that would spill into the other is refused, with both in the message."""
    with pytest.raises(ValueError, match=f"{revision}, handovers={handovers}"):
        fencing_token(revision, handovers)
