"""The error tree: one root, and outages apart from definite answers."""

from __future__ import annotations

import inspect
import pickle

import pytest

import tideover
from tideover import errors

CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if cls.__module__ == errors.__name__]
SAMPLES = [
    errors.Unreachable("why"),
    errors.ConfigKeyError("k", "why"),
    errors.NotSynced("k", "why"),
    errors.CircuitOpen("why", retry_after=0.5),
    errors.ConfigValueError("why", key="k", revision=3),
    errors.TooStale("why", age=9.0, max_stale=5.0),
    errors.SnapshotCorrupt("why", path="/x"),
    errors.SnapshotSealed("why", path="/x"),
    errors.SessionLost("why", definite=True),
    errors.KeyTaken("why", key="k"),
]

classes = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)


@classes
def test_each_error_says_when_it_is_raised(cls: type[errors.TideoverError]) -> None:
    """Every class's docstring begins with "Raised when"."""
    assert (cls.__doc__ or "").startswith("Raised when ")


@classes
def test_each_error_has_the_root(cls: type[errors.TideoverError]) -> None:
    """Every error is a TideoverError, and public."""
    assert issubclass(cls, errors.TideoverError)
    assert getattr(tideover, cls.__name__) is cls


@pytest.mark.parametrize("cls", [errors.Unreachable, errors.NoQuorum, errors.CircuitOpen, errors.DeadlineExceeded])
def test_is_etcd_away(cls: type[errors.TideoverError]) -> None:
    """A caller who only asks whether etcd is away catches `Unavailable`."""
    assert issubclass(cls, errors.Unavailable)


@pytest.mark.parametrize(
    "cls",
    [
        errors.AuthenticationFailed,
        errors.BehindProxy,
        errors.Closed,
        errors.ConfigKeyError,
        errors.ConfigValueError,
        errors.DataCorrupt,
        errors.InvalidRequest,
        errors.KeyTaken,
        errors.NotConnected,
        errors.NotFollowed,
        errors.NotSynced,
        errors.OutcomeUnknown,
        errors.PermissionDenied,
        errors.SessionLost,
        errors.SnapshotCorrupt,
        errors.SnapshotSealed,
        errors.SpaceExhausted,
        errors.TooStale,
    ],
)
def test_an_answer_is_no_outage(cls: type[errors.TideoverError]) -> None:
    """A definite no, and a write whose outcome is unknown, is not an `Unavailable`."""
    assert not issubclass(cls, errors.Unavailable)


@pytest.mark.parametrize(
    ("cls", "builtin"),
    [
        (errors.ConfigKeyError, KeyError),
        (errors.NotSynced, errors.ConfigKeyError),
        (errors.NotFollowed, LookupError),
        (errors.InvalidRequest, ValueError),
        (errors.ConfigValueError, ValueError),
        (errors.NotConnected, RuntimeError),
        (errors.AmbiguousCoordinator, RuntimeError),
        (errors.Closed, RuntimeError),
    ],
)
def test_errors_are_what_python_calls_them(cls: type[Exception], builtin: type[Exception]) -> None:
    """Errors with a counterpart in Python are caught by it as well."""
    assert issubclass(cls, builtin)


@pytest.mark.parametrize("cls", [errors.ConfigKeyError, errors.NotSynced])
def test_a_missing_key_is_told_in_words(cls: type[errors.ConfigKeyError]) -> None:
    """Unlike a KeyError's, the message is shown as written, not as a repr."""
    error = cls("a/b", "no key 'a/b' \u2014 it was never set")
    assert str(error) == "no key 'a/b' \u2014 it was never set"
    assert error.key == "a/b"


def test_details_are_attributes() -> None:
    """What a caller may want to act on need not be parsed out of the message."""
    assert errors.CircuitOpen("x", retry_after=0.5).retry_after == 0.5
    stale = errors.TooStale("x", age=9.0, max_stale=5.0)
    assert (stale.age, stale.max_stale) == (9.0, 5.0)
    value = errors.ConfigValueError("x", key="k", revision=3)
    assert (value.key, value.revision) == ("k", 3)
    assert errors.SnapshotCorrupt("x", path="/x").path == "/x"
    assert errors.SessionLost("x", definite=False).definite is False
    assert errors.KeyTaken("x", key="k").key == "k"


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_every_message_is_shown_as_it_is(error: errors.TideoverError) -> None:
    """`str` of an error is its message."""
    assert str(error) == "why"


@pytest.mark.parametrize("error", SAMPLES[:1], ids=lambda error: type(error).__name__)
def test_a_plain_error_survives_pickling(error: errors.TideoverError) -> None:
    """An error may cross to another process."""
    assert str(pickle.loads(pickle.dumps(error))) == "why"


@pytest.mark.parametrize("error", SAMPLES[1:], ids=lambda error: type(error).__name__)
def test_an_error_with_details_survives_pickling(error: errors.TideoverError) -> None:
    """An error may cross to another process with its details (process pools hang or break otherwise)."""
    back = pickle.loads(pickle.dumps(error))
    assert (str(back), vars(back)) == (str(error), vars(error))
