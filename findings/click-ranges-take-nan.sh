#!/usr/bin/env bash
# Python 3.11; click 8.1.8 and 8.3.1, typer 0.20.0 on the latter.
# Guess: `click.FloatRange(min=0, max=10)` admits a number from 0 to 10 and nothing else: the program's own checks
#   begin after that.
# Behaviour: `nan` passes every range, open or closed, with or without `clamp`, for it is neither below nor above a
#   bound; so does a typer option with `min=` and `max=`. A timeout of nan then compares as never over.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/probe.py" <<'PY'
import importlib.metadata

import click
from click.testing import CliRunner

kinds = {
    "0 to 10": click.FloatRange(0, 10),
    "above 0": click.FloatRange(0, min_open=True),
    "clamped": click.FloatRange(0, 10, clamp=True),
}
print("click", importlib.metadata.version("click"))
for name, kind in kinds.items():
    command = click.Command("wait", params=[click.Option(["--timeout"], type=kind)], callback=lambda timeout: print(timeout))
    for value in ("nan", "inf", "-1"):
        result = CliRunner().invoke(command, ["--timeout", value])
        print(f"  {name}: {value} is", f"taken as {result.output.strip()}" if result.exit_code == 0 else "refused")
try:
    import typer
except ImportError:
    pass
else:
    from typing import Annotated

    from typer.testing import CliRunner as TyperRunner

    application = typer.Typer()

    @application.command()
    def wait(timeout: Annotated[float, typer.Option(min=0, max=10)]) -> None:
        print(timeout)

    result = TyperRunner().invoke(application, ["--timeout", "nan"])
    print(f"  typer: nan is", f"taken as {result.output.strip()}" if result.exit_code == 0 else "refused")
PY
for pins in "click==8.1.8" "click==8.3.1 typer==0.20.0"; do
    rm -rf "$folder/venv"
    python3 -m venv "$folder/venv"
    # shellcheck disable=SC2086
    "$folder/venv/bin/pip" install --quiet $pins
    "$folder/venv/bin/python" "$folder/probe.py"
done | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
click 8.1.8
  0 to 10: nan is taken as nan
  0 to 10: inf is refused
  0 to 10: -1 is refused
  above 0: nan is taken as nan
  above 0: inf is taken as inf
  above 0: -1 is refused
  clamped: nan is taken as nan
  clamped: inf is taken as 10
  clamped: -1 is taken as 0
click 8.3.1
  0 to 10: nan is taken as nan
  0 to 10: inf is refused
  0 to 10: -1 is refused
  above 0: nan is taken as nan
  above 0: inf is taken as inf
  above 0: -1 is refused
  clamped: nan is taken as nan
  clamped: inf is taken as 10
  clamped: -1 is taken as 0
  typer: nan is taken as nan
SEEN
