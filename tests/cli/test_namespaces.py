"""Namespaces on the command line, on a real etcd, as root and as a user with few rights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.canaries import canary
from tideover.testing import EtcdServer

pytestmark = pytest.mark.etcd

PASSWORD = canary("namespaces-password")


def tideover(server: EtcdServer, *args: str, user: str = "root") -> subprocess.CompletedProcess[str]:
    """Run a command as a user; nothing it prints is a traceback."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TIDEOVER_")}
    login = {"TIDEOVER_ENDPOINTS": server.endpoint, "TIDEOVER_USER": user, "TIDEOVER_PASSWORD": PASSWORD}
    command = [sys.executable, "-P", "-m", "tideover.cli", *args]
    done = subprocess.run(command, env={**kept, **login}, capture_output=True, text=True, timeout=30)
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def server() -> Iterator[EtcdServer]:
    """An etcd with users: `app` may read configuration under both spellings, `narrow` only what is its own."""
    with EtcdServer(args=("--bcrypt-cost=4",)) as running:
        for key in ("config/rate", "services/api/i/x", "elections/reaper", "tideover/epoch"):
            running.etcdctl("put", f"/shop/{key}", "{}")
        running.etcdctl("put", "/else/locks/a/1", "")
        for command in (
            f"user add root:{PASSWORD}",
            "user grant-role root root",
            "role add app",
            "role grant-permission --prefix=true app readwrite /shop/config/",
            "role grant-permission --prefix=true app readwrite shop/config/",
            f"user add app:{PASSWORD}",
            "user grant-role app app",
            "role add narrow",
            "role grant-permission --prefix=true narrow readwrite shop/",
            f"user add narrow:{PASSWORD}",
            "user grant-role narrow narrow",
            "auth enable",
        ):
            running.etcdctl(*command.split())
        yield running


def test_what_is_not_found_is_named_under_the_other_spelling(server: EtcdServer) -> None:
    """A command that finds nothing under `shop` says on stderr what is under `/shop`; its code stays as it was."""
    hint = "tideover: 'shop' and '/shop' are two namespaces, and etcd has '/shop/{}': is -n /shop meant?\n"
    got = tideover(server, "config", "get", "nothing", "-n", "shop")
    expected = "tideover: no such key: 'shop/config/nothing'\n" + hint.format("config/rate")
    assert (got.returncode, got.stdout, got.stderr) == (5, "", expected)
    resolved = tideover(server, "resolve", "api", "-n", "shop")
    assert (resolved.returncode, resolved.stdout) == (5, "")
    assert resolved.stderr == "tideover: 'api' has no endpoints\n" + hint.format("services/api/i/x")
    election = tideover(server, "election", "show", "reaper", "-n", "shop")
    assert (election.returncode, election.stderr) == (5, hint.format("elections/reaper"))


def test_a_write_says_its_whole_key_and_what_else_there_is(server: EtcdServer) -> None:
    """`config put` prints the key as etcd has it; a new one under a spelling that nobody reads is not missed."""
    made = tideover(server, "config", "put", "rate", "5", "-n", "shop", user="app")
    assert made.stdout.startswith("shop/config/rate written at revision ")
    assert "is -n /shop meant?" in made.stderr
    again = tideover(server, "config", "put", "rate", "6", "-n", "shop", "--json", user="app")
    assert json.loads(again.stdout)["etcd_key"] == "shop/config/rate"
    assert again.stderr == ""
    right = tideover(server, "config", "put", "rate", "7", "-n", "/shop", user="app")
    assert (right.returncode, right.stderr) == (0, "")


def test_a_refusal_is_silent(server: EtcdServer) -> None:
    """A user who may not read the other spelling sees what was always there."""
    got = tideover(server, "config", "get", "nothing", "-n", "shop", user="narrow")
    assert (got.returncode, got.stderr) == (5, "tideover: no such key: 'shop/config/nothing'\n")
    services = tideover(server, "services", "-n", "shop", user="narrow")
    assert (services.returncode, services.stdout, services.stderr) == (0, "no services\n", "")


def test_namespaces_are_listed_as_far_as_they_may_be_read(server: EtcdServer) -> None:
    """Root sees all; a user with few rights what is theirs, and on stderr what may not be read."""
    everything = tideover(server, "namespaces")
    assert everything.returncode == 0
    assert everything.stdout.splitlines()[:2] == ["/else  locks", "/shop  config, elections, services, tideover"]
    assert "'shop' and '/shop' are two namespaces" in everything.stderr
    lines = tideover(server, "namespaces", "/shop/s", "--json").stdout.splitlines()
    assert [json.loads(line) for line in lines] == [{"namespace": "/shop", "trees": ["services"]}]
    some = tideover(server, "namespaces", "-n", "/shop", user="app")
    assert (some.returncode, some.stdout.splitlines()[0]) == (0, "/shop  config")
    refused = (
        "this user may not read all keys, what begins with '/shop/elections/', what begins with '/shop/locks/'"
    )
    assert refused in some.stderr
    unnamed = tideover(server, "namespaces", user="app")
    assert (unnamed.returncode, unnamed.stdout) == (5, "")
    assert "-n NAMESPACE shows one that this user may read" in unnamed.stderr
    none = tideover(server, "namespaces", "-n", "/else", user="app")
    assert (none.returncode, none.stdout) == (5, "")
    assert none.stderr == (
        "tideover: this user may not read all keys, what begins with '/else/', what begins with 'else/'\n"
    )


def test_the_doctor_looks_for_the_epoch_under_the_other_spelling(server: EtcdServer) -> None:
    """No epoch under this spelling and one under the other is a finding; a refusal is none."""
    found = tideover(server, "doctor", "-n", "shop")
    assert found.returncode == 1
    assert "BAD   namespace   'shop' and '/shop' are two, and etcd has an epoch for the second one" in found.stdout
    assert "BAD   namespace" not in tideover(server, "doctor", "-n", "shop", user="narrow").stdout
