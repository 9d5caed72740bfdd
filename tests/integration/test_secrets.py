"""Credentials are shown nowhere: all is driven with secrets that can be recognised, and what it says searched."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import traceback
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

import tideover
from tests.canaries import canary
from tests.etcd.certificates import Authority
from tests.telemetry.recording import install
from tideover import HealthState, Tls
from tideover.etcd.adapter import EtcdStore
from tideover.testing import EtcdServer

pytestmark = [pytest.mark.anyio, pytest.mark.etcd, pytest.mark.any_etcd]

PASSWORD = canary("shown-nowhere")
WRONG = canary("wrong")


class Searched:
    """All that was said, and the secrets that must not be in it."""

    def __init__(self, *secrets: str) -> None:
        self.secrets = set(secrets)
        self.said: list[str] = []

    def hear(self, *things: object) -> None:
        """Take in what is said: text, or an exception with its whole traceback, or an object by its repr."""
        for thing in things:
            if isinstance(thing, BaseException):
                self.said.append("".join(traceback.format_exception(thing)))
            self.said.append(thing if isinstance(thing, str) else repr(thing))

    def found(self) -> list[str]:
        """Return what has a secret in it."""
        return [text for text in self.said if any(secret in text for secret in self.secrets)]


def objects_of_ours() -> list[object]:
    """Return all objects alive whose class is tideover's."""
    return [o for o in gc.get_objects() if str(type(o).__module__).partition(".")[0] == "tideover"]


def command(*args: str, **environment: str) -> str:
    """Run a command, and return all it prints."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-m", "tideover.cli", *args],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    return f"{done.returncode}\n{done.stdout}\n{done.stderr}"


async def test_credentials_are_shown_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No password, token or private key is in a log, a span, a repr, an error, the status, a file or an output."""
    caplog.set_level(logging.DEBUG)
    recorded = install()
    recorded.clear()
    authority = Authority(tmp_path)
    client, other = authority.sign("client"), authority.sign("other")
    tls = client.trusting(authority.cert)
    searched = Searched(PASSWORD, WRONG, *client.key.read_text().splitlines()[1:-1])
    snapshots = tmp_path / "snapshots"
    with EtcdServer(tls=authority.sign("etcd").trusting(authority.cert), args=("--bcrypt-cost=4",)) as server:
        for line in (
            "user add root:root",
            "user grant-role root root",
            "role add app",
            "role grant-permission --prefix=true app readwrite /config/",
            f"user add app:{PASSWORD}",
            "user grant-role app app",
            "auth enable",
        ):
            server.etcdctl(*line.split())

        # Options that are refused.
        for options in ({"password": PASSWORD}, {"username": "", "password": PASSWORD}, {"username": "app"}):
            with pytest.raises((ValueError, TypeError)) as refused:
                tideover.connect(server.endpoint, **options)  # type: ignore[arg-type]
            searched.hear(refused.value)
        with pytest.raises(TypeError) as typed:
            tideover.connect(server.endpoint, username="app", password=PASSWORD.encode())  # type: ignore[arg-type]
        searched.hear(typed.value)
        with pytest.raises(ValueError) as unfit:
            unfitting = Tls(authority.cert, client.cert, other.key)
            async with tideover.connect(server.endpoint, tls=unfitting, cache_dir=False, start_timeout=5):
                pytest.fail("it was entered")
        searched.hear(unfit.value)
        del unfit  # and with it, what was never made whole
        gc.collect()

        # All is well; then a call that is refused, a password that is changed, and an outage.
        endpoint = f"https://{server.endpoint}"
        async with tideover.connect(
            endpoint, tls=tls, username="app", password=PASSWORD, cache_dir=snapshots, record_keys=True
        ) as tide:
            await tide.config.put("k", "v")
            store = tide._parts.store
            assert isinstance(store, EtcdStore)
            assert store._login is not None
            assert store._login._token
            searched.secrets.add(store._login._token)
            searched.hear(*objects_of_ours(), str(tide.status().to_dict()))
            server.kill()
            await tide.health.wait_for(HealthState.UNAVAILABLE, timeout=10)
            with pytest.raises(tideover.TideoverError) as away:
                await tide.config.put("k", "w")
            searched.hear(away.value)
            searched.hear(*objects_of_ours(), str(tide.status().to_dict()))
            server.start()
            await server.ready()
            await tide.health.wait_for(HealthState.AVAILABLE, timeout=10)
            assert store._login._token
            searched.secrets.add(store._login._token)
        async with tideover.connect(
            endpoint, tls=tls, username="app", password=WRONG, cache_dir=snapshots
        ) as wrong:
            with pytest.raises(tideover.AuthenticationFailed) as denied:
                await wrong.config.put("k", "w")
            searched.hear(denied.value, *objects_of_ours(), str(wrong.status().to_dict()))
        async with tideover.connect(
            server.endpoint, tls=Tls(other.cert), username="app", password=PASSWORD, cache_dir=False
        ) as strange:
            searched.hear(str(strange.status().to_dict()), strange.health)

        # The command line.
        files = (f"--cacert={authority.cert}", f"--cert={client.cert}", f"--key={client.key}")
        for password in (PASSWORD, WRONG):
            for args in (("status",), ("status", "--json"), ("config", "get", "k"), ("config", "put", "k", "x")):
                text = await anyio.to_thread.run_sync(
                    lambda args=args, password=password: command(  # type: ignore[misc]
                        *args, "--user=app", *files, "-e", server.endpoint, TIDEOVER_PASSWORD=password
                    )
                )
                searched.hear(text)
        searched.hear(command("status", f"--user=app:{PASSWORD}"), command("cache", "show", str(snapshots)))
    spans = recorded.spans()
    assert len(spans) > 5
    searched.hear(*(span.to_json() for span in spans), caplog.text)
    searched.hear(*(path.read_text() for path in snapshots.rglob("*") if path.is_file()))
    assert len(searched.secrets) > 5
    assert len(searched.said) > 100
    assert searched.found() == []


async def test_rotated_files_are_taken_by_a_running_coordinator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Certificates of a new CA under a running service: nothing is noticed, and etcd may then drop the old CA."""
    defaults = EtcdStore.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "look_every", 0.1)
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    both = old.cert.read_text() + new.cert.read_text()
    ours, theirs = old.sign("client", file="ours"), old.sign("etcd", file="theirs")
    trusted, trusting = tmp_path / "trusted.pem", tmp_path / "trusting.pem"
    trusted.write_text(both)
    trusting.write_text(both)
    with EtcdServer(tls=theirs.trusting(trusting)) as server:
        async with tideover.connect(
            server.endpoint, tls=ours.trusting(trusted), cache_dir=False, start_timeout=5
        ) as tide:
            await tide.config.put("k", "v")
            states = set()
            fresh = new.sign("client", file="fresh")
            os.replace(fresh.cert, ours.cert)
            await anyio.sleep(0.3)  # half of it is there
            await tide.config.put("k", "half")
            os.replace(fresh.key, ours.key)
            for number in range(50):
                await tide.config.put("k", str(number))
                states.add(tide.health.state)
                await anyio.sleep(0.01)
            assert states == {HealthState.AVAILABLE}

            # Only with the new certificate there is a way in now.
            server.kill()
            fresh = new.sign("etcd", file="fresh")
            os.replace(fresh.cert, theirs.cert)
            os.replace(fresh.key, theirs.key)
            trusting.write_bytes(new.cert.read_bytes())
            trusted.write_bytes(new.cert.read_bytes())
            server.start()
            await server.ready()
            await tide.health.wait_for(HealthState.AVAILABLE, timeout=10)
            await tide.config.put("k", "new", timeout=10)
            assert tide.config.get("k") == "new"
            assert tide.status().restarts == 0
