"""The examples do what their first lines promise: they answer, and go on answering when etcd is dead."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from tideover import connect
from tideover.testing import EtcdServer
from tideover.testing.etcd.ports import ReservedPort

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = [pytest.mark.etcd, pytest.mark.any_etcd]


@contextmanager
def running(*command: str, etcd: EtcdServer, cache: Path) -> Iterator[subprocess.Popen[str]]:
    """Run an example until the block ends."""
    env = {**os.environ, "ETCD_ENDPOINTS": etcd.endpoint, "XDG_CACHE_HOME": str(cache)}
    process = subprocess.Popen([sys.executable, *command], env=env, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=15)


@contextmanager
def service(name: str, *options: str, etcd: EtcdServer, cache: Path) -> Iterator[str]:
    """Run an example's `app` with uvicorn and return its base URL, once it listens."""
    port = ReservedPort()
    command = ["-m", "uvicorn", "--app-dir", str(EXAMPLES), f"{name}:app", "--port", str(port.number), *options]
    with running(*command, "--log-level", "warning", etcd=etcd, cache=cache):
        url = f"http://127.0.0.1:{port.number}"
        wait_until_listening(url, timeout=60.0 if options else 20.0)
        yield url
    port.release()


def wait_until_listening(url: str, timeout: float = 20.0) -> None:
    """Wait until something answers, be it with an error."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            get(url)
        except OSError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.05)
        else:
            return


def get(url: str) -> tuple[int, str, str]:
    """Return status, body and `Tideover-Status` of a response, errors included."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status, response.read().decode(), response.headers.get("Tideover-Status", "")
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read().decode(), exc.headers.get("Tideover-Status", "")


def degraded(url: str, timeout: float = 15.0) -> tuple[int, str, str]:
    """Ask until the answer is marked as degraded, and return it; every answer on the way must be a 200."""
    deadline = time.monotonic() + timeout
    while True:
        answer = get(url)
        assert answer[0] == 200
        if answer[2] or time.monotonic() >= deadline:
            return answer
        time.sleep(0.1)


def test_config_service(etcd_server: EtcdServer, tmp_path: Path) -> None:
    """`config_service` answers from etcd, and with etcd killed still answers 200, labelled."""
    etcd_server.etcdctl("put", "/shop/config/greeting", "Good morning")
    etcd_server.etcdctl("put", "/shop/config/limits", '{"items": 3}')
    with service("config_service", etcd=etcd_server, cache=tmp_path) as url:
        assert get(url) == (200, "Good morning\n", "")
        code, body, _ = get(f"{url}/limits")
        assert code == 200
        assert json.loads(body) == {"limits": {"items": 3, "total": 500.0}, "source": "live", "stale": False}
        etcd_server.kill()
        code, body, field = degraded(url)
        assert (code, body) == (200, "Good morning\n")
        assert field.startswith("config=memory;age=")
        assert json.loads(get(f"{url}/limits")[1])["source"] == "memory"
        assert json.loads(get(f"{url}/status")[1])["state"] == "unavailable"


def test_fastapi_service(etcd_server: EtcdServer, tmp_path: Path) -> None:
    """`fastapi_service` takes no injected value from the query, and with etcd killed still answers 200."""
    with service("fastapi_service", etcd=etcd_server, cache=tmp_path) as url:
        assert get(f"{url}/quote?kg=3")[0] == 503
        etcd_server.etcdctl("put", "/parcels/config/price_per_kg", "4.20")
        deadline = time.monotonic() + 5
        while get(f"{url}/quote?kg=3")[0] != 200 and time.monotonic() < deadline:
            time.sleep(0.02)
        code, body, field = get(f"{url}/quote?kg=3&per_kg=1")
        assert (code, json.loads(body), field) == (200, {"kg": 3.0, "price": 12.6}, "")
        etcd_server.kill()
        code, body, field = degraded(f"{url}/quote?kg=3")
        assert (code, json.loads(body)) == (200, {"kg": 3.0, "price": 12.6})
        assert field.startswith("config=memory;age=")


def by_worker(url: str, workers: int, price: float, refused: str = "") -> set[int]:
    """Ask until each of so many workers has answered as said, and return their ids; every answer must be a 200."""
    found: set[int] = set()
    deadline = time.monotonic() + 30
    while len(found) < workers and time.monotonic() < deadline:
        code, body, _ = get(url)
        assert code == 200
        answer = json.loads(body)
        if answer["price"] == price and bool(refused) is bool(answer["refused"]):
            assert answer["refused"].endswith(refused)
            found.add(answer["worker"])
    assert len(found) == workers
    return found


def test_settings_service(etcd_server: EtcdServer, tmp_path: Path) -> None:
    """With etcd dead four workers of `settings_service` start from the snapshot; none uses a bad value."""

    async def leave_a_snapshot() -> None:
        folder = tmp_path / "tideover"
        async with connect(etcd_server.endpoint, namespace="/taxi", cache_dir=folder, start_timeout=5) as tide:
            await tide.config.put("fares/per_km", 3)
            await tide.config.put("fares/night/factor", 2)

    anyio.run(leave_a_snapshot)
    etcd_server.kill()
    with service("settings_service", "--workers", "4", etcd=etcd_server, cache=tmp_path) as url:
        ride = f"{url}/fare?km=10&night=true"
        workers = by_worker(ride, 4, price=60.0)
        assert get(ride)[2].startswith("config=disk;age=")
        etcd_server.restart()
        etcd_server.etcdctl("put", "/taxi/config/fares/per_km", "cheap")
        bad = "Settings refuses it: ValidationError: per_km: float_parsing"
        assert by_worker(ride, 4, price=60.0, refused=bad) == workers
        etcd_server.etcdctl("put", "/taxi/config/fares/per_km", "4")
        assert by_worker(ride, 4, price=80.0) == workers


def test_feature_flags(etcd_server: EtcdServer, tmp_path: Path) -> None:
    """`feature_flags` follows the flag in etcd, and with etcd killed still answers by it, as STALE."""
    flag = ("put", "/shop/config/flags/new-checkout")
    etcd_server.etcdctl(*flag, "true")
    with service("feature_flags", etcd=etcd_server, cache=tmp_path) as url:
        assert get(url) == (200, "the new checkout\n", "")
        etcd_server.etcdctl(*flag, '{"variants": {"on": true, "off": false}, "default": "off"}')
        deadline = time.monotonic() + 5
        while get(url)[1] != "the old checkout\n" and time.monotonic() < deadline:
            time.sleep(0.02)
        assert json.loads(get(f"{url}/flag")[1]) == {"value": False, "variant": "off", "reason": "STATIC"}
        etcd_server.kill()
        code, body, field = degraded(url)
        assert (code, body) == (200, "the old checkout\n")
        assert field.startswith("config=memory;age=")
        assert json.loads(get(f"{url}/flag")[1]) == {"value": False, "variant": "off", "reason": "STALE"}


class Output:
    """A process's lines, read by a thread so that waiting for one can end."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._lines: queue.Queue[str] = queue.Queue()
        assert process.stdout is not None
        self._stdout = process.stdout
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        # Who is killed leaves its pipe to be closed by whoever started it, while this still reads.
        with suppress(ValueError):
            for line in self._stdout:
                self._lines.put(line.strip())

    def wait_for(self, text: str, timeout: float = 20.0) -> str:
        """Return the next line that contains a text."""
        deadline = time.monotonic() + timeout
        while True:
            line = self._lines.get(timeout=max(0.01, deadline - time.monotonic()))
            if text in line:
                return line


def post(url: str) -> dict[str, Any]:
    """Return the answer to a POST, if it is a JSON object, with its `Retry-After`."""
    try:
        answer: Any = urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=10)
    except urllib.error.HTTPError as exc:
        answer = exc
    with answer:
        problem = answer.headers["Content-Type"] == "application/problem+json"
        return {**json.load(answer), "field": answer.headers["Retry-After"]} if problem else {}


def test_guarded_service(etcd_server: EtcdServer, tmp_path: Path) -> None:
    """`guarded_service` refuses payments once etcd is killed, says when to come again, and serves prices."""
    with service("guarded_service", etcd=etcd_server, cache=tmp_path) as url:
        assert post(f"{url}/pay") == {}
        etcd_server.kill()
        deadline = time.monotonic() + 15
        while (refused := post(f"{url}/pay")).get("requirement") != "lock" and time.monotonic() < deadline:
            time.sleep(0.1)
        assert (refused["requirement"], refused["field"]) == ("lock", str(refused["retry_after"]))
        assert get(f"{url}/price")[0] == 200


def test_worker(etcd_server: EtcdServer, tmp_path: Path) -> None:
    """`worker` follows its settings, keeps the last good ones, and works on when etcd is killed."""
    etcd_server.etcdctl("put", "/mailer/config/batch/pause", "0.1")
    with running(str(EXAMPLES / "worker.py"), etcd=etcd_server, cache=tmp_path) as process:
        output = Output(process)
        output.wait_for("sent 10 mails")
        etcd_server.etcdctl("put", "/mailer/config/batch/size", "3")
        output.wait_for("batch/size is now 3")
        output.wait_for("sent 3 mails")
        etcd_server.etcdctl("put", "/mailer/config/batch/size", "0")
        output.wait_for("batch/size is now 0")
        output.wait_for("sent 3 mails")
        etcd_server.kill()
        assert "served from memory" in output.wait_for("sent 3 mails (")


def test_shards(etcd_server: EtcdServer, tmp_path: Path) -> None:
    """`shards` gives each shard to one worker; one that leaves sets its shard free; without etcd they stop."""
    script = str(EXAMPLES / "shards.py")
    with running(script, etcd=etcd_server, cache=tmp_path) as first:
        outputs = [Output(first)]
        mine = outputs[0].wait_for("works on").split()[-1]
        with running(script, etcd=etcd_server, cache=tmp_path) as second:
            other = Output(second).wait_for("works on").split()[-1]
            assert {mine, other} == {"north", "south"}
            second.send_signal(signal.SIGINT)
            second.wait(10)
        with running(script, etcd=etcd_server, cache=tmp_path) as third:
            outputs.append(Output(third))
            assert outputs[1].wait_for("works on").split()[-1] == other
            etcd_server.kill()
            for output in outputs:
                assert "no renewal could be proven" in output.wait_for("stops:", timeout=25)


def test_elected_worker(etcd_server: EtcdServer, tmp_path: Path) -> None:
    """Of two `elected_worker`s one works; when it is ended the other goes on at once, with a larger token."""
    script = str(EXAMPLES / "elected_worker.py")
    with running(script, "two", etcd=etcd_server, cache=tmp_path) as two:
        before = int(Output(two).wait_for("two works: held, token ").rpartition(" ")[2])
        with running(script, "one", etcd=etcd_server, cache=tmp_path) as one:
            waiting = Output(one)
            time.sleep(1.5)
            assert waiting._lines.empty()
            two.terminate()
            ended = time.monotonic()
            after = int(waiting.wait_for("one works: held, token ").rpartition(" ")[2])
            assert time.monotonic() - ended < 3
            assert after > before


def test_locked_worker(etcd_server: EtcdServer, tmp_path: Path) -> None:
    """Of several `locked_worker`s one charges each order; the others find that done."""
    script = str(EXAMPLES / "locked_worker.py")
    with running(script, etcd=etcd_server, cache=tmp_path) as one:
        output = Output(one)
        with running(script, etcd=etcd_server, cache=tmp_path) as two:
            outputs = [output, Output(two)]
            for order in (1, 2, 3):
                lines = [each.wait_for(f"order {order}: ") for each in outputs]
                assert sorted("done already" in line for line in lines) == [False, True]


def test_confirmed_worker(etcd_server: EtcdServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three `confirmed_worker`s one works on when etcd is killed, same token, until another is killed too."""
    monkeypatch.setenv("FAILSAFE_SECRET", "a secret that is long enough")
    monkeypatch.setenv("TTL", "5")
    script = str(EXAMPLES / "confirmed_worker.py")
    with running(script, "one", etcd=etcd_server, cache=tmp_path) as one:
        output = Output(one)
        token = output.wait_for("one works: held, token ").split()[-1]
        with (
            running(script, "two", etcd=etcd_server, cache=tmp_path) as two,
            running(script, "three", etcd=etcd_server, cache=tmp_path) as three,
        ):
            until = time.monotonic() + 15
            while etcd_server.etcdctl("get", "/confirmed/elections/work").count("@") < 2:
                assert time.monotonic() < until
                time.sleep(0.1)
            etcd_server.kill()
            output.wait_for(f"one works: confirmed, token {token}", timeout=10)
            two.terminate()
            Output(two).wait_for("two has ended", timeout=10)
            ended = time.monotonic()
            while time.monotonic() - ended < 5:
                assert "one works: confirmed" in output.wait_for("one ", timeout=5)
            three.kill()
            output.wait_for("one stops: 'work' is not led here any more", timeout=6)


def test_registered_service(etcd_server: EtcdServer, tmp_path: Path) -> None:
    """`registered_service` is in etcd, comes back when its key is deleted, drains, and is gone when it ends."""

    def found() -> str:
        return etcd_server.etcdctl("get", "--prefix", "/shop/services/shop/")

    def until(text: str, *, there: bool = True) -> None:
        deadline = time.monotonic() + 10
        while (text in found()) is not there:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    with service("registered_service", etcd=etcd_server, cache=tmp_path) as url:
        until("http://127.0.0.1:8000")
        etcd_server.etcdctl("del", "--prefix", "/shop/services/")
        until("http://127.0.0.1:8000")
        # etcd has the key a moment before the process hears of it.
        deadline = time.monotonic() + 10
        while (status := json.loads(get(url)[1])[0])["state"] != "registered":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert (status["service"], status["comebacks"]) == ("shop", 1)
        request = urllib.request.Request(f"{url}/drain", method="POST")
        with urllib.request.urlopen(request, timeout=5) as response:
            assert response.read() == b"drained\n"
        until('"weight":0.0')
    until("http://", there=False)


def test_leader_service(etcd_server: EtcdServer, tmp_path: Path) -> None:
    """`leader_service` leads and takes writes; without etcd it stays live and ready, and says `degraded`."""
    with service("leader_service", etcd=etcd_server, cache=tmp_path) as url:
        deadline = time.monotonic() + 10
        while get(f"{url}/_tideover/leader/reaper")[0] != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with urllib.request.urlopen(urllib.request.Request(f"{url}/write", method="POST"), timeout=5) as response:
            assert "written_by" in json.loads(response.read())
        etcd_server.kill()
        while (answer := get(f"{url}/_tideover/readyz"))[1].split()[0] != "degraded":
            assert answer[0] == 200
            assert time.monotonic() < deadline + 10
            time.sleep(0.05)
        assert get(f"{url}/_tideover/livez")[0] == 200


def test_discovered_services(etcd_server: EtcdServer, tmp_path: Path) -> None:
    """`discovered_services`: etcd dies, then one of two services; no call fails, the other answers them all."""
    script = str(EXAMPLES / "discovered_services.py")
    with running("-u", script, etcd=etcd_server, cache=tmp_path) as process:
        output = Output(process)
        first, second = output.wait_for("billing runs as").split()[-2:]
        both = output.wait_for("etcd available, 2 endpoints")
        assert first in both
        assert second in both
        etcd_server.kill()
        output.wait_for("etcd unavailable, 2 endpoints")
        os.kill(int(first), signal.SIGKILL)
        lines = [output.wait_for("etcd unavailable, 2 endpoints") for _ in range(3)]
        assert lines[-1].endswith(f"1 ejected; {second}: 50")
        assert not any("FAILED" in line for line in lines)


def test_called_leader(etcd_server: EtcdServer, tmp_path: Path) -> None:
    """`called_leader`: the leader is ended, and the other one takes the writes from then on; none fails."""
    script = str(EXAMPLES / "called_leader.py")
    with running("-u", script, etcd=etcd_server, cache=tmp_path) as process:
        output = Output(process)
        candidates = set(output.wait_for("candidates run as").split()[-2:])
        former = output.wait_for("etcd available; ").split()[2].rstrip(":")
        assert former in candidates
        os.kill(int(former), signal.SIGTERM)
        (other,) = candidates - {former}
        assert "FAILED" not in output.wait_for(f"{other}: ")


def test_settling_service(etcd_server: EtcdServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two `settling_service`s the one that fails resigns, and the other one settles."""

    def job(url: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(get(url)[1])
        jobs: Any = found["jobs"]
        return {**found, **jobs[0]}

    monkeypatch.setenv("FAILING", "1")
    with service("settling_service", etcd=etcd_server, cache=tmp_path) as failing:
        deadline = time.monotonic() + 10
        while not job(failing)["failures"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert str(job(failing)["error"]).startswith("ConnectionError at settling_service.py:")
        monkeypatch.delenv("FAILING")
        with service("settling_service", etcd=etcd_server, cache=tmp_path) as well:
            deadline = time.monotonic() + 20
            while not job(well)["settled"]:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert (job(well)["state"], job(failing)["settled"]) == ("leading", 0)
