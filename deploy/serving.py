"""Uvicorn in our own event loop: the API's server, and the small one of the admin port."""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from functools import partial
from typing import Any, cast

import uvicorn

from api import bounds
from api.connections import Doors, HttpConnection
from api.proxies import Proxies
from api.sockets import Connection
from deploy.errors import DeployError
from deploy.tls import Certificate

_DRAIN_SECONDS = 4
_OTHER_FILES = 256
"""Files of a process that are no callers' connections."""


class Server(uvicorn.Server):
    """Without its own signal handlers: the role decides what a signal ends, and in which order. Looks at its connections
    once a second, and gives TLS handshakes no longer than `bounds` says."""

    def __init__(self, config: uvicorn.Config, doors: Doors) -> None:
        super().__init__(config)
        self.doors = doors

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        config = self.config
        make = partial(cast(Any, config.http_protocol_class), config, self.server_state, self.lifespan.state)
        secure: dict[str, Any] = {}
        if config.ssl is not None:
            secure = {"ssl": config.ssl, "ssl_handshake_timeout": bounds.HANDSHAKE_SECONDS, "ssl_shutdown_timeout": 2.0}
        where: list[dict[str, Any]] = [{"sock": one} for one in sockets or ()]
        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(make, backlog=config.backlog, **one, **secure)
            for one in where or [{"host": config.host, "port": config.port}]
        ]
        self.started = True

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:
            self.doors.look(self.server_state.connections)
        return await super().on_tick(counter)


def server(app: Any, host: str, port: int, *, proxies: Proxies | None = None, tls: ssl.SSLContext | None = None) -> Server:
    """A server for an ASGI app, not started. Its WebSockets (`api.sockets`) neither ping nor time out by themselves."""
    doors = Doors(_most_connections(), proxies)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="none",
        http=cast(type[asyncio.Protocol], partial(HttpConnection, doors=doors)),
        ws=Connection,
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        lifespan="off",
        access_log=False,
        proxy_headers=False,  # uvicorn would believe this machine; `api.proxies` believes whom the operator named
        log_config=None,
        server_header=False,
        date_header=True,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
        ssl_context_factory=(lambda config, default: tls) if tls else None,
    )
    return Server(config, doors)


def _most_connections() -> int:
    """As many as `bounds` says, or as the system lets this process have files; it takes all that it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return bounds.CONNECTIONS if allowed < 0 else min(bounds.CONNECTIONS, max(1, allowed - _OTHER_FILES))


@asynccontextmanager
async def served(
    app: Any,
    host: str,
    port: int,
    variable: str,
    *,
    proxies: Proxies | None = None,
    certificate: Certificate | None = None,
) -> AsyncIterator[asyncio.Task[None]]:
    """Serve an ASGI app. On the way out: accept no more, let running requests finish (4 s at most), close.

    Gives the server's task, which ends early only where it fails. DeployError names `variable` where the port is taken.
    """
    serving = server(app, host, port, proxies=proxies, tls=certificate.context if certificate else None)
    task = asyncio.create_task(_serve(serving, host, port, variable), name=f"serve {variable}")
    try:
        await _listening(serving, task)
        async with certificate.followed() if certificate else nullcontext():
            yield task
    finally:
        serving.should_exit = True
        await task


async def _listening(server: uvicorn.Server, task: asyncio.Task[None]) -> None:
    while not server.started:  # uvicorn has no event for it
        if task.done():
            await task
            return
        await asyncio.sleep(0.01)


async def _serve(server: uvicorn.Server, host: str, port: int, variable: str) -> None:
    try:
        await server.serve()
    except OSError as error:
        raise DeployError(
            f"{variable}: port {port} on {host} cannot be served ({error}). Stop what listens there, or set another"
        ) from error


@contextmanager
def told_to_stop() -> Iterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set, in the loop that runs."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def until(stop: asyncio.Event, *working: asyncio.Task[Any]) -> None:
    """Wait for the event; what works meanwhile must not end before it: its error is raised."""
    asked = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait({asked, *working}, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {asked}:
            if not task.cancelled():
                task.result()
            raise DeployError(f"{task.get_name()} ended by itself. Look at the lines above, then start again")
    finally:
        asked.cancel()
