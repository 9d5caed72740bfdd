"""Keys: where they come from, what a source that gives none says, and that nothing shows one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from tests.canaries import watch
from tideover import Encryption
from tideover.encryption import KeysUnusable, NotOurs


def new_key() -> str:
    """Return a key that nothing may say."""
    key = Fernet.generate_key().decode()
    watch(key)
    return key


def key_file(folder: Path, *keys: str, mode: int = 0o600) -> Path:
    """Return a file with these keys."""
    path = folder / "keys"
    path.write_text("\n".join(keys))
    path.chmod(mode)
    return path


def test_the_first_key_seals_and_all_open(tmp_path: Path) -> None:
    """Each way to give keys is the same: text, bytes, a sequence, a file with comments."""
    new, old = new_key(), new_key()
    token, (name,) = Encryption(old).ring().seal(b"message"), Encryption(old).ring().names
    file = key_file(tmp_path, "# rotated in May", f"{new}, # the new one", "", old)
    given = [
        Encryption(f"{new} {old}"),
        Encryption(f"{new},{old}\n".encode()),
        Encryption([new, old.encode()]),
        Encryption((new, old)),
        Encryption(file),
    ]
    for encryption in given:
        ring = encryption.ring()
        assert ring.open(token, name) == b"message"
        assert Encryption(new).ring().open(ring.seal(b"other"), ring.names[0]) == b"other"
        with pytest.raises(NotOurs):
            Encryption(old).ring().open(ring.seal(b"other"), ring.names[0])
    with pytest.raises(NotOurs):
        Encryption(new).ring().open(token, name)


@pytest.mark.parametrize(
    ("keys", "error", "text"),
    [
        ("", ValueError, "keys is empty"),
        (" , \n", ValueError, "keys holds no key"),
        ("/run/secrets/keys", ValueError, "the file of keys is given as a pathlib.Path"),
        (b"\xff" * 44, ValueError, "place 1 that is no key"),
        ("A" * 44, ValueError, "place 1 that is no key"),
        ("A" * 70_000, ValueError, "larger than 65536 bytes"),
        ([], ValueError, "must not be an empty sequence"),
        (["A" * 43 + "=", "\ud800"], ValueError, r"keys\[1\] is no key"),
        (["A" * 43 + "=", None], TypeError, r"keys\[1\] must be text or bytes, not a NoneType"),
        (None, TypeError, "not a NoneType"),
        (7, TypeError, "not a int"),
    ],
)
def test_keys_of_no_use_are_refused_at_once(keys: object, error: type[Exception], text: str) -> None:
    """What is handed in is looked at when it is handed in, and its error is one line that quotes none of it."""
    with pytest.raises(error, match=text) as caught:
        Encryption(keys)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert "AAAA" not in str(caught.value)
    assert "/run/secrets" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "cannot be read (No such file"), ("", "is empty"), ("# none\n", "no key"), ("hunter2", "place 1")],
)
def test_a_file_without_keys_is_told_when_they_are_needed(tmp_path: Path, content: str | None, why: str) -> None:
    """Making the encryption succeeds; asking for keys names the file, until there are some in it."""
    path = tmp_path / "keys"
    if content is not None:
        path.write_text(content)
    encryption = Encryption(path)
    for _ in range(2):
        with pytest.raises(KeysUnusable) as caught:
            encryption.ring()
        assert why in str(caught.value)
        assert str(path) in str(caught.value)
        assert "hunter2" not in str(caught.value)
    key_file(tmp_path, new_key())
    assert encryption.ring().names


def test_a_file_is_read_again_and_a_fifo_once(tmp_path: Path) -> None:
    """Keys are rotated without a restart; what a FIFO has given is kept for all who ask, from any thread."""
    path = key_file(tmp_path, new_key())
    encryption = Encryption(path)
    before = encryption.ring().names
    key_file(tmp_path, new_key())
    assert encryption.ring().names != before
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    key = new_key()
    encryption, found = Encryption(fifo), []
    asking = [threading.Thread(target=lambda: found.append(encryption.ring().names)) for _ in range(3)]
    for thread in asking:
        thread.start()
    fifo.write_text(key)
    for thread in asking:
        thread.join()
    assert found == [Encryption(key).ring().names] * 3


def test_a_folder_and_a_huge_file_are_no_keys(tmp_path: Path) -> None:
    """Neither hangs nor fills the memory."""
    for path in (tmp_path, Path("/dev/zero")):
        with pytest.raises(KeysUnusable, match="the key file"):
            Encryption(path).ring()


def test_a_file_that_everybody_can_read_is_told_of_once(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """The keys are used all the same, as a password is."""
    encryption = Encryption(key_file(tmp_path, new_key(), mode=0o644))
    encryption.ring()
    encryption.ring()
    (line,) = caplog.messages
    assert "every user of this machine can read" in line


def test_keys_of_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable gives keys; one that is missing or holds something else is told of when keys are needed."""
    key = new_key()
    monkeypatch.setenv("TIDEOVER_SNAPSHOT_KEYS", key)
    assert Encryption.from_environment().ring().names == Encryption(key).ring().names
    for value, why in ((None, "SHOP_KEYS is empty"), ("hunter2", "SHOP_KEYS has something in place 1")):
        if value is not None:
            monkeypatch.setenv("SHOP_KEYS", value)
        with pytest.raises(KeysUnusable, match=why):
            Encryption.from_environment("SHOP_KEYS").ring()


def test_no_repr_shows_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each representation names the source; a key is called by a hash of it."""
    key = new_key()
    monkeypatch.setenv("SHOP_KEYS", key)
    shown = [
        repr(each)
        for made in (
            Encryption(key),
            Encryption(key_file(tmp_path, key)),
            Encryption.from_environment("SHOP_KEYS"),
        )
        for each in (made, made.ring())
    ]
    assert shown[2] == f"<Encryption with keys of {tmp_path / 'keys'}>"
    assert not any(key[:8] in each for each in shown)


def test_without_cryptography_one_sentence_says_what_to_install() -> None:
    """The core is imported without the extra; only making an `Encryption` needs it."""
    code = "import sys; sys.modules['cryptography'] = None; import tideover; tideover.Encryption('x')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.endswith("encryption of snapshots needs cryptography: pip install 'tideover[crypto]'")


def test_the_core_does_not_import_cryptography() -> None:
    """Neither does the class alone."""
    code = "import sys, tideover; tideover.Encryption; print('cryptography' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"
