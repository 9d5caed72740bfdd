"""`tideover completion`: the script that lets a shell complete command lines, and how bash hands them over.

The scripts for zsh and fish are click's. Its script for bash passes on the words that bash has divided, also at
colons and equals signs: behind `-e 10.0.0.1:2379` nothing would be completed. So bash passes on the line.
"""

from __future__ import annotations

import os
from typing import ClassVar

import click
from click.shell_completion import BashComplete, ShellComplete, add_completion_class, get_completion_class
from click.shell_completion import split_arg_string as words_of

from tideover.cli.app import VARIABLE
from tideover.cli.printer import print_raw

_BASH = """\
%(complete_func)s() {
    local kind value
    COMPREPLY=()
    while IFS=, read -r kind value; do
        case $kind in
            plain) COMPREPLY+=("$value") ;;
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
        esac
    done < <(_TIDEOVER_LINE="${COMP_LINE:0:COMP_POINT}" %(complete_var)s=bash_complete "$1" 2>/dev/null)
}
complete -o nosort -F %(complete_func)s %(prog_name)s 2>/dev/null ||
    complete -F %(complete_func)s %(prog_name)s
"""


class Bash(BashComplete):
    """Completes a line of bash as it was typed up to the cursor."""

    source_template: ClassVar[str] = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one to complete, and that word."""
        line = os.environ.get("_TIDEOVER_LINE", "")
        words = words_of(line)[1:]
        return (words, "") if line[-1:].isspace() or not words else (words[:-1], words[-1])


def prepare() -> None:
    """Register the completion of bash's lines with click."""
    add_completion_class(Bash, "bash")


@click.command("completion", short_help="Print the script that completes command lines in SHELL.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that lets SHELL complete commands, options and names when Tab is pressed.

    \b
    bash:  eval "$(tideover completion bash)"    in ~/.bashrc
    zsh:   eval "$(tideover completion zsh)"     in ~/.zshrc, behind compinit
    fish:  tideover completion fish | source     in ~/.config/fish/config.fish

    Names of keys, services and namespaces come from the snapshots that services have left in this user's cache
    folder, never from the network.
    """
    prepare()
    made = get_completion_class(shell)
    if made is None:
        raise click.UsageError(f"this version of click knows no {shell}")
    # Not the class's own: bash's asks for the version of the bash that happens to be first in the path.
    source = ShellComplete.source(made(ctx.find_root().command, {}, "tideover", VARIABLE))
    print_raw(source.rstrip("\n"))
