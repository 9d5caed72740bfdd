"""What every run begins with."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests import canaries
from tests.etcd import over_tls
from tideover.codecs import decoding, libraries
from tideover.etcd.transports import VARIABLE, chosen
from tideover.telemetry.events import limiter
from tideover.testing import EtcdServer
from tideover.testing.etcd.binary import binary_version, find_etcd

# How fast examples are drawn says something about the machine alone.
settings.register_profile("tideover", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tideover")


def pytest_configure(config: pytest.Config) -> None:
    """Hear Ctrl-C and SIGHUP also where a shell or nohup has started us: children inherit what is ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)
    canaries.install()
    if config.getoption("--over-tls"):
        config.add_cleanup(over_tls.install())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test while which a secret was said by anything: a line, an output, an error, a span, a file."""
    report = yield
    # What was logged has passed the search already.
    canaries.search("what was captured", report.capstdout, report.capstderr)
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    if folder is not None and report.when == "call":
        canaries.search_files(folder)
    found = "\n".join(canaries.taken())
    if found:
        report.sections.append(("Secrets that were said", found))
    if found and report.passed:
        report.outcome, report.longrepr = "failed", f"a secret was said:\n{found}"
    return report


def pytest_addoption(parser: pytest.Parser) -> None:
    """Say how long the trials under random faults are; `nox -s faults` makes them long."""
    group = parser.getgroup("faults", "trials under random faults")
    group.addoption("--faults-count", type=int, default=6, help="faults per trial (default: %(default)s)")
    group.addoption("--faults-seed", type=int, default=1, help="what they are drawn from (default: %(default)s)")
    group = parser.getgroup("etcd", "the etcd of the tests")
    group.addoption("--over-tls", action="store_true", help="with TLS, unless a test says how it is served")
    group = parser.getgroup("observability", "the alerts in a real Prometheus")
    group.addoption(
        "--observed-for", type=float, default=0, help="seconds for which all is well; 0 leaves these tests out"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let the longest files begin first: a worker takes a file at a time, and the last one should be short.

    What observes at length is left out unless `--observed-for` asks for it.
    """
    seconds = float(config.getoption("--observed-for"))
    left_out = {item for item in items for mark in item.iter_markers("observed") if seconds < mark.args[0]}
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]
    sizes = Counter(item.path for item in items)

    def order(item: pytest.Item) -> tuple[float, int]:
        takes = item.get_closest_marker("takes")
        return (-takes.args[0] if takes else 0.0, -sizes[item.path])

    items.sort(key=order)


@pytest.fixture(scope="module")
def server() -> Iterator[EtcdServer]:
    """One etcd for all tests of a module."""
    with EtcdServer() as running:
        yield running


@pytest.fixture
def over_grpc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls go over gRPC's library, also those of processes that the test starts."""
    monkeypatch.setenv(VARIABLE, "grpc")


@pytest.fixture(autouse=True)
def _nothing_told_yet() -> None:
    """Events that repeat themselves are told once in 30 s: not if it was another test that told them."""
    limiter.forget()


@pytest.fixture
def own_types_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """No module of `tideover.contrib` has been imported, as far as types are concerned."""
    monkeypatch.setattr(libraries, "libraries", [])
    monkeypatch.setattr(decoding, "_known", {})


def pytest_report_header() -> str:
    """Say which etcd the tests run on, and what calls to it go over."""
    program = find_etcd()
    return f"etcd {binary_version(program)}: {program}, over {chosen(None, '127.0.0.1:2379')}"
