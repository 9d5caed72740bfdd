"""One network namespace, kept by a process of its own and gone with it.

The holder is `cat` on a pipe from us: whatever ends us, SIGKILL included, the pipe closes, `cat` ends, and the
kernel takes the namespace, its interfaces and its rules away. Hence no names in /run/netns that could be left
behind or collide. Without root the first holder makes a user namespace as well (`unshare -Ur`), and the others
join it.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from typing import IO


class NamespacesImpossible(RuntimeError):
    """Raised when this machine does not let us make network namespaces; the message says what is needed."""


class Namespace:
    """A network namespace, until `close()`.

    Args:
        owner: A namespace whose user namespace this one joins; None for the first one.

    Raises:
        NamespacesImpossible: It cannot be made.
    """

    def __init__(self, owner: Namespace | None = None) -> None:
        self._user: list[str] = ["--user", "--preserve-credentials"] if os.geteuid() != 0 else []
        if owner is None:
            # Where sudo is not needed, nothing of the machine's own network can be touched by mistake.
            make = ["unshare", "--net", *(["--user", "--map-root-user"] if self._user else [])]
        else:
            make = ["nsenter", f"--target={owner.pid}", *self._user, "unshare", "--net"] if self._user else []
            make = make or ["unshare", "--net"]
        try:
            self._holder = subprocess.Popen(
                [*make, "sh", "-c", "echo made; exec cat"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # out of reach of a terminal's Ctrl-C
            )
        except FileNotFoundError as exc:
            raise NamespacesImpossible(_explain(str(exc))) from exc
        if _pipe(self._holder.stdout).readline() != b"made\n":
            why = _pipe(self._holder.stderr).read().decode(errors="replace").strip()
            self.close()
            raise NamespacesImpossible(_explain(why))

    def __repr__(self) -> str:
        return f"<Namespace pid={self.pid}>"

    @property
    def pid(self) -> int:
        """The holder; `nsenter -t PID -n` is how a person looks inside."""
        return self._holder.pid

    @property
    def launcher(self) -> list[str]:
        """The command prefix that runs a program inside; it becomes that program, with the same process id."""
        return ["nsenter", f"--target={self.pid}", *self._user, "--net"]

    def run(self, *command: str, input: str | None = None) -> str:
        """Run a command inside and return its output.

        Args:
            command: The command and its arguments.
            input: Text for its standard input. None means empty.

        Raises:
            RuntimeError: It failed; the message has its standard error.
        """
        try:
            done = subprocess.run(
                [*self.launcher, *command],
                env=os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},  # tc is there
                input=input or "",
                capture_output=True,
                text=True,
                timeout=10,
            )
        except FileNotFoundError as exc:
            raise NamespacesImpossible(_explain(str(exc))) from exc
        if done.returncode != 0:
            raise RuntimeError(
                f"{' '.join(command)} exited with {done.returncode}: {done.stderr.strip()}\n{input}"
            )
        return done.stdout

    def close(self) -> None:
        """End the holder; processes inside keep the namespace until they end. Again is a no-op."""
        self._holder.kill()
        self._holder.wait()
        for pipe in (self._holder.stdin, self._holder.stdout, self._holder.stderr):
            with suppress(OSError):
                _pipe(pipe).close()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:  # pragma: no cover - Popen was given PIPE
        raise TypeError("no pipe")
    return stream


def _explain(why: str) -> str:
    return (
        f"no network namespace can be made here: {why}\n"
        "The bench needs Debian's util-linux and iproute2, and either root with all its rights,\n"
        "or user namespaces open to all (sysctl kernel.unprivileged_userns_clone=1). It does not skip:\n"
        'without it nothing is known about partitions. To leave it out knowingly: pytest -m "not netns".'
    )
