"""`tideover assets export`: all of the files or none, and never over somebody's own."""

from __future__ import annotations

import json
import os
from importlib.resources import files
from pathlib import Path

import pytest

from tideover.cli.app import run
from tideover.cli.exit_codes import Exit

_NAMES = [
    "README.md",
    "grafana/tideover.json",
    "kubernetes/prometheus-rule.yaml",
    "otelcol/prometheus.yaml",
    "otelcol/tail-sampling.yaml",
    "prometheus/alerts.yml",
    "prometheus/alerts_test.yml",
]


def export(*arguments: str | Path) -> int:
    """Run the command; return its exit code."""
    return run(["assets", "export", *map(str, arguments)])


def tree(folder: Path) -> dict[str, bytes | None]:
    """Return all that is in a folder: files with their content, folders with None."""
    found = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in found}


def test_all_are_written_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder is made, with those above it; each file is the package's, and named."""
    target = tmp_path / "ops" / "x"
    assert export(target) == Exit.OK
    assert capsys.readouterr().out.splitlines() == [str(target / name) for name in _NAMES]
    written = {name: content for name, content in tree(target).items() if content is not None}
    assert written == {name: (files("tideover") / "assets" / name).read_bytes() for name in _NAMES}


def test_a_list_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--list` says what there is, with a folder and without, also as JSON."""
    assert export("--list") == Exit.OK
    assert capsys.readouterr().out.splitlines() == _NAMES
    assert export(tmp_path / "x", "--list", "--only", "otelcol", "--json") == Exit.OK
    listed = [json.loads(line)["file"] for line in capsys.readouterr().out.splitlines()]
    assert listed == ["otelcol/prometheus.yaml", "otelcol/tail-sampling.yaml"]
    assert tree(tmp_path) == {}


def test_only_what_is_asked_for(tmp_path: Path) -> None:
    """`--only` may be repeated; there is nothing beside."""
    assert export(tmp_path, "--only", "grafana", "--only", "kubernetes") == Exit.OK
    chosen = {"grafana", "grafana/tideover.json", "kubernetes", "kubernetes/prometheus-rule.yaml"}
    assert set(tree(tmp_path)) == chosen


def test_a_folder_with_files_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is in it: nothing is changed without `--force`."""
    (tmp_path / ".hidden").write_text("mine")
    assert export(tmp_path) == Exit.FAILED
    assert "has files already" in capsys.readouterr().err
    assert tree(tmp_path) == {".hidden": b"mine"}


def test_force_replaces_files_of_the_same_name_alone(tmp_path: Path) -> None:
    """An older export gives way; a neighbour, and what a link of that name leads to, stay."""
    assert export(tmp_path) == Exit.OK
    whole = tree(tmp_path)
    (tmp_path / "prometheus/alerts.yml").write_text("older")
    (tmp_path / "prometheus/mine.yml").write_text("mine")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("linked")
    (tmp_path / "grafana/tideover.json").unlink()
    (tmp_path / "grafana/tideover.json").symlink_to(elsewhere)
    assert export(tmp_path, "--force") == Exit.OK
    assert tree(tmp_path) == {**whole, "prometheus/mine.yml": b"mine", "elsewhere": b"linked"}
    assert not (tmp_path / "grafana/tideover.json").is_symlink()


@pytest.mark.parametrize("blocked", ["prometheus", "prometheus/alerts_test.yml"])
def test_an_export_that_fails_on_the_way_is_undone(blocked: str, tmp_path: Path) -> None:
    """A file where a folder belongs, or the reverse: what was replaced by then is there again."""
    (tmp_path / "grafana").mkdir()
    (tmp_path / "grafana/tideover.json").write_text("older")
    if "/" in blocked:
        (tmp_path / blocked).mkdir(parents=True)
    else:
        (tmp_path / blocked).write_text("a file")
    before = tree(tmp_path)
    assert export(tmp_path, "--force") == Exit.FAILED
    assert tree(tmp_path) == before


def test_a_file_is_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file, or a folder below one, is said to be none; `--force` makes none of it."""
    (tmp_path / "file").write_text("mine")
    for arguments in ([tmp_path / "file"], [tmp_path / "file", "--force"], [tmp_path / "file" / "x"]):
        assert export(*arguments) == Exit.FAILED
        assert "Not a directory" in capsys.readouterr().err
    assert tree(tmp_path) == {"file": b"mine"}


def test_a_folder_that_cannot_be_written_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """Where nobody may write, root neither, exit code 1 says so, whether or not the folder is there."""
    before = os.listdir("/sys")
    for arguments in (["/sys/tideover"], ["/sys/tideover/x"], ["/sys", "--force"]):
        assert export(*arguments) == Exit.FAILED
        assert "nothing is written: /sys/" in capsys.readouterr().err
    assert os.listdir("/sys") == before


def test_a_folder_has_to_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    """Without DIR nothing is written anywhere: wrong usage. So is a kind that there is not."""
    assert export() == Exit.USAGE
    assert "DIR is missing" in capsys.readouterr().err
    assert export("--list", "--only", "splunk") == Exit.USAGE
