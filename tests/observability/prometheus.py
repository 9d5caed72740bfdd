"""A real Prometheus that scrapes workers and evaluates the rules of the assets, sooner than those say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import anyio
import httpx
import yaml

from tests.assets.expressions import ASSETS
from tests.telemetry.everything import Exposed
from tideover.testing.etcd.ports import ReservedPort

# How many seconds of a rule's `for` are one here.
HASTE = 60


def rules(numbers: Mapping[str, str]) -> str:
    """Return `alerts.yml` with each `for` divided by HASTE, and with numbers that are their user's replaced.

    Args:
        numbers: Texts of expressions, such as `* 3600`, and what stands there instead.

    Raises:
        ValueError: A text stands nowhere.
    """
    text = (ASSETS / "prometheus/alerts.yml").read_text()
    for number, instead in numbers.items():
        if number not in text:
            raise ValueError(f"alerts.yml has no {number!r}")
        text = text.replace(number, instead)
    units = {"s": 1000, "m": 60000}

    def sooner(found: re.Match[str]) -> str:
        return f"for: {int(found[1]) * units[found[2]] // HASTE}ms"

    return re.sub(r"\bfor: (\d+)([sm])$", sooner, text, flags=re.M)


class Prometheus:
    """A running Prometheus.

    Attributes:
        url: Where it answers.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.AsyncClient(base_url=url, timeout=10, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def answers(self) -> bool:
        """Return whether it runs."""
        try:
            await self.get("status/runtimeinfo")
        except httpx.HTTPError:
            return False
        return True

    async def get(self, path: str, **params: str) -> Any:
        """Return the data of an answer of the HTTP API."""
        answer = await self._client.get(f"/api/v1/{path}", params=params)
        answer.raise_for_status()
        return answer.json()["data"]

    async def query(self, expression: str) -> dict[tuple[str, ...], float]:
        """Return the value of each series of an instant vector, by its labels' values, sorted by name."""
        found = (await self.get("query", query=expression))["result"]
        return {
            tuple(value for _, value in sorted(each["metric"].items())): float(each["value"][1]) for each in found
        }

    async def alerts(self) -> dict[str, str]:
        """Return the alerts that are pending or firing now, and which of both; firing wins."""
        found = sorted(
            (each["labels"]["alertname"], each["state"]) for each in (await self.get("alerts"))["alerts"]
        )
        return dict(reversed(found))

    async def exposed(self) -> Exposed:
        """Return everything of tideover's that was ever scraped: metrics, their labels, and the labels' values."""
        found: Exposed = {}
        for series in await self.get("series", **{"match[]": '{__name__=~"(tideover|db_client)_.+"}'}):
            labels = found.setdefault(series.pop("__name__"), {})
            for label, value in series.items():
                labels.setdefault(label, set()).add(value)
        return found


@asynccontextmanager
async def prometheus(
    folder: Path, ports: Sequence[int], *, numbers: Mapping[str, str] | None = None, interval: float = 2.0
) -> AsyncIterator[Prometheus]:
    """Run a Prometheus until the block ends.

    Args:
        folder: For its data and its log.
        ports: What it scrapes, on this host, as the job `shop`.
        numbers: See `rules`.
        interval: Seconds between two scrapes, and between two evaluations; a scrape may take as long.
    """
    config = {
        "global": {"scrape_interval": f"{interval:g}s", "evaluation_interval": f"{interval:g}s"},
        "rule_files": ["alerts.yml"],
        "scrape_configs": [
            {"job_name": "shop", "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}
        ],
    }
    (folder / "alerts.yml").write_text(rules(numbers or {}))
    (folder / "prometheus.yml").write_text(yaml.dump(config))
    port = ReservedPort()
    with (folder / "prometheus.log").open("ab") as log:
        process = subprocess.Popen(
            [
                program(),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                f"--web.listen-address=127.0.0.1:{port.number}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        async with Prometheus(f"http://127.0.0.1:{port.number}") as running:
            with anyio.fail_after(60):
                while process.poll() is None and not await running.answers():
                    await anyio.sleep(0.1)
            if process.poll() is not None:
                raise RuntimeError((folder / "prometheus.log").read_text()[-2000:])
            yield running
    finally:
        process.terminate()
        process.wait(20)
        port.release()


def program() -> str:
    """Return the path of Prometheus.

    Raises:
        RuntimeError: There is none.
    """
    unpacked = os.environ.get("TIDEOVER_PROMETHEUS_DIR", "").split(os.pathsep)
    for folder in filter(None, unpacked):
        if Path(folder, "prometheus").is_file():
            return str(Path(folder, "prometheus"))
    found = shutil.which("prometheus")
    if found is None:
        raise RuntimeError("Prometheus is not here: apt-get install prometheus, or run the tests by nox")
    return found
