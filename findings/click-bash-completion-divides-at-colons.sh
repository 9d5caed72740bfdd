#!/usr/bin/env bash
# Python 3.11; click 8.5.1; GNU bash 5.2.
# Guess: Tab completes the argument that is being typed, whatever stands before it on the line.
# Behaviour: the script that click makes for bash hands on bash's words, and bash divides a line at every `:` and `=` as
#   well. An option's value with a colon, such as the `-e HOST:PORT` of many a client, arrives as three words; click
#   takes the second and third for arguments and completes a parameter too late, or nothing at all.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet click==8.5.1
cat >"$folder/venv/bin/store" <<PY
#!$folder/venv/bin/python
import click


def names(ctx, param, incomplete):
    return [name for name in ("rate", "region") if name.startswith(incomplete)]


@click.command()
@click.option("-e", "--endpoint")
@click.argument("key", shell_complete=names)
def store(endpoint, key):
    print(endpoint, key)


store(prog_name="store")
PY
chmod +x "$folder/venv/bin/store"
export PATH="$folder/venv/bin:$PATH"
_STORE_COMPLETE=bash_source store >"$folder/completion.bash"

# Completes a line as an interactive bash does when Tab is pressed at its end.
complete_line() {
    bash --norc -i 2>/dev/null <<RUN
source "$folder/completion.bash"
COMP_LINE="$1"
COMP_POINT=\${#COMP_LINE}
COMP_WORDS=($2)
COMP_CWORD=\$((\${#COMP_WORDS[@]} - 1))
_store_completion store
echo "$1<TAB>: \${COMPREPLY[*]:-nothing}"
RUN
}
{
    bash --norc -i -c 'case $COMP_WORDBREAKS in *:*) echo "bash divides at colons" ;; esac' 2>/dev/null
    complete_line "store r" "store r"
    complete_line "store -e db r" "store -e db r"
    complete_line "store -e db:2379 r" "store -e db : 2379 r"
} | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
bash divides at colons
store r<TAB>: rate region
store -e db r<TAB>: rate region
store -e db:2379 r<TAB>: nothing
SEEN
