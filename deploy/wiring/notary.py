"""The notary: signs how far the log has come. It reads two topics and one column, and writes to its own directory.

All that it needs: to read and describe `schemas.topics.SIGNED` (no group), to SELECT topic, partition, next_offset and chain
of the projection's `offsets` and what `live()` reads, its key, and its directory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import structlog

from deploy.admin import admin_app
from deploy.errors import Misconfigured
from deploy.foundation import connection, require_admission, require_strong_log
from deploy.serving import served, told_to_stop, until
from deploy.settings import Settings
from deploy.wiring import process
from producers.notary import Notary
from producers.recorded import LogReader
from producers.register import Register
from producers.signing import KeyRefused, Signer
from projections.chains import projected_chains
from projections.database import Database
from projections.errors import ProjectionsError
from schemas.chain import Link
from schemas.topics import SIGNED

_PATIENCE_SECONDS: Final = 10.0
_LAST_ROUND_SECONDS: Final = 1.5

_log = structlog.get_logger(__name__)


def run_notary(settings: Settings, admin_port: int) -> None:
    """Sign until told to stop."""
    process.run(_notary(settings, admin_port))


async def _notary(settings: Settings, admin_port: int) -> None:
    assert settings.database_url
    kafka, signer = connection(settings), _signer(settings)
    with told_to_stop() as stop:
        await require_strong_log(settings)
        await require_admission(settings)
        async with Database(settings.database_url) as database:
            notary = Notary(
                lambda: Register(settings.notary_dir, signer),
                lambda topic: LogReader(kafka, topic, patience=_PATIENCE_SECONDS),
                lambda: _projected(database),
                SIGNED,
                clock=time.time,
            )
            admin = admin_app(lambda: [notary.away] if notary.away else [], lambda: notary.findings)
            async with served(admin, settings.admin_host, admin_port, "RESTANTE_ADMIN_PORT") as serving:
                last = asyncio.Event()
                signing = asyncio.create_task(notary.run(last), name="signing")
                try:
                    await until(stop, serving, signing)
                    last.set()
                    await asyncio.wait({signing}, timeout=_LAST_ROUND_SECONDS)
                finally:
                    signing.cancel()
                    with suppress(asyncio.CancelledError):
                        await signing


async def _projected(database: Database) -> Mapping[tuple[str, int], Link]:
    """Nothing while PostgreSQL is away: signing does not wait for it."""
    try:
        return await projected_chains(database)
    except ProjectionsError as error:
        _log.warning("notary_compares_nothing", error=str(error))
        return {}


def _signer(settings: Settings) -> Signer:
    assert settings.notary_key
    try:
        return Signer.read(settings.notary_key)
    except KeyRefused as error:
        raise Misconfigured(f"RESTANTE_NOTARY_KEY: {error}. Give an Ed25519 private key in PEM (PKCS #8)") from error
