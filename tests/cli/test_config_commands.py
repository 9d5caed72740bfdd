"""`tideover config list`, `tree` and `delete`, run as operators and scripts run them, on a real etcd."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from tests.canaries import canary
from tideover.cli.app import run
from tideover.etcd.adapter import EtcdStore
from tideover.store.operations import Put
from tideover.store.transactions import Txn
from tideover.testing import EtcdServer

pytestmark = [pytest.mark.etcd, pytest.mark.any_etcd]

PASSWORD = canary("config-commands-password")
MANY = 2500
Tideover = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def server() -> Iterator[EtcdServer]:
    """One etcd for all tests here, with many keys in `/many`, odd ones in `/odd` and a few in `/few`."""

    async def fill() -> None:
        odd = (b"b\x1b[2J", b"b\nc", b"b\xff", "\u202eb".encode(), b"folder/", b"folder//x")
        keys = [b"/many/config/k%05d" % number for number in range(MANY)] + [b"/odd/config/" + key for key in odd]
        keys += [b"/few/config/" + key for key in (b"pay", b"pay-x", b"pay/limits/eur", b"pay/timeout", b"rate")]
        store = EtcdStore([running.endpoint])
        for at in range(0, len(keys), 100):
            puts = tuple(Put(key, b"x" * 100) for key in keys[at : at + 100])
            await store.call(Txn(then=puts), member=store.members[0], timeout=10)
        await store.aclose()

    with EtcdServer(args=("--bcrypt-cost=4",)) as running:
        anyio.run(fill)
        yield running


@pytest.fixture
def tideover(server: EtcdServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Tideover:
    """Run a command; return its exit code, output and complaints."""
    monkeypatch.setenv("TIDEOVER_ENDPOINTS", server.endpoint)

    def command(*args: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(args)
        return code, *capsys.readouterr()

    return command


def objects(out: str) -> list[dict[str, object]]:
    """Return the objects that a command printed, one a line."""
    return [json.loads(line) for line in out.splitlines()]


# Listing -------------------------------------------------------------------------------------------------------


def test_many_keys_are_listed(tideover: Tideover) -> None:
    """More than fit into a page: each once, in their order, under headings; JSON has an object for each."""
    code, out, err = tideover("config", "list", "-n", "/many")
    lines = out.splitlines()
    assert (code, err, lines[0].split()) == (0, "", ["REVISION", "KEY"])
    assert [line.split()[1] for line in lines[1:]] == [f"k{number:05}" for number in range(MANY)]
    _, out, _ = tideover("config", "list", "k0240", "-n", "/many", "--json")
    first, *rest = objects(out)
    assert len(rest) == 9
    assert list(first) == ["key", "etcd_key", "revision", "source"]
    assert (first["key"], first["etcd_key"], first["source"]) == ("k02400", "/many/config/k02400", "quorum")


def test_a_tree_shows_folders(tideover: Tideover) -> None:
    """Folders stand above their keys, a key beside the folder of its name; --depth counts what is below."""
    _, out, _ = tideover("config", "tree", "-n", "/few")
    expected = ["/few/config/", "pay", "pay-x", "pay/", "limits/", "eur", "timeout", "rate"]
    assert [line.strip() for line in out.splitlines()] == expected
    assert [len(line) - len(line.lstrip()) for line in out.splitlines()] == [0, 2, 2, 2, 4, 6, 4, 2]
    assert tideover("config", "tree", "--depth", "1", "-n", "/few")[1].splitlines()[3] == "  pay/  2 keys"
    _, out, _ = tideover("config", "tree", "pay/", "--depth", "1", "-n", "/few")
    assert out == "/few/config/pay/\n  limits/  1 key\n  timeout\n"
    _, out, _ = tideover("config", "tree", "pay/", "--depth", "1", "-n", "/few", "--json")
    folder, key = objects(out)
    assert (folder["key"], folder["kind"], folder["keys"], folder["revision"]) == (
        "pay/limits/",
        "folder",
        1,
        None,
    )
    assert (key["key"], key["kind"], key["keys"]) == ("pay/timeout", "key", None)
    assert folder.keys() == key.keys()


@pytest.mark.parametrize("command", ["list", "tree"])
def test_odd_keys_stay_in_their_lines(tideover: Tideover, command: str) -> None:
    """Controls, new lines, what turns writing round and what is no text is escaped; JSON has the text itself."""
    code, out, _ = tideover("config", command, "-n", "/odd")
    assert code == 0
    assert all(line.isprintable() for line in out.splitlines())
    for escaped in ("b\\x1b[2J", "b\\nc", "b\\udcff", "\\u202eb"):
        assert escaped in out
    keys = {found["key"] for found in objects(tideover("config", command, "-n", "/odd", "--json")[1])}
    assert keys == {"b\x1b[2J", "b\nc", "b\udcff", "\u202eb", "folder/", "folder//x"}


@pytest.mark.parametrize("command", ["list", "tree"])
def test_nothing_is_no_error(tideover: Tideover, command: str) -> None:
    """No keys are said in words, in JSON by no line, and the other spelling of the namespace is named."""
    code, out, err = tideover("config", command, "x", "-n", "few")
    assert (code, out, err) == (0, "no keys that begin with 'few/config/x'\n", "")
    code, out, err = tideover("config", command, "--json", "-n", "few")
    assert (code, out) == (0, "")
    assert "is -n /few meant?" in err
    code, out, err = tideover("config", command, "/pay", "-n", "/few")
    assert (code, out) == (5, "")
    assert "write 'pay', not '/pay'" in err


def test_whoever_reads_may_stop(server: EtcdServer) -> None:
    """Into `head` it ends with 141 and silently, on a full disk with 1 and a line."""
    command = [sys.executable, "-P", "-m", "tideover", "config", "list", "-n", "/many", "-e", server.endpoint]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().split() == ["REVISION", "KEY"]
        process.stdout.close()
        assert process.stderr is not None
        assert (process.stderr.read(), process.wait(20)) == ("", 141)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=30)
    assert (done.returncode, "No space left on device" in done.stderr) == (1, True)


def test_etcd_is_away(tideover: Tideover) -> None:
    """4 and one line, which says what else can be asked; a deletion says that nothing was done."""
    for command in (["list"], ["tree"], ["get", "a"]):
        code, out, err = tideover("config", *command, "-e", "127.0.0.1:1")
        assert (code, out, len(err.splitlines())) == (4, "", 1)
        assert "no etcd member answers" in err
        assert "--from-disk says what a service on this machine has last known" in err
    code, out, err = tideover("config", "delete", "a", "-e", "127.0.0.1:1")
    assert (code, out) == (4, "")
    assert err.endswith("; nothing was deleted\n")


# Deleting ------------------------------------------------------------------------------------------------------


def test_a_key_is_deleted_once(tideover: Tideover) -> None:
    """The whole key and the revision are printed; a key that is not there is a definite no."""
    assert tideover("config", "put", "gone", "1", "-n", "/few")[0] == 0
    code, out, err = tideover("config", "delete", "gone", "-n", "/few")
    assert (code, err) == (0, "")
    assert out.startswith("/few/config/gone deleted at revision ")
    code, out, err = tideover("config", "delete", "gone", "-n", "/few")
    assert (code, out, err) == (5, "", "tideover: no such key: '/few/config/gone'; nothing was deleted\n")
    assert tideover("config", "put", "gone", "1", "-n", "/few")[0] == 0
    (found,) = objects(tideover("config", "delete", "gone", "--json", "-n", "/few")[1])
    assert list(found) == ["key", "etcd_key", "deleted", "revision"]
    assert (found["key"], found["deleted"]) == ("gone", True)
    code, out, err = tideover("config", "delete", "gone", "--json", "-n", "few")
    assert (code, objects(out)[0]["deleted"], "is -n /few meant?" in err) == (5, False, True)


@pytest.mark.parametrize("args", [["delete"], ["delete", "a", "b"], ["list", "a", "b"], ["tree", "--depth", "0"]])
def test_wrong_arguments(tideover: Tideover, args: list[str]) -> None:
    """A wrong command line is 2 and one line."""
    code, out, err = tideover("config", *args)
    assert (code, out, len(err.splitlines())) == (2, "", 1)


# Last of all: from here on this etcd has users ------------------------------------------------------------------


def test_a_refusal_is_no_outage(server: EtcdServer, tideover: Tideover, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may not read is told so, with 5; who may only write deletes, and learns whether the key was there."""
    for command in (
        f"user add root:{PASSWORD}",
        "user grant-role root root",
        "role add writer",
        "role grant-permission --prefix=true writer write /few/config/",
        f"user add writer:{PASSWORD}",
        "user grant-role writer writer",
        "auth enable",
    ):
        server.etcdctl(*command.split())
    monkeypatch.setenv("TIDEOVER_PASSWORD", PASSWORD)
    for args in (
        ["config", "list"],
        ["config", "tree"],
        ["election", "list"],
        ["lock", "list"],
        ["lock", "show", "x"],
    ):
        code, out, err = tideover(*args, "-n", "/few", "--user", "writer")
        assert (code, out) == (5, ""), args
        assert "permission denied" in err
    assert tideover("config", "delete", "rate", "-n", "/many", "--user", "writer")[0] == 5
    assert tideover("config", "delete", "rate", "-n", "/few", "--user", "writer")[0] == 0
    assert tideover("config", "delete", "rate", "-n", "/few", "--user", "writer")[0] == 5
