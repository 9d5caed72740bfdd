"""The health in words."""

from __future__ import annotations

import pytest

from tideover.cluster.rules.health import sentence
from tideover.types import Diagnosis


@pytest.mark.parametrize("diagnosis", Diagnosis)
def test_every_diagnosis_has_words(diagnosis: Diagnosis) -> None:
    """Each diagnosis has a sentence about etcd, without a full stop."""
    assert "etcd" in sentence(diagnosis)
    assert not sentence(diagnosis).endswith(".")
