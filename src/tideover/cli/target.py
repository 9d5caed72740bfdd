"""The etcd and the user of a command: the options, and their `Target`.

Options win over the environment. A password is never an option, though its file may be: all users of a machine can
read command lines.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from tideover.cli.completion import complete_namespaces
from tideover.cli.exit_codes import usage_errors
from tideover.cli.keys import keys
from tideover.cli.printer import ask_password, note
from tideover.environment import (
    CACERT,
    CERT,
    ENDPOINTS,
    KEY,
    NAMESPACE,
    PASSWORD,
    PASSWORD_FILE,
    SERVER_NAME,
    USER,
    Target,
    check_user,
    find_password,
    split_endpoints,
    unused_password,
)
from tideover.etcd.password import read_password
from tideover.options import Options, check_namespace
from tideover.policies import Tls
from tideover.prefixes.snapshots.snapshot import Accepted
from tideover.prefixes.snapshots.snapshot_file import SnapshotFile
from tideover.prefixes.snapshots.snapshot_names import SnapshotOwner
from tideover.secret_files import is_read_once, open_to_all
from tideover.types import Component

__all__ = ["Owner", "Target", "etcd_options", "owner_options"]

F = TypeVar("F", bound=Callable[..., Any])

_DEFAULT = "127.0.0.1:2379"
_NAMES = ("endpoints", "namespace", "user", "server_name", "ca_file", "cert_file", "key_file", "password_file")


def etcd_options(command: F) -> F:
    """Add the options for etcd and the user; the command gets them as one `Target`, named `target`."""

    @functools.wraps(command)
    def run(*args: Any, **options: Any) -> Any:
        taken = {name: options.pop(name) for name in _NAMES}
        # No password is needed where etcd is not asked: `--from-disk`, `--from FILE`.
        asks = not (options.get("from_disk") or options.get("file"))
        return command(*args, target=_target(**taken, asks=asks), **options)

    for option in reversed(_OPTIONS):
        run = option(run)
    return run  # type: ignore[return-value] # click's decorators know nothing of F


@dataclass(frozen=True, slots=True)
class Owner:
    """The service whose snapshots a command uses."""

    options: Options
    user: str

    def file(
        self, folder: Path, prefix: bytes, component: Component, accepted: Accepted | None = None
    ) -> SnapshotFile:
        """Return the service's snapshot file of a prefix."""
        return SnapshotFile(
            folder,
            SnapshotOwner(self.options.namespace, self.options.endpoints, self.user),
            prefix=prefix,
            component=component,
            accepted=None if accepted is None else (accepted.form, accepted.shape),
            encryption=keys(),
        )


def owner_options(command: F) -> F:
    """Add the options that choose a service's snapshots: etcd is not asked, and there is no password."""

    @functools.wraps(command)
    def run(*args: Any, endpoints: tuple[str, ...], namespace: str, user: str | None, **options: Any) -> Any:
        return command(*args, owner=Owner(Options(endpoints, namespace, ()), user or ""), **options)

    for option in reversed((*_WHICH, _user_option("The etcd user of the service, if it has one."))):
        run = option(run)
    return run  # type: ignore[return-value] # as above


def warn_if_open(secret_file: Path) -> None:
    """Warn on stderr if every user can read a secret."""
    problem = open_to_all(secret_file)
    if problem:
        note(f"warning: {problem}")


def _split(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """Return the endpoints; the environment has several in one word, and so may an option."""
    with _bad_parameter(ctx, param, ENDPOINTS):
        return split_endpoints(",".join(given or (_DEFAULT,)))


def _check_namespace(ctx: click.Context, param: click.Parameter, given: str) -> str:
    with _bad_parameter(ctx, param, NAMESPACE):
        check_namespace(given)
    return given


@contextmanager
def _bad_parameter(ctx: click.Context, param: click.Parameter, variable: str) -> Iterator[None]:
    """Turn a ValueError into the complaint about an option, or about the variable that it came from."""
    try:
        yield
    except ValueError as exc:
        source = ctx.get_parameter_source(param.name or "")
        where = [variable] if source is click.core.ParameterSource.ENVIRONMENT else None
        raise click.BadParameter(str(exc), ctx=ctx, param=param, param_hint=where) from exc


def _check_user(ctx: click.Context, param: click.Parameter, given: str | None) -> str | None:
    try:
        check_user(given or "")
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from exc
    return given


_FILE = click.Path(exists=True, dir_okay=False)
_WHICH = (
    click.option(
        "--endpoint",
        "-e",
        "endpoints",
        metavar="HOST:PORT",
        multiple=True,
        envvar=ENDPOINTS,
        callback=_split,
        help=f"A member; give all of them; https:// for TLS. Without: {ENDPOINTS}, separated by commas, else "
        f"{_DEFAULT}.",
    ),
    click.option(
        "--namespace",
        "-n",
        default="",
        envvar=NAMESPACE,
        callback=_check_namespace,
        shell_complete=complete_namespaces,
        help="The services' namespace in etcd, such as /shop.",
    ),
)


def _user_option(text: str) -> Callable[[F], F]:
    return click.option("--user", metavar="NAME", envvar=USER, callback=_check_user, help=text)


_OPTIONS = (
    *_WHICH,
    click.option("--cacert", "ca_file", type=_FILE, envvar=CACERT, help="The CAs to verify etcd with."),
    click.option("--cert", "cert_file", type=_FILE, envvar=CERT, help="The client's certificate."),
    click.option("--key", "key_file", type=_FILE, envvar=KEY, help="Its private key."),
    click.option(
        "--server-name",
        metavar="NAME",
        envvar=SERVER_NAME,
        help="The name to expect in etcd's certificate, instead of the endpoint's host.",
    ),
    _user_option(f"The etcd user; the password is read from {PASSWORD}, or asked for."),
    click.option(
        "--password-file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        envvar=PASSWORD_FILE,
        help=f"The file that the password is read from, at each login, instead of {PASSWORD}.",
    ),
)


def _target(
    *,
    endpoints: tuple[str, ...],
    namespace: str,
    user: str | None,
    server_name: str | None,
    ca_file: str | None,
    cert_file: str | None,
    key_file: str | None,
    password_file: Path | None,
    asks: bool,
) -> Target:
    with usage_errors():
        asked = ca_file or cert_file or key_file or server_name
        tls = Tls(ca_file, cert_file, key_file, server_name) if asked else None
        if key_file:
            warn_if_open(Path(key_file))
    if user is None:
        source = click.get_current_context().get_parameter_source("password_file")
        if source is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError("--password-file needs --user")
        left_alone = unused_password(os.environ)
        if left_alone:
            note(left_alone)
        return Target(endpoints, namespace, tls)
    return Target(endpoints, namespace, tls, user, _password(user, password_file) if asks else "")


def _password(user: str, file: Path | None) -> str | Path:
    with usage_errors():
        found = find_password(os.environ, file)
        if isinstance(found, Path):
            password = read_password(found)
            warn_if_open(found)
            found = password if is_read_once(found) else found
    if found is not None:
        return found
    if not sys.stdin.isatty():
        remedy = f"set {PASSWORD}, give --password-file, or run it in a terminal"
        raise click.UsageError(f"no password for user {user!r}: {remedy}")
    return ask_password(f"Password of {user}")
