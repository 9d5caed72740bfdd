"""A script that prepares a command's process, and then becomes the command.

    become_command.py PARENT DEATH_SIGNAL SIGNALS COMMAND [ARGUMENT ...]

In a process with threads no Python may run between fork and exec, so that `preexec_fn` is no way; and only a
process itself can ask the kernel to end it together with its parent. So an interpreter of its own does it, and is
then replaced by the command: the process, its parent and its output stay the same. Exits with 127 if there is no
such command, and with 126 if it cannot be run, as `env` and `nohup` do.
"""

from __future__ import annotations

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(parent: int, death_signal: int, held_back: list[int], command: list[str]) -> None:
    """Become the command.

    Args:
        death_signal: Sent to the command when the parent dies; 0 to outlive it.
        held_back: Signals blocked since the start, so that none arrives half way.
    """
    if death_signal:
        problem = _end_with_parent(death_signal)
        if problem:
            print(f"tideover: {_shown(command[0])} goes on if tideover is killed: {problem}", file=sys.stderr)
        if os.getppid() != parent:
            # It died before the kernel knew.
            os._exit(128 + death_signal)
    # Python ignores these for itself, and an ignored signal would stay ignored in the command.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, held_back)
    try:
        os.execvp(command[0], command)
    except OSError as exc:
        print(f"tideover: {_shown(command[0])}: {exc.strerror}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(127 if isinstance(exc, FileNotFoundError) else 126)


def _shown(name: str) -> str:
    # As `tideover.shown`, which this interpreter has not: one line, not too long, without orders to a terminal.
    return name[:200] if name[:200].isprintable() else ascii(name[:200])


def _end_with_parent(death_signal: int) -> str:
    """Ask the kernel for a signal at the parent's death; return why it refuses, or nothing."""
    try:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(death_signal), 0, 0, 0):
            return os.strerror(ctypes.get_errno())
    except (ImportError, OSError, AttributeError) as exc:
        return str(exc)
    return ""


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), [int(n) for n in sys.argv[3].split(",")], sys.argv[4:])
