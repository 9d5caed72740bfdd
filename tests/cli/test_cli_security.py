"""The command line against an etcd with TLS and one with users: options, environment, prompt, and complaints."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from tests.canaries import canary
from tests.etcd.certificates import Authority, Signed
from tideover import Registration, connect
from tideover.cli.app import run
from tideover.options import Options
from tideover.testing import EtcdServer

_COMMAND = (sys.executable, "-P", "-m", "tideover.cli")
PASSWORD = canary("command-password")


def tideover(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command with these variables and no others of ours; nothing it prints is a traceback or a password."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TIDEOVER_")}
    done = subprocess.run(
        [*_COMMAND, *args], env={**kept, **environment}, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    return done


def tideover_here(*args: str, **environment: str) -> int:
    """Run a command that reaches no etcd in this process; it prints no password."""
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(StringIO()) as out,
        redirect_stderr(StringIO()) as err,
    ):
        for name, value in environment.items():
            patch.setenv(name, value)
        code = run(args)
    assert PASSWORD not in out.getvalue() + err.getvalue()
    assert "tideover: " in err.getvalue()
    return code


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The CA of server and client."""
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def client(authority: Authority) -> Signed:
    """The client's certificate."""
    return authority.sign("client")


@pytest.fixture(scope="module")
def secure(authority: Authority) -> Iterator[EtcdServer]:
    """An etcd that takes only clients of its CA."""
    with EtcdServer(tls=authority.sign("etcd.internal").trusting(authority.cert)) as running:
        yield running


@pytest.fixture(scope="module")
def guarded() -> Iterator[EtcdServer]:
    """An etcd that asks for a password, and forgets its tokens after a second."""
    with EtcdServer(args=("--auth-token-ttl=1", "--bcrypt-cost=4")) as running:
        for command in (
            "user add root:root",
            "user grant-role root root",
            "role add app",
            "role grant-permission --prefix=true app readwrite /config/",
            f"user add app:{PASSWORD}",
            "user grant-role app app",
            "auth enable",
        ):
            running.etcdctl(*command.split())
        yield running


@pytest.mark.etcd
def test_certificates_by_options_and_by_environment(
    secure: EtcdServer, authority: Authority, client: Signed
) -> None:
    """The files are options in etcdctl's words, or variables; both write and read."""
    files = [f"--cacert={authority.cert}", f"--cert={client.cert}", f"--key={client.key}"]
    named = [*files, "--server-name=etcd.internal"]
    written = tideover("config", "put", "k", "v", *named, "-e", secure.endpoint)
    assert (written.returncode, written.stderr) == (0, "")
    environment = {
        "TIDEOVER_CACERT": str(authority.cert),
        "TIDEOVER_CERT": str(client.cert),
        "TIDEOVER_KEY": str(client.key),
        "TIDEOVER_ENDPOINTS": f"https://{secure.endpoint}",
    }
    read = tideover("config", "get", "k", **environment)
    assert (read.returncode, read.stdout) == (0, "v\n")
    assert tideover("status", **environment).returncode == 0


@pytest.mark.etcd
def test_mistakes_with_certificates(
    secure: EtcdServer, authority: Authority, client: Signed, tmp_path: Path
) -> None:
    """What cannot work is wrong usage; what etcd does not accept is an outage that says TLS."""
    half = tideover("status", f"--cert={client.cert}", "-e", secure.endpoint)
    assert (half.returncode, half.stdout) == (2, "")
    assert "need both cert and key" in half.stderr
    missing = tideover("status", "--cacert=/no/such/file", "-e", secure.endpoint)
    assert missing.returncode == 2
    assert "does not exist" in missing.stderr
    junk = tmp_path / "junk"
    junk.write_text("no certificate")
    unusable = tideover("status", f"--cacert={junk}", "-e", secure.endpoint)
    assert unusable.returncode == 2
    assert "cannot be used" in unusable.stderr
    mixed = tideover("status", f"--cacert={authority.cert}", "-e", f"http://{secure.endpoint}")
    assert mixed.returncode == 2
    assert "asks for it" in mixed.stderr
    nobody = tideover("config", "get", "k", f"--cacert={authority.cert}", "-e", secure.endpoint)
    assert nobody.returncode == 4
    assert "TLS configuration error" in nobody.stderr
    assert len(nobody.stderr.splitlines()) == 1, "gRPC writes lines of its own"
    plain = tideover("config", "get", "k", "-e", secure.endpoint)
    assert plain.returncode == 4
    assert "Socket closed (if TLS is spoken there, write the endpoint with https://)" in plain.stderr
    status = tideover("status", f"--cacert={authority.cert}", "-e", secure.endpoint)
    assert status.returncode == 4
    assert "TLS configuration error" in status.stdout
    system = tideover("config", "get", "k", "-e", f"https://{secure.endpoint}")
    assert (system.returncode, "TLS configuration error" in system.stderr) == (4, True)


@pytest.mark.etcd
def test_the_password_comes_from_the_environment(guarded: EtcdServer) -> None:
    """A user by option or variable, the password by variable; a wrong one is a no, and no outage."""
    at = ("-e", guarded.endpoint)
    written = tideover("config", "put", "k", "v", "--user=app", *at, TIDEOVER_PASSWORD=PASSWORD)
    assert (written.returncode, written.stderr) == (0, "")
    read = tideover("config", "get", "k", *at, TIDEOVER_USER="app", TIDEOVER_PASSWORD=PASSWORD)
    assert (read.returncode, read.stdout) == (0, "v\n")
    wrong = tideover("config", "get", "k", "--user=app", *at, TIDEOVER_PASSWORD="wrong")
    assert wrong.returncode == 5
    assert "invalid user ID or password" in wrong.stderr
    status = tideover("status", "--user=app", *at, TIDEOVER_PASSWORD="wrong")
    assert (status.returncode, status.stdout.splitlines()[0]) == (5, "etcd refuses this client's credentials.")
    denied = tideover("config", "get", "k", "-n", "/x", "--user=app", *at, TIDEOVER_PASSWORD=PASSWORD)
    assert denied.returncode == 5
    nobody = tideover("config", "get", "k", *at)
    assert nobody.returncode == 5


@pytest.mark.etcd
def test_the_password_comes_from_a_file(guarded: EtcdServer, tmp_path: Path) -> None:
    """By option or by variable; a wrong one is a no, and a file that cannot be used is wrong usage."""
    at = ("--user=app", "-e", guarded.endpoint)
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")
    path.chmod(0o600)
    written = tideover("config", "put", "f", "v", f"--password-file={path}", *at)
    assert (written.returncode, written.stderr) == (0, "")
    path.chmod(0o644)
    warned = tideover("config", "get", "f", f"--password-file={path}", *at)
    assert warned.returncode == 0
    assert f"warning: every user of this machine can read {path} (mode 0644)" in warned.stderr
    read = tideover("config", "get", "f", *at, TIDEOVER_PASSWORD_FILE=str(path))
    assert (read.returncode, read.stdout) == (0, "v\n")
    doctor = tideover("doctor", f"--password-file={path}", *at)
    assert "refuses" not in doctor.stdout
    path.write_text("wrong")
    assert tideover("config", "get", "f", f"--password-file={path}", *at).returncode == 5


def test_mistakes_with_password_files(tmp_path: Path) -> None:
    """Two passwords, a file nobody can use, and a file without a user are wrong usage, at once."""
    path = tmp_path / "password"
    path.write_text(PASSWORD)
    at, file = ("config", "get", "k", "-e", "127.0.0.1:1"), f"--password-file={path}"
    for both in (
        tideover(*at, "--user=app", file, TIDEOVER_PASSWORD=PASSWORD),
        tideover(*at, "--user=app", TIDEOVER_PASSWORD=PASSWORD, TIDEOVER_PASSWORD_FILE=str(path)),
    ):
        assert both.returncode == 2
        assert "both TIDEOVER_PASSWORD and a password file are given" in both.stderr
    nobody = tideover(*at, file)
    assert (nobody.returncode, "--password-file needs --user" in nobody.stderr) == (2, True)
    ignored = tideover(*at, TIDEOVER_PASSWORD_FILE=str(path))
    assert ignored.returncode == 4
    path.write_bytes(PASSWORD.encode() + b"\xff")
    for content, said in ((None, "is not UTF-8 text"), (b"\n", "is empty")):
        if content is not None:
            path.write_bytes(content)
        bad = tideover(*at, "--user=app", file)
        assert bad.returncode == 2
        assert f"the password file {said}: {path}" in bad.stderr
    path.unlink()
    gone = tideover(*at, "--user=app", file)
    assert (gone.returncode, "cannot be read (No such file" in gone.stderr) == (2, True)


@pytest.mark.etcd
def test_a_watch_outlives_its_token(guarded: EtcdServer) -> None:
    """`config watch` goes on printing after several lives of a token."""
    environment = {**os.environ, "TIDEOVER_PASSWORD": PASSWORD}
    command = [*_COMMAND, "config", "watch", "--user=app", "-e", guarded.endpoint]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as watching:
        try:
            assert watching.stderr is not None
            assert watching.stdout is not None
            assert watching.stderr.readline().startswith("tideover: etcd answers; waiting for changes of keys")
            for number in range(2):
                guarded.etcdctl("--user=root:root", "put", "/config/w", str(number))
                assert watching.stdout.readline() == f"w = {number}\n"
                time.sleep(2.5)
        finally:
            watching.kill()


@pytest.mark.parametrize(
    "endpoint",
    [
        f"https://app:{PASSWORD}@10.0.0.1:2379",
        f"app:{PASSWORD}@10.0.0.1:2379",
        f"https://app:{PASSWORD}%4010.0.0.1:2379",
        f"ftp://app:{PASSWORD}%4010.0.0.1",
        f"app%3A{PASSWORD}%4010.0.0.1:x",
        f"10.0.0.1:2379,https://app:{PASSWORD},@10.0.0.2:1",
        f"https://app:{PASSWORD}@[::1",
    ],
)
def test_a_password_in_an_endpoint_is_repeated_nowhere(endpoint: str) -> None:
    """Given as an option, as a variable, to `connect()` or to a registration, or where no endpoint belongs."""
    for args in (
        ["status", "-e", endpoint],
        ["status", endpoint],
        [endpoint],
        ["lock", "x", "--ttl", endpoint, "y"],
    ):
        assert tideover_here(*args) == 2
    assert tideover_here("status", TIDEOVER_ENDPOINTS=endpoint) == 2
    for call in (lambda: connect(endpoint), lambda: Options([endpoint]), lambda: Registration("api", endpoint)):
        with pytest.raises(ValueError) as refused:
            call()
        shown = "".join(traceback.format_exception(refused.value, limit=0))
        assert PASSWORD not in shown


def test_a_private_key_that_everybody_can_read_is_named(authority: Authority, tmp_path: Path) -> None:
    """The key is used all the same: a warning names it and its mode."""
    signed = authority.sign("open")
    signed.key.chmod(0o644)
    files = [f"--cacert={authority.cert}", f"--cert={signed.cert}", f"--key={signed.key}"]
    done = tideover("status", *files, "-e", "127.0.0.1:1")
    assert done.returncode == 4
    assert f"tideover: warning: every user of this machine can read {signed.key} (mode 0644)" in done.stderr


def test_a_password_on_the_command_line_is_refused() -> None:
    """etcdctl's `--user=name:password` is refused, without repeating it; so is a user without any password."""
    done = tideover("status", f"--user=app:{PASSWORD}")
    assert done.returncode == 2
    assert "TIDEOVER_PASSWORD" in done.stderr
    done = tideover("status", "--user=app")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no password for user 'app'" in done.stderr


@pytest.mark.etcd
def test_the_password_is_asked_for_in_a_terminal(guarded: EtcdServer) -> None:
    """In a terminal the password is asked for, and not shown while it is typed."""
    ours, theirs = pty.openpty()
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TIDEOVER_")}
    command = [*_COMMAND, "status", "--user=app", "-e", guarded.endpoint]
    with subprocess.Popen(
        command, env=kept, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        shown = b""
        deadline = time.monotonic() + 20
        asked = False
        while time.monotonic() < deadline and select.select([ours], [], [], 10)[0]:
            try:
                shown += os.read(ours, 1024)
            except OSError:
                break  # its end of the terminal is closed
            if not asked and b"Password of app" in shown:
                asked = True
                os.write(ours, f"{PASSWORD}\n".encode())
        assert process.wait(timeout=10) == 0, shown
    os.close(ours)
    assert b"etcd answers." in shown
    assert PASSWORD.encode() not in shown


def test_a_password_in_an_endpoint_is_not_repeated() -> None:
    """However it is written, and wherever: the complaint shows what is behind the password alone."""
    for endpoint in (
        f"http://app:{PASSWORD}@10.0.0.1:2379",
        f"app:{PASSWORD}@10.0.0.1:2379",
        f"https://app:{PASSWORD},{PASSWORD}@10.0.0.1:2379",
        f"http://app:{PASSWORD}/@10.0.0.1:2379",
        f"127.0.0.1:1,http://app:{PASSWORD}@10.0.0.1:2379",
    ):
        for done in (tideover("status", "-e", endpoint), tideover("status", TIDEOVER_ENDPOINTS=endpoint)):
            assert done.returncode == 2
            assert "'...@10.0.0.1:2379': an endpoint holds no user or password" in done.stderr
    misplaced = tideover("status", f"http://app:{PASSWORD}@10.0.0.1:2379")
    assert misplaced.returncode == 2
    assert "://...@10.0.0.1:2379" in misplaced.stderr
