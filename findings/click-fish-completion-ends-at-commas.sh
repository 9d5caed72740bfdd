#!/usr/bin/env bash
# Python 3.11; click 8.5.1; fish 3.6 or newer, which has to be installed.
# Guess: Tab offers a value as the program completes it, and its help beside it.
# Behaviour: the script that click makes for fish takes apart what click hands it, "kind,value", at every comma, and keeps
#   the second part. A value that holds a comma, such as a list `a,b` or `host=x,port=1`, is offered up to its first
#   comma, as a whole value: Tab types another argument than the program meant. Help ends at its first comma as
#   well, and a value's help is lost with the rest of the value.
# Output seen: the lines at the end of this script.
set -euo pipefail
if ! command -v fish >/dev/null; then
    echo "this finding needs fish, the shell" >&2
    exit 2
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet click==8.5.1
cat >"$folder/venv/bin/store" <<PY
#!$folder/venv/bin/python
import click
from click.shell_completion import CompletionItem


def regions(ctx, param, incomplete):
    return [
        CompletionItem("us-1", help="in use, and full"),
        CompletionItem("eu-1,eu-2", help="both of Europe"),
    ]


@click.command()
@click.argument("region", shell_complete=regions)
def store(region):
    print(region)


store(prog_name="store")
PY
chmod +x "$folder/venv/bin/store"
export PATH="$folder/venv/bin:$PATH"
_STORE_COMPLETE=fish_source store >"$folder/store.fish"
{
    echo "click:"
    COMP_WORDS="store " COMP_CWORD="" _STORE_COMPLETE=fish_complete store
    echo "fish:"
    HOME=$folder fish --no-config -c "source $folder/store.fish; complete -C 'store '"
} | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
click:
plain,us-1	in use, and full
plain,eu-1,eu-2	both of Europe
fish:
eu-1
us-1	in use
SEEN
