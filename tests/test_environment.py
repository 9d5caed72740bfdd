"""`connect()` without endpoints: what is read from the environment, and when nothing is."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from tests.canaries import canary
from tests.etcd.certificates import Authority, Signed
from tideover import Coordinator, Tls, connect
from tideover.asgi import TideoverMiddleware
from tideover.cli.app import run
from tideover.environment import split_endpoints
from tideover.testing import MemoryStore

SECRET = canary("environment-password")


class Watched(dict[str, str]):
    """Variables that remember which of them were asked for."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        """Return a variable."""
        self.asked.add(name)
        return super().get(name, default)

    def __getitem__(self, name: str) -> str:
        """Return a variable that is there."""
        self.asked.add(name)
        return super().__getitem__(name)


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, Signed]:
    """A CA and a client's certificate."""
    authority = Authority(tmp_path_factory.mktemp("tls"))
    return authority, authority.sign("client")


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment, without variables of ours to begin with."""
    for name in list(os.environ):
        if name.startswith("TIDEOVER_"):
            monkeypatch.delenv(name)

    class Setting(dict[str, str]):
        def __setitem__(self, name: str, value: str) -> None:
            monkeypatch.setenv(name, value)

    return Setting()


def test_the_whole_set_is_read_and_said(
    variables: dict[str, str], signed: tuple[Authority, Signed], caplog: pytest.LogCaptureFixture
) -> None:
    """Endpoints, namespace, TLS, user and password come from the environment together, and a line says so."""
    authority, client = signed
    variables["TIDEOVER_ENDPOINTS"] = "https://10.0.0.1:2379, https://10.0.0.2:2379"
    variables["TIDEOVER_NAMESPACE"] = "/shop"
    variables["TIDEOVER_CACERT"] = str(authority.cert)
    variables["TIDEOVER_CERT"], variables["TIDEOVER_KEY"] = str(client.cert), str(client.key)
    variables["TIDEOVER_SERVER_NAME"] = "etcd.internal"
    variables["TIDEOVER_USER"], variables["TIDEOVER_PASSWORD"] = "app", SECRET
    with caplog.at_level(logging.INFO, "tideover"):
        options = connect()._parts.options
    assert options.endpoints == ("10.0.0.1:2379", "10.0.0.2:2379")
    assert (options.namespace, options.username, options.password) == ("/shop", "app", SECRET)
    assert options.tls == Tls(str(authority.cert), str(client.cert), str(client.key), "etcd.internal")
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        (
            "INFO",
            "tideover.environment.read: from the environment: endpoints https://10.0.0.1:2379, "
            "https://10.0.0.2:2379, namespace '/shop', user 'app'",
        )
    ]


def test_where_endpoints_are_given_no_variable_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password that is meant for one cluster never goes to another: nothing is even looked at."""
    names = ["ENDPOINTS", "NAMESPACE", "CACERT", "CERT", "KEY", "SERVER_NAME", "USER", "PASSWORD", "PASSWORD_FILE"]
    names += ["SNAPSHOT_KEYS", "SNAPSHOT_KEYS_FILE", "BOOTSTRAP"]
    watched = Watched({f"TIDEOVER_{name}": "10.9.9.9:1" for name in names})
    monkeypatch.setattr("tideover.functions.os.environ", watched)
    made = [
        connect("10.0.0.1:2379"),
        connect(store=MemoryStore()),
        TideoverMiddleware(Starlette(), endpoints=["10.0.0.1:2379"])._plan.coordinator,
        TideoverMiddleware(Starlette(), store=MemoryStore())._plan.coordinator,
    ]
    TideoverMiddleware(Starlette(), coordinator=made[0])
    for tide in made:
        options = tide._parts.options
        assert (options.namespace, options.tls, options.username, options.password) == ("", None, None, None)
    assert not [name for name in watched.asked if name.startswith("TIDEOVER_")]


def test_what_the_program_gives_wins(variables: dict[str, str], signed: tuple[Authority, Signed]) -> None:
    """An argument stands in the place of its variable, also an empty namespace; that is not even checked then."""
    variables["TIDEOVER_ENDPOINTS"] = "10.0.0.1:2379"
    variables["TIDEOVER_NAMESPACE"] = "/shop"
    variables["TIDEOVER_CACERT"] = "/no/such/file"
    variables["TIDEOVER_USER"], variables["TIDEOVER_PASSWORD"] = "app", "other"
    options = connect(namespace="", tls=Tls(signed[0].cert), username="me", password=SECRET)._parts.options
    assert (options.namespace, options.username, options.password) == ("", "me", SECRET)
    variables["TIDEOVER_CACERT"] = ""
    options = connect(username="me")._parts.options
    assert (options.namespace, options.username, options.password, options.tls) == ("/shop", "me", "other", None)


def test_keys_and_the_bootstrap_file_are_read_with_the_rest(variables: dict[str, str], tmp_path: Path) -> None:
    """Both are of the set; keys that are malformed refuse no start, a bootstrap file that is missing does."""
    variables["TIDEOVER_ENDPOINTS"] = "10.0.0.1:2379"
    assert (connect()._parts.options.encryption, connect()._parts.options.bootstrap) == (None, None)
    variables["TIDEOVER_SNAPSHOT_KEYS"] = SECRET
    assert (
        repr(connect()._parts.options.encryption)
        == "<Encryption with keys of the variable TIDEOVER_SNAPSHOT_KEYS>"
    )
    variables["TIDEOVER_SNAPSHOT_KEYS_FILE"] = str(tmp_path / "keys")
    with pytest.raises(ValueError, match="both TIDEOVER_SNAPSHOT_KEYS and a file of keys are given"):
        connect()
    variables["TIDEOVER_SNAPSHOT_KEYS"] = ""
    assert repr(connect()._parts.options.encryption) == f"<Encryption with keys of {tmp_path / 'keys'}>"
    variables["TIDEOVER_BOOTSTRAP"] = str(tmp_path / "file")
    with pytest.raises(ValueError, match=r"bootstrap: .* cannot be read"):
        connect()
    (tmp_path / "file").write_text("{}")
    (tmp_path / "other").write_text("{}")
    assert connect()._parts.options.bootstrap == str(tmp_path / "file")
    assert connect(bootstrap=tmp_path / "other")._parts.options.bootstrap == tmp_path / "other"


def test_a_password_file_is_read_at_each_login(variables: dict[str, str], tmp_path: Path) -> None:
    """It becomes a path, and need not be there yet: that is an outage, as with `password=Path(...)`."""
    variables["TIDEOVER_ENDPOINTS"], variables["TIDEOVER_USER"] = "10.0.0.1:2379", "app"
    variables["TIDEOVER_PASSWORD_FILE"] = str(tmp_path / "password")
    assert connect()._parts.options.password == tmp_path / "password"


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({}, "give at least one endpoint, .* or set TIDEOVER_ENDPOINTS"),
        ({"ENDPOINTS": ""}, "or set TIDEOVER_ENDPOINTS"),
        ({"ENDPOINTS": "etcd"}, "TIDEOVER_ENDPOINTS: endpoint 'etcd': need host:port"),
        ({"ENDPOINTS": "http://a:1,https://b:1"}, "TIDEOVER_ENDPOINTS: .* all members or none"),
        ({"ENDPOINTS": "a:1", "CERT": "/x"}, "TIDEOVER_CERT: need both cert and key"),
        ({"ENDPOINTS": "a:1", "CACERT": "/no/such"}, "TIDEOVER_CACERT: ca: there is no file '/no/such'"),
        ({"ENDPOINTS": "a:1", "USER": "app"}, "no password for user 'app': set TIDEOVER_PASSWORD or"),
        ({"ENDPOINTS": "a:1", "USER": f"app:{SECRET}"}, "TIDEOVER_USER: give the name alone"),
        ({"ENDPOINTS": "a:1", "USER": "app", "PASSWORD": SECRET, "PASSWORD_FILE": "/x"}, "both TIDEOVER_PASSWORD"),
        (
            {"ENDPOINTS": "a:1", "NAMESPACE": "/shop/"},
            "TIDEOVER_NAMESPACE: namespace must have no NUL and not end in a slash",
        ),
    ],
)
def test_what_cannot_work_names_its_variable(
    variables: dict[str, str], given: dict[str, str], complaint: str
) -> None:
    """A mistake in the environment is found when `connect` is called, and the password is not shown."""
    for name, value in given.items():
        variables[f"TIDEOVER_{name}"] = value
    with pytest.raises(ValueError, match=complaint) as caught:
        connect()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ["TIDEOVER_PASSWORD", "TIDEOVER_PASSWORD_FILE"])
def test_a_password_without_a_user_is_nobodys(
    variables: dict[str, str], caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """As on the command line, it is left alone; a warning names both variables."""
    variables["TIDEOVER_ENDPOINTS"], variables[name] = "a:1", SECRET
    assert (connect()._parts.options.username, connect()._parts.options.password) == (None, None)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert f"{name} is set and left alone, because TIDEOVER_USER is not set" in warnings[0]
    assert SECRET not in warnings[0]


def test_the_command_line_names_the_variable_of_a_namespace_that_is_none(
    variables: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of an option it names the option."""
    variables["TIDEOVER_NAMESPACE"] = "/shop/"
    assert run(["status"]) == 2
    assert "Invalid value for 'TIDEOVER_NAMESPACE': namespace must have no NUL" in capsys.readouterr().err
    assert run(["status", "-n", "/other/"]) == 2
    assert "Invalid value for '--namespace' / '-n': namespace must" in capsys.readouterr().err


def test_the_middleware_takes_them_too(variables: dict[str, str]) -> None:
    """Without endpoints it reads the environment once, for all runs; without either it says what it needs."""
    with pytest.raises(TypeError, match="TIDEOVER_ENDPOINTS in the environment"):
        TideoverMiddleware(Starlette())
    variables["TIDEOVER_ENDPOINTS"], variables["TIDEOVER_NAMESPACE"] = "10.0.0.1:2379", "/shop"
    tide: Coordinator = TideoverMiddleware(Starlette(), follow=("a/",))._plan.coordinator
    options = tide._parts.options
    assert (options.endpoints, tide.namespace, options.follow) == (
        ("10.0.0.1:2379",),
        "/shop",
        ("a/",),
    )
    with pytest.raises(ValueError, match="leave endpoints out"):
        TideoverMiddleware(Starlette(), endpoints=[])


def test_the_command_line_reads_the_same_set(
    variables: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The namespace, too, has its variable; and an option wins."""
    variables["TIDEOVER_ENDPOINTS"], variables["TIDEOVER_NAMESPACE"] = "127.0.0.1:1", "/shop"
    assert run(["status"]) == 4
    assert "namespace  /shop" in capsys.readouterr().out
    assert run(["status", "-n", "/other"]) == 4
    assert "namespace  /other" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["a:1,b:2", "a:1, b:2", " a:1 b:2 ", "a:1,b:2,\n"])
def test_endpoints_are_divided_by_commas_or_white_space(text: str) -> None:
    """As people write them into files of variables."""
    assert split_endpoints(text) == ("a:1", "b:2")
