"""Runs Spin: from a model and flags to a verdict, and from a counter-example to sentences."""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from models.variants import Variant, Verdict

MODEL = Path(__file__).with_name("failsafe.pml").resolve()
COMPILER = ("gcc", "-O2", "-w", "-DSAFETY", "-DNOREDUCE", "-DMEMLIM=12000")
DEPTH = 8_000_000


class SpinFailed(Exception):
    """Raised when Spin or the compiler says something that is no verdict."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a search has found.

    Attributes:
        verdict: In a word.
        states: How many different ones were looked at.
        depth: The longest way that was followed, in steps; the shortest way to the violation, if there is one.
        seconds: How long the search took, without the compiler.
    """

    verdict: Verdict
    states: int
    depth: int
    seconds: float


def read(output: str, seconds: float) -> Finding:
    """Return the finding in what a verifier made by Spin prints.

    Args:
        output: What it has printed.
        seconds: How long it took.

    Raises:
        SpinFailed: It is no report of a search.
    """
    errors = re.search(r"errors: (\d+)", output)
    states = re.search(r"(\d+(?:\.\d+e\+\d+)?) states, stored", output)
    depth = re.search(r"depth reached (\d+)", output)
    if errors is None or states is None or depth is None:
        raise SpinFailed(output or "the verifier says nothing")
    violated = re.search(r"assertion violated (.*) \(at depth (\d+)\)", output)
    if int(errors[1]) == 0:
        # What was cut off, by depth or memory, is not verified.
        whole = "Search not completed" not in output and "max search depth too small" not in output
        verdict = Verdict.SAFE if whole else Verdict.UNKNOWN
    elif violated is None:
        raise SpinFailed(output)
    else:
        verdict = _violation(violated[1])
    way = int(violated[2]) if violated else int(depth[1])
    return Finding(verdict, int(float(states[1])), way, seconds)


def _violation(claim: str) -> Verdict:
    """Return which of the model's assertions this is; Spin prints it with its macros expanded."""
    if re.search(r"p\[0\]\.deadline.*p\[1\]\.deadline", claim):
        return Verdict.TWO_LEADERS
    if "record_vacant" in claim:
        return Verdict.DISTURBED
    return Verdict.REACHED


def search(variant: Variant, spin: str, place: Path) -> Finding:
    """Search one variant of the model.

    Args:
        variant: Which.
        spin: The program.
        place: An empty folder for what comes up.

    Raises:
        SpinFailed: There is no verdict.
    """
    _run([spin, *_defines(variant), "-a", str(MODEL)], place)
    _run([*COMPILER, *(["-DBFS"] if variant.shortest else []), "-o", "pan", "pan.c"], place)
    started = time.monotonic()
    done = subprocess.run(["./pan", f"-m{DEPTH}"], cwd=place, capture_output=True, text=True, check=False)
    return read(done.stdout, time.monotonic() - started)


def tell(variant: Variant, spin: str, place: Path) -> list[str]:
    """Return the counter-example of a search, one sentence per step.

    Args:
        variant: Which was searched.
        spin: The program.
        place: The folder it was searched in.

    Raises:
        SpinFailed: There is none.
    """
    (trail,) = place.glob("*.trail")
    said = _run([spin, *_defines(variant), "-T", "-t", "-k", str(trail), str(MODEL)], place)
    return sentences(said)


def sentences(output: str) -> list[str]:
    """Return what the model says in a replay of a counter-example, each tick with its number.

    Args:
        output: What Spin prints.
    """
    lines, ticks = [], 0
    for line in output.splitlines():
        if line.startswith("spin:"):
            break
        ticks += line == "a tick passes"
        lines.append(f"tick {ticks}" if line == "a tick passes" else line)
    return lines


def _defines(variant: Variant) -> list[str]:
    return [f"-D{flag}" for flag in variant.flags]


def _run(command: list[str], place: Path) -> str:
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode and "trail ends" not in done.stdout:
        raise SpinFailed(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
    return done.stdout
