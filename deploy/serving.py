"""Uvicorn in our own event loop: the API's server, and the small one of the admin port."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn

from api.sockets import Connection
from deploy.errors import DeployError

_DRAIN_SECONDS = 4


class _Server(uvicorn.Server):
    """Without its own signal handlers: the role decides what a signal ends, and in which order."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server(app: Any, host: str, port: int) -> uvicorn.Server:
    """A server for an ASGI app, not started. Its WebSockets (`api.sockets`) neither ping nor time out by themselves."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="none",
        http="httptools",
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
    )
    return _Server(config)


@asynccontextmanager
async def served(app: Any, host: str, port: int, variable: str) -> AsyncIterator[asyncio.Task[None]]:
    """Serve an ASGI app. On the way out: accept no more, let running requests finish (4 s at most), close.

    Gives the server's task, which ends early only where it fails. DeployError names `variable` where the port is taken.
    """
    serving = server(app, host, port)
    task = asyncio.create_task(_serve(serving, host, port, variable), name=f"serve {variable}")
    try:
        await _listening(serving, task)
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
    except SystemExit as error:  # that is how uvicorn says that it cannot start
        raise DeployError(
            f"{variable}: port {port} on {host} cannot be served, see above. Stop what listens there, or set another"
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
