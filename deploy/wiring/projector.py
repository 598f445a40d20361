"""The projector: folds the log into PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib

from deploy.admin import admin_app
from deploy.foundation import connection, require_strong_log
from deploy.serving import served, told_to_stop, until
from deploy.settings import Settings
from deploy.wiring import process
from producers.kafka import KafkaLog
from projections.database import Database
from projections.runner import Projector
from projections.source import KafkaSource


def run_projector(settings: Settings, admin_port: int) -> None:
    """Fold until told to stop."""
    process.run(_projector(settings, admin_port))


async def _projector(settings: Settings, admin_port: int) -> None:
    assert settings.database_url
    kafka = connection(settings)
    source = KafkaSource(kafka.client_options(), instance=process.instance(admin_port))
    with told_to_stop() as stop:
        await require_strong_log(settings)
        async with KafkaLog(kafka) as log, Database(settings.database_url) as database:
            projector = Projector(source, database, log.append, name=process.producer("projector"))
            admin = admin_app(lambda: _reasons(projector))
            async with served(admin, settings.admin_host, admin_port, "RESTANTE_ADMIN_PORT") as serving:
                folding = asyncio.create_task(projector.run(), name="folding")
                try:
                    await until(stop, serving, folding)
                finally:
                    folding.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await folding


def _reasons(projector: Projector) -> list[str]:
    return [] if projector.folding else ["the projector does not read and write: it starts, or Kafka or PostgreSQL is away"]
