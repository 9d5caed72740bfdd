"""What lies on the way to etcd, or in its place: listeners of ours, and nginx and HAProxy themselves."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tideover.testing.etcd.ports import ReservedPort

Answer = Callable[[socket.socket], None]


class Listener:
    """Accepts connections on a port of 127.0.0.1, and treats each as it is told, in a thread of its own.

    Args:
        answer: What to do with a connection; it is closed afterwards.
        context: TLS to begin with; None for none.

    Attributes:
        endpoint: Its `host:port`.
    """

    def __init__(self, answer: Answer, context: ssl.SSLContext | None = None) -> None:
        self._answer, self._context = answer, context
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._socket]
        self.endpoint = f"127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                accepted, _ = self._socket.accept()
                self._open.append(accepted)
                threading.Thread(target=self._treat, args=(accepted,), daemon=True).start()

    def _treat(self, accepted: socket.socket) -> None:
        with suppress(OSError), accepted:
            if self._context is None:
                self._answer(accepted)
            else:
                with self._context.wrap_socket(accepted, server_side=True) as secure:
                    self._answer(secure)

    def close(self) -> None:
        """End it, and every connection with it."""
        for opened in self._open:
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()


@contextmanager
def listening(answer: Answer, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Run a `Listener`; give its endpoint."""
    listener = Listener(answer, context)
    try:
        yield listener.endpoint
    finally:
        listener.close()


def saying(reply: bytes) -> Answer:
    """Return what answers the first bytes with others, and then waits for the end."""

    def answer(client: socket.socket) -> None:
        client.recv(65_536)
        client.sendall(reply)
        while client.recv(65_536):
            pass

    return answer


def silent(client: socket.socket) -> None:
    """Say nothing."""
    while client.recv(65_536):
        pass


def connecting(asked: list[str], to: str = "") -> Answer:
    """Return what an HTTP proxy does: connects where it is told and passes everything on.

    Args:
        asked: Gets what it was told, as `host:port`.
        to: Where it connects instead; empty means as told.
    """

    def answer(client: socket.socket) -> None:
        method, told, _ = client.recv(65_536).decode().split(" ", 2)
        assert method == "CONNECT"
        asked.append(told)
        host, _, port = (to or told).rpartition(":")
        with socket.create_connection((host, int(port))) as member:
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            threading.Thread(target=_pump, args=(member, client), daemon=True).start()
            _pump(client, member)

    return answer


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def nginx(folder: Path, *locations: str) -> Iterator[list[str]]:
    """Run nginx with a server for each location block's content; give their endpoints."""
    ports = [ReservedPort() for _ in locations]
    servers = "\n".join(
        f"server {{ listen 127.0.0.1:{port.number} http2; location / {{ {location} }} }}"
        for port, location in zip(ports, locations, strict=True)
    )
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; events {{ }}\n"
        f"http {{ access_log off; {temporary}\n{servers} }}\n"
    )
    with _running("nginx", "-p", str(folder), "-e", f"{folder}/nginx.log", "-c", str(config), ports=ports):
        yield [f"127.0.0.1:{port.number}" for port in ports]


@contextmanager
def haproxy(folder: Path, backend: str, *, mode: str = "tcp") -> Iterator[str]:
    """Run HAProxy before one endpoint; give its own."""
    port = ReservedPort()
    protocol = " proto h2" if mode == "http" else ""
    config = (
        f"defaults\n mode {mode}\n timeout connect 1s\n timeout client 50s\n timeout server 50s\n"
        f"listen etcd\n bind 127.0.0.1:{port.number}{protocol}\n server a {backend}{protocol}\n"
    )
    with running_haproxy(folder, config, ports=[port]):
        yield f"127.0.0.1:{port.number}"


@contextmanager
def running_haproxy(folder: Path, config: str, *, ports: list[ReservedPort]) -> Iterator[None]:
    """Run HAProxy with a configuration that listens on these ports."""
    file = folder / f"haproxy-{ports[0].number}.cfg"
    file.write_text(config)
    with _running("haproxy", "-db", "-q", "-f", str(file), ports=ports):
        yield


@contextmanager
def _running(program: str, *args: str, ports: list[ReservedPort]) -> Iterator[None]:
    """Run a program while the block lasts, from when its ports are open."""
    # Debian keeps daemons where users do not look; nox unpacks them without installing.
    unpacked = os.environ.get("TIDEOVER_PROXIES_DIR", "")
    path = shutil.which(program, path=os.pathsep.join([unpacked, os.environ["PATH"], "/usr/sbin"]))
    if path is None:
        raise RuntimeError(f"{program} is not here: apt-get install nginx-light haproxy, or run the tests by nox")
    libraries = os.pathsep.join(map(str, Path(unpacked).parent.glob("lib/*-linux-gnu"))) if unpacked else ""
    environment = os.environ | {"LD_LIBRARY_PATH": libraries}
    process = subprocess.Popen(
        [path, *args], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for port in ports:
            _await(port.number, process)
        yield
    finally:
        process.terminate()
        process.wait()


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{process.args!r} does not run") from None
            time.sleep(0.02)
        else:
            return
