"""One member: a real etcd process on loopback, with its data, its ports and its log."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tideover.policies import Tls
from tideover.testing.etcd import http as etcd_http
from tideover.testing.etcd.binary import (
    binary_version,
    child_environment,
    find_etcd,
    find_etcdctl,
    find_restorer,
    run_etcdctl,
    run_program,
    supports_flag,
)
from tideover.testing.etcd.ports import ReservedPort
from tideover.testing.etcd.process import ChildProcess
from tideover.testing.etcd.ready import Readiness

_NO_FSYNC = "--unsafe-no-fsync"
_IN_USE = "address already in use"
_CONSOLE = "console:1"


class EtcdExited(RuntimeError):
    """Raised when an etcd process ended without being stopped.

    Attributes:
        name: The member's name.
        returncode: Its exit status; negative for a signal.
        log_tail: The last lines of its log.
    """

    def __init__(self, name: str, *, returncode: int, log_tail: str) -> None:
        self.name = name
        self.returncode = returncode
        self.log_tail = log_tail
        super().__init__(f"etcd {name!r} exited with {returncode}; its log ends:\n{log_tail}")


class EtcdServer(ChildProcess, Readiness):
    """One real etcd member, alone or joined with others, until `close()`.

    As a context manager, `with` or `async with`, it runs and is ready inside the block. Endpoint
    and data outlive stops, kills and restarts.

    `stop()` waits for etcd, and etcd waits seconds for the open watches of its clients: in async
    code with a connected client call it as `await anyio.to_thread.run_sync(server.stop)`. `kill()`,
    `pause()` and `resume()` take milliseconds and fit anywhere.
    """

    def __init__(
        self,
        *,
        name: str = "etcd-1",
        binary: str | os.PathLike[str] | None = None,
        args: Sequence[str] = (),
        data_dir: str | os.PathLike[str] | None = None,
        fsync: bool = False,
        tls: Tls | None = None,
    ) -> None:
        """Reserve the ports; nothing runs yet.

        Args:
            name: The member's name.
            binary: Path of etcd. None looks for one, see `find_etcd`.
            args: More flags for etcd; they win over its own.
            data_dir: Where etcd keeps its data, kept at the end. None uses a temporary directory,
                removed at the end.
            fsync: Whether every write waits for the disk. False is faster where etcd has a flag
                for it (3.5 and later); the data survives `kill()` all the same.
            tls: Serve clients with TLS: `cert` and `key` are the server's, and `ca`, if given, is
                what every client's certificate must be signed with. None serves them without.

        Raises:
            EtcdBinaryNotFound: There is no etcd to run.
            ValueError: `tls` has no certificate.
        """
        if tls is not None and tls.cert is None:
            raise ValueError(f"a server needs a certificate: tls={tls!r} has none")
        super().__init__(name)
        self.binary = find_etcd(binary)
        self._args = tuple(args)
        self._fsync = fsync
        self._user_data_dir = None if data_dir is None else Path(data_dir).absolute()
        self._client_port = ReservedPort()
        self._peer_port = ReservedPort()
        self._tls = tls
        self._peers: tuple[EtcdServer, ...] = (self,)
        self._token = f"tideover-{self._peer_port.number}"
        self._was_ready = False

    def __repr__(self) -> str:
        return f"<EtcdServer {self.name!r} {self.endpoint} {self.state} pid={self.pid}>"

    @property
    def endpoint(self) -> str:
        """The client address, "127.0.0.1:PORT"."""
        return f"127.0.0.1:{self._client_port.number}"

    @property
    def _client_url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://{self.endpoint}"

    @property
    def peer_url(self) -> str:
        """The URL at which other members reach this one."""
        return f"http://127.0.0.1:{self._peer_port.number}"

    @property
    def console(self) -> str:
        """Where this interpreter asks the member: its endpoint, or with TLS a socket file without."""
        return self.endpoint if self._tls is None else f"unix://{self._temp}/{_CONSOLE}"

    @property
    def peer_console(self) -> str:
        """Likewise, the side that other members use."""
        return self.peer_url.removeprefix("http://")

    @property
    def data_dir(self) -> Path | None:
        """Where the data is; None before the first start with a temporary directory."""
        if self._user_data_dir is not None:
            return self._user_data_dir
        return None if self._temp is None else self._temp / "data"

    @property
    def has_data(self) -> bool:
        """Whether a start would continue with data of an earlier one."""
        return self.data_dir is not None and (self.data_dir / "member").exists()

    def version(self) -> str:
        """Return the version of the program, such as "3.5.1"."""
        return binary_version(self.binary)

    def restart(self, *, kill: bool = False, timeout: float = 10.0) -> None:
        """End the process if it is running and start it again, with its endpoint and data.

        Args:
            kill: Whether to end it as a crash would, rather than with SIGTERM.
            timeout: Seconds it has to end after SIGTERM.

        Raises:
            RuntimeError: It is closed.
        """
        if kill:
            self.kill()
        else:
            self.stop(timeout)
        self.start()

    def wipe(self, *, token: str | None = None) -> None:
        """Delete the data, as a lost disk would; the next start begins at revision 1.

        One wiped member of a living cluster refuses to start, as in production: wipe all of them
        with `EtcdCluster.wipe()`, or remove and add the member with etcdctl.

        Args:
            token: A new cluster token, and so a new cluster id. None keeps both: an empty etcd
                that passes for the old one.

        Raises:
            RuntimeError: It is running.
        """
        if self.running:
            raise RuntimeError(f"cannot wipe {self!r}: it is running")
        if self.data_dir is not None and (self.data_dir / "member").exists():
            shutil.rmtree(self.data_dir / "member")
        if token is not None:
            self._token = token

    def restore(self, snapshot: str | os.PathLike[str], *, token: str | None = None) -> None:
        """Replace the data by a backup, as an operator would: with etcdutl, or etcdctl before 3.5.

        Back up with `server.etcdctl("snapshot", "save", path)`. All members of a cluster are restored together:
        see `EtcdCluster.restore()`.

        Args:
            snapshot: The backup.
            token: A new cluster token, and so a new cluster id. None keeps both.

        Raises:
            EtcdBinaryNotFound: There is neither etcdutl nor an etcdctl that can restore.
            RuntimeError: It is running, or was never started, or the program refused.
        """
        if self.running or self.data_dir is None:
            raise RuntimeError(f"cannot restore {self!r}: it must have been started, and stopped")
        restorer = find_restorer(self.binary)
        self.wipe(token=token)
        with tempfile.TemporaryDirectory(dir=self.data_dir.parent) as folder:
            fresh = Path(folder) / "data"
            run_program(restorer, ["snapshot", "restore", os.fspath(snapshot), *self._identity_flags(fresh)])
            shutil.move(fresh / "member", self.data_dir / "member")

    def join(self, peers: Sequence[EtcdServer], *, token: str) -> None:
        """Make this a member of a cluster, before its first start.

        Args:
            peers: All members, this one included.
            token: The cluster token; with the peer URLs it decides the cluster id.

        Raises:
            ValueError: This server is not among the peers.
            RuntimeError: It was started before.
        """
        if self not in peers:
            raise ValueError(f"{self!r} is not among its peers {list(peers)!r}")
        if self._temp is not None:
            raise RuntimeError(f"{self!r} cannot join: it was started before")
        self._peers = tuple(peers)
        self._token = token

    def move(self) -> None:
        """Reserve other ports, as long as no client can know the endpoint.

        Raises:
            RuntimeError: It is running, or has been ready before.
        """
        if self.running or self._was_ready:
            raise RuntimeError(f"cannot move {self!r}: it is running, or its endpoint is known")
        old = self._client_port, self._peer_port
        self._client_port, self._peer_port = ReservedPort(), ReservedPort()
        for port in old:
            port.release()

    def answers(self, timeout: float = etcd_http.PROBE_TIMEOUT) -> bool:
        """Say whether the member accepts connections and answers; a quorum is not needed.

        Args:
            timeout: Seconds it has to answer.

        Returns:
            True when it answered. A member started without a quorum around it answers nothing
            until there is one; a member that loses its quorum goes on answering.
        """
        return self.running and etcd_http.answers(self.console, timeout=timeout)

    def settle(self) -> None:
        """Fix the endpoint, because clients may know it now."""
        self._was_ready = True

    def lost_port(self) -> bool:
        """Return whether the process ended because another took its port, and it may still move."""
        exited = self._process is not None and not self.running
        return exited and not self._was_ready and _IN_USE in self._log_of_run()

    def check(self) -> None:
        """Raise unless the process is alive.

        Raises:
            RuntimeError: It was not started.
            EtcdExited: It ended by itself; the message has the end of its log.
        """
        if self._process is None:
            raise RuntimeError(f"{self!r} was not started")
        returncode = self._process.poll()
        if returncode is not None:
            raise EtcdExited(self.name, returncode=returncode, log_tail=self.log_tail())

    def etcdctl(self, *args: str, input: str | None = None, timeout: float = 10.0) -> str:
        """Run the real etcdctl against this member.

        Args:
            args: The command and its arguments.
            input: Text for its standard input. None means empty.
            timeout: Seconds until it is killed.

        Returns:
            Its standard output.

        Raises:
            EtcdBinaryNotFound: There is no etcdctl.
            RuntimeError: It exited with an error; the message has its standard error.
            TimeoutError: It did not finish in time.
        """
        etcdctl = find_etcdctl(beside=self.binary)
        flags: list[str] = []
        if self._tls is not None:
            # The server's own certificate serves as the client's, and its host is not the point here.
            flags = [f"--cert={self._tls.cert}", f"--key={self._tls.key}", "--insecure-skip-tls-verify"]
        address = self.console if self._tls is None else self._client_url
        return run_etcdctl([address], [*flags, *args], etcdctl=etcdctl, input=input, timeout=timeout)

    def log_tail(self, lines: int = 15) -> str:
        """Return the end of the log since the last start, without our own health checks.

        Args:
            lines: How many of the last lines. The very first, where etcd complains about flags
                before it prints a long help, comes in addition.
        """
        kept = [line for line in self._log_of_run().splitlines() if "/health" not in line]
        return "\n".join(kept if len(kept) <= lines else [kept[0], "...", *kept[-lines:]])

    def close(self) -> None:
        """Kill the process, remove its temporary directory, give up its ports, all for good."""
        super().close()
        self._client_port.release()
        self._peer_port.release()

    def _to_probe(self) -> tuple[str]:
        if len(self._peers) == 1 and self.lost_port():
            self.move()
            self.start()
        self.check()
        return (self.console,)

    def _log_ends(self) -> str:
        return self.log_tail()

    def _command(self, temp: Path) -> tuple[list[str], dict[str, str]]:
        if self._tls is not None:
            # etcd takes a socket file only as HOST:PORT in its working directory, and 3.4 takes one that was left
            # after SIGKILL for a server that listens.
            self._cwd = temp
            (temp / _CONSOLE).unlink(missing_ok=True)
        return [str(self.binary), *self._flags(temp), *self._args], child_environment()

    def _identity_flags(self, data_dir: Path) -> list[str]:
        return [
            f"--name={self.name}",
            f"--data-dir={data_dir}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            f"--initial-cluster={','.join(f'{p.name}={p.peer_url}' for p in self._peers)}",
            f"--initial-cluster-token={self._token}",
        ]

    def _flags(self, temp: Path) -> list[str]:
        client_url = self._client_url
        flags = [
            *self._identity_flags(self._user_data_dir or temp / "data"),
            f"--listen-client-urls={client_url}{'' if self._tls is None else f',unix://{_CONSOLE}'}",
            f"--advertise-client-urls={client_url}",
            f"--listen-peer-urls={self.peer_url}",
            "--initial-cluster-state=new",
            # By default the log goes to journald when the parent is process 1, as in a container
            "--logger=zap",
            "--log-outputs=stderr",
        ]
        if self._tls is not None:
            flags += [
                f"--cert-file={os.path.abspath(self._tls.cert or '')}",
                f"--key-file={os.path.abspath(self._tls.key or '')}",
            ]
            if self._tls.ca is not None:
                flags += ["--client-cert-auth", f"--trusted-ca-file={os.path.abspath(self._tls.ca)}"]
        if not self._fsync and supports_flag(self.binary, _NO_FSYNC):
            flags.append(_NO_FSYNC)
        return flags
