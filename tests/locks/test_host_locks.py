"""Host locks: among processes, coordinators and after crashes."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tideover.locks import host_locks as hostlock
from tideover.locks.host_locks import HostLocks
from tideover.paths import default_state_folder

HOLD = """
import sys, time
from pathlib import Path
from tideover.locks.host_locks import HostLocks
locks = HostLocks(Path(sys.argv[1]), members=["a:1"], namespace="")
print(locks.take("orders"), flush=True)
time.sleep(60)
"""


@pytest.fixture(params=["ranges", "files"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Linux's byte ranges, and what other systems get."""
    if request.param == "files":
        monkeypatch.setattr(hostlock, "_OFD_SETLK", None)
    return str(request.param)


def make(folder: Path, *members: str, namespace: str = "") -> HostLocks:
    """Return the locks of another coordinator."""
    return HostLocks(folder, members=members or ("a:1", "b:1"), namespace=namespace)


@pytest.mark.usefixtures("way")
def test_one_at_a_time_of_two_coordinators(tmp_path: Path) -> None:
    """What one has taken another cannot take, until it is given back; other names are free."""
    one, two = make(tmp_path), make(tmp_path)
    assert one.take("orders")
    assert not two.take("orders")
    assert two.take("other")
    one.give("orders")
    assert two.take("orders")
    assert not one.take("orders")
    two.close()
    assert one.take("orders")
    assert one.take("other")
    one.close()


@pytest.mark.usefixtures("way")
def test_a_common_member_is_enough(tmp_path: Path) -> None:
    """Processes that name only some members exclude one another; other clusters and namespaces do not."""
    one = make(tmp_path, "a:1", "b:1")
    assert one.take("orders")
    assert not make(tmp_path, "b:1").take("orders")
    assert not make(tmp_path, "b:1", "c:1").take("orders")
    # Nothing is left of the attempt that failed halfway.
    assert make(tmp_path, "c:1").take("orders")
    assert make(tmp_path, "d:1").take("orders")
    assert make(tmp_path, "a:1", namespace="shop").take("orders")
    one.close()


@pytest.mark.usefixtures("way")
def test_a_process_that_is_killed_holds_nothing(tmp_path: Path) -> None:
    """Another process excludes this one as long as it lives."""
    ours = make(tmp_path, "a:1")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD if hostlock._OFD_SETLK else _with_files(), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        assert not ours.take("orders")
        other.kill()
    assert ours.take("orders")
    ours.close()


def _with_files() -> str:
    return HOLD.replace("locks =", "import tideover.locks.host_locks as h\nh._OFD_SETLK = None\nlocks =")


@pytest.mark.usefixtures("way")
def test_a_forked_child_holds_nothing(tmp_path: Path) -> None:
    """A child that was forked in between does not keep what its parent holds when that ends."""
    ours, others = make(tmp_path), make(tmp_path)
    assert ours.take("orders")
    (read, write), (told, tell) = os.pipe(), os.pipe()
    child = os.fork()
    if not child:  # pragma: no cover - another process
        os.close(write)
        os.write(tell, b"x")
        os.read(read, 1)
        os._exit(0)
    os.close(read)
    try:
        os.read(told, 1)
        assert not others.take("orders")
        # As at the end of the parent: its descriptors are closed, and nothing is unlocked.
        ours.close()
        assert others.take("orders")
    finally:
        for file in (write, told, tell):
            os.close(file)
        os.waitpid(child, 0)
        others.close()


@pytest.mark.usefixtures("way")
def test_a_file_that_is_deleted_is_made_anew(tmp_path: Path) -> None:
    """Somebody clears the folder: from then on all lock the new file."""
    one = make(tmp_path)
    assert one.take("before")
    for file in tmp_path.iterdir():
        file.unlink()
    assert one.take("orders")
    assert not make(tmp_path).take("orders")
    one.close()


def test_a_million_names_cost_one_file(tmp_path: Path) -> None:
    """On Linux names cost no files, and the one there is stays empty and private."""
    locks = make(tmp_path / "new")
    for number in range(1000):
        assert locks.take(f"orders/{number}")
    (file,) = (tmp_path / "new").iterdir()
    assert file.stat().st_size == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    locks.close()


def test_a_folder_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    """It is not taken for a lock that is free, nor for one that is held."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        make(tmp_path / "file").take("orders")


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Be a user whose home directory cannot be used."""
    monkeypatch.setattr("platformdirs.user_state_path", lambda name: Path("/proc/none") / name)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    return tmp_path / f"tideover-{os.getuid()}"


def test_without_a_home_it_is_a_private_folder_for_temporary_files(homeless: Path) -> None:
    """A user without a home directory has a folder of its own; one that others may write is refused."""
    assert default_state_folder() == homeless
    assert homeless.stat().st_mode & 0o777 == 0o700
    homeless.chmod(0o777)
    with pytest.raises(PermissionError, match="alone"):
        default_state_folder()


def test_linux_has_what_is_relied_upon() -> None:
    """The byte ranges are what runs on Linux."""
    assert hasattr(fcntl, "F_OFD_SETLK") == sys.platform.startswith("linux")
