"""Several real etcd members on loopback that form one cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import anyio

from tideover.policies import Tls
from tideover.testing.etcd import http as etcd_http
from tideover.testing.etcd.binary import find_etcd, find_etcdctl, run_etcdctl
from tideover.testing.etcd.http import MemberStatus
from tideover.testing.etcd.ready import Readiness
from tideover.testing.etcd.server import EtcdServer

_SEED_TIMEOUT = 0.5
_NOTICE_TIME = 0.1


class EtcdCluster(Readiness):
    """Real etcd members that form one cluster, until `close()`.

    As a context manager, `with` or `async with`, all members run and are ready inside the block.
    Each is an `EtcdServer` and may be stopped, killed, paused and restarted on its own.
    """

    def __init__(
        self,
        size: int = 3,
        *,
        binary: str | os.PathLike[str] | None = None,
        args: Sequence[str] = (),
        fsync: bool = False,
        tls: Tls | None = None,
    ) -> None:
        """Reserve the ports; nothing runs yet.

        Args:
            size: How many members.
            binary: Path of etcd. None looks for one, see `find_etcd`.
            args: More flags for every member; they win over its own.
            fsync: Whether every write waits for the disk, see `EtcdServer`.
            tls: Serve clients with TLS, see `EtcdServer`; one certificate for all members. Among
                themselves they speak without.

        Raises:
            ValueError: The size is below 1, or `tls` has no certificate.
            EtcdBinaryNotFound: There is no etcd to run.
        """
        if size < 1:
            raise ValueError(f"a cluster has at least 1 member, not {size}")
        found = find_etcd(binary)
        self._tls = tls
        self._members = tuple(
            self._make_member(f"etcd-{number}", binary=found, args=args, fsync=fsync)
            for number in range(1, size + 1)
        )
        token = f"tideover-{self._members[0].endpoint}"
        for member in self._members:
            member.join(self._members, token=token)

    def __repr__(self) -> str:
        paused = sum(member.paused for member in self._members)
        return f"<EtcdCluster running={len(self._running())}/{len(self._members)} paused={paused}>"

    @property
    def members(self) -> tuple[EtcdServer, ...]:
        """All members, running or not, always in the same order."""
        return self._members

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The client addresses of all members, "127.0.0.1:PORT" each."""
        return tuple(member.endpoint for member in self._members)

    @property
    def quorum(self) -> int:
        """How many members make a majority."""
        return len(self._members) // 2 + 1

    def version(self) -> str:
        """Return the version of the program, such as "3.5.1"."""
        return self._members[0].version()

    def start(self) -> None:
        """Start all members without waiting; `wait_ready()` and `ready()` say when they serve.

        The first start of a cluster takes some 50 ms, see `_seed`; all others return at once.

        Raises:
            RuntimeError: A member is running, or the cluster is closed.
        """
        if self._running():
            raise RuntimeError(f"cannot start {self!r}: members are running; see start_all()")
        self.start_all()

    def start_all(self) -> tuple[EtcdServer, ...]:
        """Start the members that are not running and return them, without waiting until ready."""
        down = tuple(member for member in self._members if not member.running)
        if down == self._members and not any(member.has_data for member in down):
            self._seed()
        for member in down:
            if not member.running:
                member.start()
        return down

    def stop(self, timeout: float = 10.0) -> None:
        """End all members with SIGTERM, the leader last; a no-op when none is running.

        Args:
            timeout: Seconds they have to end together, before they are killed.
        """
        deadline = time.monotonic() + timeout
        for member in self._members:
            if member.paused:
                member.resume()
        leader = self._claimant(self._running())
        followers = [member for member in self._members if member is not leader]
        for member in followers:
            member.terminate()
        for member in followers:
            member.stop(max(0.0, deadline - time.monotonic()))
        if leader is not None:
            # A leader that does not know yet that it is alone waits 7 s for a follower to take over
            time.sleep(_NOTICE_TIME)
            leader.stop(max(0.0, deadline - time.monotonic()))

    def kill_all(self) -> tuple[EtcdServer, ...]:
        """End all running members with SIGKILL and return them."""
        return _kill(self._running())

    def wait_applied(self, timeout: float = 20.0) -> None:
        """Block until every running member has applied all that was written before, through whichever member.

        A write is acknowledged as soon as a majority has it. A serializable read, a backup or a list of
        leases is the answer of one member alone, and shows for sure what was written only after this.
        Paused members are not waited for.

        Args:
            timeout: Seconds to wait.

        Raises:
            RuntimeError: No member is running.
            TimeoutError: A member still lags, or there is no quorum to ask.
        """
        self._wait_applied(lambda: _consoles(self._responsive()), timeout)

    async def applied(self, timeout: float = 20.0) -> None:
        """Wait as `wait_applied()` does, without blocking the event loop.

        Args:
            timeout: Seconds to wait.

        Raises:
            RuntimeError: No member is running.
            TimeoutError: A member still lags, or there is no quorum to ask.
        """
        try:
            await etcd_http.until(etcd_http.APPLIED, lambda: _consoles(self._responsive()), timeout=timeout)
        except TimeoutError as exc:
            raise self._lags(timeout) from exc

    def lose_quorum(self, *, survivor: EtcdServer | None = None, timeout: float = 20.0) -> tuple[EtcdServer, ...]:
        """Kill members until too few are left for a majority.

        What was written before can be read from the survivors: no member is killed until they have
        applied it. That takes milliseconds, unless a survivor lags or the cluster is electing;
        where the event loop must not wait for that, `await cluster.applied()` first. A survivor that
        is paused is not waited for and may lag; nor is any where the quorum is lost already.

        For about one election timeout a survivor may still take itself or a dead one for leader.

        Args:
            survivor: A member to leave alone. None leaves the last ones.
            timeout: Seconds in which the survivors must have applied what was written.

        Returns:
            The members that were killed.

        Raises:
            ValueError: The survivor is no member, or is a majority all by itself.
            TimeoutError: A survivor still lags; no member was killed.
        """
        spared = len(self._members) - self.quorum if survivor is None else self.quorum - 1
        if survivor is not None and (survivor not in self._members or self.quorum == 1):
            raise ValueError(f"{survivor!r} cannot survive the loss of the quorum of {self!r}")
        order = sorted(self._running(), key=lambda member: member is survivor)
        doomed = order[: max(0, len(order) - spared)]
        awake = [member for member in order if not member.paused]
        left = _consoles(member for member in awake if member not in doomed)
        if doomed and len(awake) >= self.quorum:
            self._wait_applied(lambda: left, timeout)
        return _kill(doomed)

    def restore_quorum(self) -> tuple[EtcdServer, ...]:
        """Start the dead members again and return them, without waiting for them."""
        return self.start_all()

    def wipe(self, *, token: str | None = None) -> None:
        """Delete the data of all members; the next start begins an empty cluster at revision 1.

        Args:
            token: A new cluster token, and so a new cluster id. None keeps both: an empty cluster
                that passes for the old one.

        Raises:
            RuntimeError: A member is running.
        """
        if self._running():
            raise RuntimeError(f"cannot wipe {self!r}: members are running")
        for member in self._members:
            member.wipe(token=token)

    def restore(self, snapshot: str | os.PathLike[str], *, token: str | None = None) -> None:
        """Replace the data of all members by a backup, as an operator would; see `EtcdServer.restore`.

        Back up with `cluster.members[0].etcdctl("snapshot", "save", path)`; that has what this one
        member has applied, see `wait_applied()`.

        Args:
            snapshot: The backup.
            token: A new cluster token, and so a new cluster id. None keeps both.

        Raises:
            EtcdBinaryNotFound: There is neither etcdutl nor an etcdctl that can restore.
            RuntimeError: A member is running, or the program refused.
        """
        if self._running():
            raise RuntimeError(f"cannot restore {self!r}: members are running")
        for member in self._members:
            member.restore(snapshot, token=token)

    def leader(self, timeout: float = 10.0) -> EtcdServer:
        """Return the member that leads, waiting for an election if need be.

        This is what the members claim: one that has just lost its quorum goes on claiming to lead
        for about an election timeout.

        Args:
            timeout: Seconds to wait for a leader.

        Raises:
            RuntimeError: No member is running.
            TimeoutError: No member leads, as when the quorum is lost.
        """
        deadline = time.monotonic() + timeout
        while True:
            found = self._claimant(self._responsive())
            if found is not None:
                return found
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{self!r} has no leader after {timeout} s")
            time.sleep(etcd_http.POLL_INTERVAL)

    async def find_leader(self, timeout: float = 10.0) -> EtcdServer:
        """Return what `leader()` returns, without blocking the event loop.

        Args:
            timeout: Seconds to wait for a leader.

        Raises:
            RuntimeError: No member is running.
            TimeoutError: No member leads, as when the quorum is lost.
        """
        with anyio.move_on_after(timeout):
            while True:
                asked = self._responsive()
                found = _choose(asked, await etcd_http.fetch_statuses(_consoles(asked)))
                if found is not None:
                    return found
                await anyio.sleep(etcd_http.POLL_INTERVAL)
        raise TimeoutError(f"{self!r} has no leader after {timeout} s")

    def followers(self, timeout: float = 10.0) -> tuple[EtcdServer, ...]:
        """Return the running members other than the leader, waiting for one as `leader()` does.

        Args:
            timeout: Seconds to wait for a leader.

        Raises:
            RuntimeError: No member is running.
            TimeoutError: No member leads, as when the quorum is lost.
        """
        leader = self.leader(timeout)
        return tuple(member for member in self._running() if member is not leader)

    def etcdctl(self, *args: str, input: str | None = None, timeout: float = 10.0) -> str:
        """Run the real etcdctl against the members that can answer, or against all if none can.

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
        up = [member.console for member in self._running() if not member.paused]
        etcdctl = find_etcdctl(beside=self._members[0].binary)
        return run_etcdctl(up or _consoles(self._members), args, etcdctl=etcdctl, input=input, timeout=timeout)

    def close(self) -> None:
        """Kill all members, remove their temporary directories, give up their ports, for good."""
        self.kill_all()
        for member in self._members:
            member.close()

    def _make_member(self, name: str, *, binary: Path, args: Sequence[str], fsync: bool) -> EtcdServer:
        """Make one member; a subclass may put it on a host of its own."""
        return EtcdServer(name=name, binary=binary, args=args, fsync=fsync, tls=self._tls)

    def _running(self) -> tuple[EtcdServer, ...]:
        return tuple(member for member in self._members if member.running)

    def _claimant(self, asked: Sequence[EtcdServer]) -> EtcdServer | None:
        return _choose(asked, {end: etcd_http.fetch_status(end) for end in _consoles(asked)})

    def _seed(self) -> None:
        """Start the first member of a new cluster and wait, some 50 ms, until its peers can ask it.

        A new member asks the others, sorted by URL, whether it is new to them, one second each.
        Started together, all listen and none answers, which costs two seconds in every other start.
        """
        seed = min(self._members, key=lambda member: member.peer_url)
        seed.start()
        deadline = time.monotonic() + _SEED_TIMEOUT
        while seed.running and time.monotonic() < deadline:
            if etcd_http.answers(seed.peer_console, timeout=_SEED_TIMEOUT):
                return
            time.sleep(0.005)

    def _responsive(self) -> tuple[EtcdServer, ...]:
        responsive = tuple(member for member in self._running() if not member.paused)
        if not responsive:
            raise RuntimeError(f"{self!r} has no member that could answer")
        return responsive

    def settle(self) -> None:
        """Fix the endpoints, because clients may know them now."""
        for member in self._members:
            member.settle()

    def _wait_applied(self, endpoints: Callable[[], Sequence[str]], timeout: float) -> None:
        try:
            etcd_http.wait_until(etcd_http.APPLIED, endpoints, timeout=timeout)
        except TimeoutError as exc:
            raise self._lags(timeout) from exc

    def _lags(self, timeout: float) -> TimeoutError:
        return TimeoutError(f"{self!r}: a member has not applied all writes after {timeout} s")

    def _log_ends(self) -> str:
        return "\n".join(f"{member!r}:\n{member.log_tail(5)}" for member in self._running())

    def _to_probe(self) -> tuple[str, ...]:
        if any(member.lost_port() for member in self._members):
            # Every member knows the ports of all, so all begin again
            self.kill_all()
            for member in self._members:
                member.wipe()
                member.move()
            self.start_all()
        for member in self._members:
            if member.state == "exited":
                member.check()
        return _consoles(self._responsive())


def _kill(members: Iterable[EtcdServer]) -> tuple[EtcdServer, ...]:
    killed = tuple(members)
    for member in killed:
        member.kill()
    return killed


def _consoles(members: Iterable[EtcdServer]) -> tuple[str, ...]:
    return tuple(member.console for member in members)


def _choose(asked: Sequence[EtcdServer], statuses: Mapping[str, MemberStatus | None]) -> EtcdServer | None:
    """Return the member that claims to lead in the newest known term."""
    known = {m: s for m in asked if (s := statuses[m.console]) is not None}
    newest = max((status.term for status in known.values()), default=0)
    return next((m for m, s in known.items() if s.leads and s.term == newest), None)
