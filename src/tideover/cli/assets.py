"""`tideover assets`: the dashboard, alerts and configurations that come with the package, written to a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from tideover.cli.common import json_option
from tideover.cli.exit_codes import Exit, Failure
from tideover.cli.printer import print_json, print_line

_ASSETS = files("tideover") / "assets"
_KINDS = ("grafana", "kubernetes", "otelcol", "prometheus")


@click.group("assets")
def command() -> None:
    """Write the dashboard, alerts and configurations that come with tideover.

    They are for Grafana, Prometheus, the Prometheus operator and the OpenTelemetry Collector.
    """


@command.command("export", short_help="Write them to DIR.")
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace files of the same names; others in DIR stay.")
@click.option("--list", "only_list", is_flag=True, help="Print the names, and write nothing.")
@click.option("--only", type=click.Choice(_KINDS), multiple=True, help="This kind; may be repeated. Default: all.")
@json_option
def export(folder: Path | None, force: bool, only_list: bool, only: Sequence[str], as_json: bool) -> int:
    """Write all of them to DIR, which is made if it is not there, or nothing.

    Exits with 1, and has changed nothing, if DIR has files already (without --force), is a file, or cannot be
    written.
    """
    if folder is None and not only_list:
        raise click.UsageError("DIR is missing: the folder to write to")
    names = [name for name in _names(_ASSETS) if not only or name.partition("/")[0] in only]
    if folder is not None and not only_list:
        try:
            _write(names, folder, force=force)
        except OSError as exc:
            where = exc.filename2 or exc.filename or folder
            raise Failure(f"nothing is written: {where}: {exc.strerror}", code=Exit.FAILED) from exc
    for name in names:
        shown = name if folder is None or only_list else str(folder / name)
        if as_json:
            print_json({"file": shown})
        else:
            print_line(shown)
    return Exit.OK


def _names(folder: Traversable, above: str = "") -> Iterator[str]:
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        if entry.is_dir():
            yield from _names(entry, f"{above}{entry.name}/")
        else:
            yield above + entry.name


def _write(names: Sequence[str], folder: Path, *, force: bool) -> None:
    """Write all files, or change nothing."""
    with ExitStack() as undo:
        _make_folder(folder, undo)
        if not force and any(folder.iterdir()):
            raise Failure(f"{folder} has files already: give another folder, or --force", code=Exit.FAILED)
        # On the same file system, so that each file takes its place at once, and whole.
        with TemporaryDirectory(prefix=".tideover-", dir=folder) as aside, ExitStack() as placed:
            for number, name in enumerate(names):
                new = Path(aside, f"new-{number}")
                new.write_bytes(_ASSETS.joinpath(name).read_bytes())
            for number, name in enumerate(names):
                _make_folder((folder / name).parent, placed)
                _place(Path(aside, f"new-{number}"), folder / name, Path(aside, f"old-{number}"), placed)
            placed.pop_all()
        undo.pop_all()


def _make_folder(folder: Path, undo: ExitStack) -> None:
    for each in reversed([folder, *folder.parents]):
        if not each.exists():
            each.mkdir()
            undo.callback(each.rmdir)


def _place(new: Path, path: Path, old: Path, undo: ExitStack) -> None:
    """Move a file to its place; `undo` restores the former file."""
    if path.is_file() or path.is_symlink():
        os.rename(path, old)
        undo.callback(os.rename, old, path)
    os.rename(new, path)
    undo.callback(path.unlink)
