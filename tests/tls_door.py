"""TLS in front of a PostgreSQL that was built without it: answers the client's SSLRequest and passes on what is inside."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from deploy.local import ports

_SSL_REQUEST = bytes([0, 0, 0, 8, 4, 210, 22, 47])


@contextmanager
def tls_door(context: ssl.SSLContext, host: str, port: int) -> Iterator[int]:
    """The port of the door, on 127.0.0.1, in a thread of its own until the end of the block."""
    ready, stop, at = threading.Event(), asyncio.Event(), ports.any_free()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        passing: set[asyncio.Task[None]] = set()

        async def opened(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task
            passing.add(task)
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await _pass(reader, writer, context, host, port)
            writer.close()
            passing.discard(task)

        async with await asyncio.start_server(opened, "127.0.0.1", at):
            ready.set()
            await stop.wait()
            for task in passing:
                task.cancel()
            if passing:
                await asyncio.wait(passing)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    ready.wait(10)
    try:
        yield at
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext, host: str, port: int
) -> None:
    if await reader.readexactly(8) != _SSL_REQUEST:
        return  # in clear: not through this door
    writer.write(b"S")
    await writer.drain()
    await writer.start_tls(context)
    inner_reader, inner_writer = await asyncio.open_connection(host, port)
    both = {asyncio.create_task(_pump(reader, inner_writer)), asyncio.create_task(_pump(inner_reader, writer))}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in both:
            one.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        inner_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while read := await reader.read(65_536):
        writer.write(read)
        await writer.drain()
