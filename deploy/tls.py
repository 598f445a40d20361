"""HTTPS with a certificate of our own, which may be renewed while we serve."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog

from deploy.errors import Misconfigured

LOOK_SECONDS: Final = 30.0
"""A renewed certificate is in use for new connections after so long."""

_log = structlog.get_logger("restante.deploy")


class Certificate:
    """A certificate with its chain, and its key, both files in PEM. Misconfigured (exit 2) where they will not do."""

    def __init__(self, chain: Path, key: Path) -> None:
        self._chain = chain
        self._key = key
        self._seen = self._look()
        try:
            self.context = self._read()
        except (OSError, ssl.SSLError) as error:
            raise Misconfigured(
                f"RESTANTE_TLS_CERT and RESTANTE_TLS_KEY: {chain} and {key} are no certificate with its key ({error})"
            ) from error

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """Meanwhile, take the files anew when they have changed. A pair that will not do is told, and the old one stays."""
        task = asyncio.create_task(self._follow(), name="certificate")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            seen = await asyncio.to_thread(self._look)
            if seen != self._seen:
                self._seen = seen
                self._take()

    def _take(self) -> None:
        try:
            self._read()
            self.context.load_cert_chain(self._chain, self._key, _no_password)
        except (OSError, ssl.SSLError) as error:
            _log.error("certificate_not_renewed", error=str(error))
        else:
            _log.info("certificate_renewed")

    def _read(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(self._chain, self._key, _no_password)
        return context

    def _look(self) -> list[tuple[int, int, int] | None]:
        """What changes when the files do; a file that is away for a moment is a change, too."""
        found: list[tuple[int, int, int] | None] = []
        for file in (self._chain, self._key):
            try:
                status = file.stat()
            except OSError:
                found.append(None)
            else:
                found.append((status.st_ino, status.st_mtime_ns, status.st_size))
        return found


def _no_password() -> str:
    """An encrypted key would be asked for on a terminal that nobody sits at."""
    raise ssl.SSLError("the key is encrypted; give one that is not, readable by the service only")


def trust(ca: Path | None) -> ssl.SSLContext:
    """How a client checks a service: against these certificates, or the system's. Misconfigured (exit 2) for a bad file."""
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(f"RESTANTE_URL_CA: {ca} holds no certificates ({error}). Correct the path") from error
