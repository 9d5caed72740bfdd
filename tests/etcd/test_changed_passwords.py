"""Passwords that are wrong, changed or gone, against a real etcd."""

from __future__ import annotations

import time
from pathlib import Path

import anyio
import anyio.abc
import anyio.to_thread
import pytest

import tideover
from tests.etcd.users import LOGIN, PASSWORD, Login, until
from tideover import Diagnosis, HealthState, Source
from tideover.etcd.adapter import EtcdStore
from tideover.policies import Password
from tideover.store.faults import FaultKind, StoreFault
from tideover.store.operations import Range
from tideover.testing import EtcdServer

pytestmark = [pytest.mark.etcd, pytest.mark.anyio, pytest.mark.takes(45), pytest.mark.version]


async def test_a_wrong_password(guarded: EtcdServer) -> None:
    """A refused login is no outage: UNAUTHORIZED with its sentence, and AuthenticationFailed from every call."""
    wrong = Login(username="app", password="wrong")
    async with tideover.connect(guarded.endpoint, cache_dir=False, **wrong) as tide:
        assert tide.health.diagnosis is Diagnosis.UNAUTHORIZED
        assert "refuses this client's credentials: " in tide.status().sentence
        assert "invalid user ID or password" in tide.status().sentence
        with pytest.raises(tideover.AuthenticationFailed):
            tide.config.get("timeout", float, default=1.0)
        with pytest.raises(tideover.AuthenticationFailed):
            await tide.config.fetch("timeout")
        with pytest.raises(tideover.AuthenticationFailed):
            await tide.config.put("timeout", 1)
        assert tide.status().restarts == 0
    with pytest.raises(tideover.AuthenticationFailed):
        async with tideover.connect(guarded.endpoint, cache_dir=False, require="etcd", **wrong):
            pytest.fail("it was entered")


async def test_no_user_where_etcd_wants_one(guarded: EtcdServer) -> None:
    """Without a login etcd's refusal is one of the credentials."""
    async with tideover.connect(guarded.endpoint, cache_dir=False) as tide:
        assert tide.health.diagnosis is Diagnosis.UNAUTHORIZED
        with pytest.raises(tideover.AuthenticationFailed, match="user name is empty"):
            await tide.config.fetch("timeout")


async def test_a_password_that_is_changed_under_a_client(guarded: EtcdServer) -> None:
    """Declared after the usual time; what is known stays served, labelled; the old password back, all is well."""
    async with tideover.connect(guarded.endpoint, cache_dir=False, **LOGIN) as tide:
        await tide.config.put("timeout", 2.5)
        try:
            await anyio.to_thread.run_sync(lambda: _passwd(guarded, "changed"))
            began = time.monotonic()
            await until(lambda: tide.health.state is HealthState.UNAVAILABLE, within=12)
            assert time.monotonic() - began >= 3
            assert tide.health.diagnosis is Diagnosis.UNAUTHORIZED
            reading = tide.config.read("timeout", float)
            assert (reading.value, reading.source, reading.stale) == (2.5, Source.MEMORY, True)
        finally:
            await anyio.to_thread.run_sync(lambda: _passwd(guarded, PASSWORD))
        await until(lambda: tide.config.read("timeout", float).source is Source.LIVE, within=5)
        assert tide.status().restarts == 0


@pytest.mark.parametrize("form", ["file", "function", "async function"])
async def test_a_password_that_is_rotated(guarded: EtcdServer, tmp_path: Path, form: str) -> None:
    """A changed password is used at the next refused token, without a restart and without an outage."""
    now = [PASSWORD]
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")

    async def ask() -> str:
        return now[0]

    sources: dict[str, Password] = {"file": path, "function": lambda: now[0], "async function": ask}
    async with tideover.connect(guarded.endpoint, cache_dir=False, username="app", password=sources[form]) as tide:
        await tide.config.put("timeout", 1.5)
        try:
            for password in ("changed", "changed-again"):
                await anyio.to_thread.run_sync(lambda new=password: _passwd(guarded, new))  # type: ignore[misc]
                # As whatever mounts secrets does it: whole, in place of the old one.
                (tmp_path / "new").write_text(f"{password}\n")
                (tmp_path / "new").rename(path)
                now[0] = password
                await tide.config.put("timeout", 2.5)
                await anyio.sleep(3.5)
                assert tide.health.state is HealthState.AVAILABLE
                assert tide.config.read("timeout", float).source is Source.LIVE
        finally:
            await anyio.to_thread.run_sync(lambda: _passwd(guarded, PASSWORD))
        assert tide.status().restarts == 0


async def test_a_refusal_does_not_hide_a_new_password(guarded: EtcdServer) -> None:
    """A refused password is believed for 2 s without asking etcd; another one is tried at once."""
    now = ["wrong"]
    store = EtcdStore([guarded.endpoint], username="app", password=lambda: now[0])
    try:
        member = store.members[0]
        tried = []
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(StoreFault) as caught:
                await store.call(Range(b"/config/k"), member=member, timeout=5)
            assert caught.value.fault.kind is FaultKind.AUTHENTICATION
            tried.append(time.monotonic() - began)
        assert store._login is not None
        refused_at = store._login._refused_at
        now[0] = PASSWORD
        await store.call(Range(b"/config/k"), member=member, timeout=5)
        assert time.monotonic() - refused_at < 2
    finally:
        await store.aclose()


async def test_a_password_file_that_is_gone(
    guarded: EtcdServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An outage that names the file, declared as any other; values from memory; over when the file is back."""
    path = tmp_path / "password"
    path.write_text(PASSWORD)
    async with tideover.connect(guarded.endpoint, cache_dir=False, username="app", password=path) as tide:
        await tide.config.put("timeout", 2.5)
        path.rename(tmp_path / "away")
        # Whose password changed has no valid token any more.
        await anyio.to_thread.run_sync(lambda: _passwd(guarded, PASSWORD))
        await until(lambda: tide.health.state is HealthState.UNAVAILABLE, within=12)
        assert tide.health.diagnosis is Diagnosis.CUT_OFF
        assert "the password file cannot be read (No such file or directory): " in tide.status().sentence
        reading = tide.config.read("timeout", float)
        assert (reading.value, reading.source, reading.stale) == (2.5, Source.MEMORY, True)
        with pytest.raises(tideover.Unavailable):
            await tide.config.put("timeout", 3.5)
        (tmp_path / "away").rename(path)
        await until(lambda: tide.config.read("timeout", float).source is Source.LIVE, within=5)
        await tide.config.put("timeout", 4.5)
        assert tide.status().restarts == 0
    assert PASSWORD not in caplog.text


async def test_a_start_without_a_password(guarded: EtcdServer, tmp_path: Path) -> None:
    """A source that gives none at the start is an outage at the start: entered, or `Unavailable` if required."""
    missing = tmp_path / "missing"
    async with tideover.connect(guarded.endpoint, cache_dir=False, username="app", password=missing) as tide:
        assert tide.config.get("timeout", float, default=1.0) == 1.0
        assert "the password file cannot be read (No such file" in tide.status().sentence
    with pytest.raises(tideover.Unavailable, match="the password file cannot be read"):
        async with tideover.connect(
            guarded.endpoint, cache_dir=False, username="app", password=missing, require="etcd"
        ):
            pytest.fail("it was entered")


def _passwd(guarded: EtcdServer, password: str) -> None:
    guarded.etcdctl("--user=root:root", "user", "passwd", "app", "--interactive=false", input=f"{password}\n")
