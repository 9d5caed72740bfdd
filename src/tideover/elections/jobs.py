"""Jobs: functions that run while this process leads, again after each election, and again after a failure.

*A failure hands over.* When a function raises, this process resigns before anything else happens, and is no
candidate for a while: full jitter, more with each failure in a row. So a healthy process leads next, and not the
one that crashes in a loop. A function that returns has done its work, and does not run again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import anyio.lowlevel

from tideover import telemetry
from tideover.body_scope import Cancellations, is_cancellation
from tideover.client.client import Client
from tideover.elections.claim import LeaderOptions
from tideover.elections.elections import Elections
from tideover.elections.leadership import Leadership
from tideover.elections.leading import Leading, Work, leading_of
from tideover.elections.rules.backoff import pause_after
from tideover.errors import Closed, LeadershipLost, TideoverError
from tideover.request_record import current_coordinator
from tideover.status import JobStatus
from tideover.types import JobState

# Seconds after which a running function has recovered: its next failure is a first one.
_RECOVERED_AFTER = 60.0


class Job:
    """One function that runs while leading; made by `Coordinator.job`. For one use: `run`, or `start` and `stop`.

    Attributes:
        name: The election.
    """

    def __init__(self, name: str, leading: Leading, jobs: Jobs) -> None:
        self.name = name
        self._leading = leading
        self._jobs = jobs
        # Made by `start`: a job may be made where no event loop runs.
        self._scope: anyio.CancelScope | None = None
        self._done: anyio.Event | None = None
        self._stopped = False
        self._state = JobState.WAITING
        self._since = jobs.monotonic()
        self._again_at = 0.0
        self._failures = 0
        self._error: str | None = None

    def __repr__(self) -> str:
        """Show the election and the state, and count the failures."""
        return f"<Job {self.name!r} {self._state}, {self._failures} failures>"

    @property
    def status(self) -> JobStatus:
        """The status of the job, as `tide.status()` shows it."""
        now = self._jobs.monotonic()
        return JobStatus(
            name=self.name,
            state=self._state,
            seconds=now - self._since,
            failures=self._failures,
            error=self._error,
            again_in=max(0.0, self._again_at - now) if self._state is JobState.PAUSED else None,
        )

    def leadership(self) -> Leadership:
        """Return a leadership for one run of the function.

        Raises:
            ValueError: An option is out of range.
        """
        how = self._leading
        options = LeaderOptions(how.ttl, how.on_outage, how.address, how.value)
        return Leadership(self.name, options, self._jobs.elections)

    async def run(self) -> object:
        """Run the function while this process leads; see `Coordinator.run_while_leading`.

        Returns:
            What the function has returned.

        Raises:
            Closed: The coordinator is not open, or was closed meanwhile.
            WrongLoop: This is another event loop than the coordinator's.

        When degraded:
            As `Coordinator.run_while_leading`.
        """
        with self._jobs.running(self):
            return await self._run()

    def start(self) -> None:
        """Run in the background, until `stop` is called or the coordinator closes.

        Raises:
            Closed: The coordinator is not open.
            WrongLoop: This is another event loop than the coordinator's.
            RuntimeError: The job was started or stopped before.

        When degraded:
            The same; this call waits for nothing.
        """
        self._jobs.elections.home.check(self)
        if self._scope is not None or self._stopped:
            raise RuntimeError(f"{self!r} is started only once: call job() again")
        scope, done = anyio.CancelScope(), anyio.Event()
        self._jobs.elections.start(f"job {self.name}", self._run_apart, scope, done)
        self._scope, self._done = scope, done

    async def stop(self) -> None:
        """Cancel the background run, and return when it has ended and resigned; a second call does nothing.

        Raises:
            WrongLoop: This is another event loop than the coordinator's; the job runs on.

        When degraded:
            Resigning tries for 2 s, as that of `Election`.
        """
        self._jobs.elections.home.check(self)
        self._stopped = True
        self.cancel()
        if self._done is not None:
            with anyio.CancelScope(shield=True):
                await self._done.wait()

    def cancel(self) -> None:
        """Cancel the background run without waiting."""
        if self._scope is not None:
            self._scope.cancel()

    async def _run_apart(self, scope: anyio.CancelScope, done: anyio.Event) -> None:
        cancellations = Cancellations()
        try:
            with scope:
                await self.run()
        except Closed:
            return
        except BaseException as exc:
            # A scope does not recognize its own cancellation where a library has raised it as one of its own.
            if cancellations.wanted or not (scope.cancel_called and is_cancellation(exc)):
                raise
        finally:
            done.set()

    async def _run(self) -> object:
        in_a_row = 0
        while True:
            leadership, cancellations = self.leadership(), Cancellations()
            self._become(JobState.WAITING)
            try:
                async with leadership:
                    self._become(JobState.LEADING)
                    result = await self._leading.function()
            except BaseException as exc:
                if cancellations.explain(exc):
                    raise
                closed, stopped = self._jobs.elections.closed, cancellations.wanted
                lost = isinstance(exc, LeadershipLost) and leadership.loss
                if not lost and not (closed and (isinstance(exc, Closed) or is_cancellation(exc))):
                    in_a_row = 1 if self._has_recovered else in_a_row + 1
                    again = not closed and not stopped
                    self._fail(exc, pause_after(in_a_row, self._jobs.chance()) if again else None)
                if closed:
                    raise Closed(closed) from exc
                if stopped:
                    await anyio.lowlevel.checkpoint()  # raises the cancellation that the scope recognizes
                    raise anyio.get_cancelled_exc_class()() from exc
            else:
                self._become(JobState.ENDED)
                telemetry.job_ended(self.name)
                return result
            await anyio.sleep(max(0.0, self._again_at - self._jobs.monotonic()))

    @property
    def _has_recovered(self) -> bool:
        return self._state is JobState.LEADING and self._jobs.monotonic() - self._since > _RECOVERED_AFTER

    def _fail(self, error: BaseException, pause: float | None) -> None:
        # Before the body the text is the package's own and says what to do; the function's own may hold secrets.
        refused = isinstance(error, TideoverError) and self._state is JobState.WAITING
        why = f"cannot be a candidate for {self.name!r}: {error}" if refused else ""
        self._failures += 1
        self._error = why or _place_of(error)
        self._again_at = self._jobs.monotonic() + (pause or 0.0)
        self._become(JobState.PAUSED)
        telemetry.job_failed(self.name, error, pause, why=why)

    def _become(self, state: JobState) -> None:
        self._state, self._since = state, self._jobs.monotonic()


class Jobs:
    """The jobs of one coordinator."""

    def __init__(
        self,
        elections: Elections,
        *,
        coordinator: object,
        client: Client,
    ) -> None:
        self.elections = elections
        self.chance = client.random
        self.monotonic = client.clock.monotonic
        self._coordinator = coordinator
        self._running: list[Job] = []
        # The jobs that have returned, by name, so that an operator sees why nothing runs.
        self._ended: dict[str, Job] = {}

    def make(self, name: str, work: Work) -> Job:
        """Return a job, checked as a whole; see `Coordinator.job`."""
        job = Job(name, leading_of(name, work), self)
        job.leadership()
        return job

    @contextmanager
    def running(self, job: Job) -> Iterator[None]:
        """Show a job as running for the length of a block."""
        self.elections.home.check(job)
        if self.elections.closed:
            raise Closed(self.elections.closed)
        self._ended.pop(job.name, None)
        self._running.append(job)
        token = current_coordinator.set(self._coordinator)
        try:
            yield
        finally:
            current_coordinator.reset(token)
            self._running.remove(job)
            if job.status.state is JobState.ENDED:
                self._ended[job.name] = job

    def cancel(self) -> None:
        """Cancel all background runs."""
        for job in self._running:
            job.cancel()

    def status(self) -> tuple[JobStatus, ...]:
        """Return the status of each job. No I/O."""
        running = list(self._running)
        names = {job.name for job in running}
        ended = [job for job in list(self._ended.values()) if job.name not in names]
        return tuple(job.status for job in (*running, *ended))


def _place_of(error: BaseException) -> str:
    """Return class and place of an error, of a group's first one, without its text, which may hold secrets."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    traceback, place = error.__traceback__, ""
    while traceback is not None:
        file = os.path.basename(traceback.tb_frame.f_code.co_filename)
        place = f" at {file}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return f"{type(error).__name__}{place}"
