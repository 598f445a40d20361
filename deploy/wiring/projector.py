"""The projector: folds the log into PostgreSQL, facts and receipts side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

from deploy.admin import admin_app
from deploy.foundation import connection, require_admission, require_strong_log
from deploy.serving import served, told_to_stop, until
from deploy.settings import Settings
from deploy.wiring import process
from producers.connection import KafkaConnection
from producers.kafka import KafkaLog
from producers.recorded import LogReader
from projections.conservation import Counting
from projections.database import Database
from projections.folds import FACTS, TOLD
from projections.runner import Projector
from projections.source import GROUP, RECEIPTS_GROUP, KafkaSource


def run_projector(settings: Settings, admin_port: int) -> None:
    """Fold until told to stop."""
    process.run(_projector(settings, admin_port))


async def _projector(settings: Settings, admin_port: int) -> None:
    assert settings.database_url
    kafka, name, instance = connection(settings), process.producer("projector"), process.instance(admin_port)
    with told_to_stop() as stop:
        await require_strong_log(settings)
        await require_admission(settings)
        async with KafkaLog(kafka) as log, Database(settings.database_url) as database:
            projectors = [
                Projector(
                    KafkaSource(kafka.client_options(), group=group, topic=fold.topic, instance=instance),
                    database,
                    log.append,
                    fold=fold,
                    topic_id=await _id_of(kafka, fold.topic),
                    name=name,
                )
                for fold, group in ((FACTS, GROUP), (TOLD, RECEIPTS_GROUP))
            ]
            admin = admin_app(lambda: _reasons(projectors))
            async with served(admin, settings.admin_host, admin_port, "RESTANTE_ADMIN_PORT") as serving:
                folding = [asyncio.create_task(one.run(), name="folding") for one in projectors]
                counting = Counting(database, lambda: projectors[0].has(0))  # one of several projectors has it
                folding.append(asyncio.create_task(counting.run(), name="counting"))
                try:
                    await until(stop, serving, *folding)
                finally:
                    for task in folding:
                        task.cancel()
                    await asyncio.gather(*folding, return_exceptions=True)


async def _id_of(kafka: KafkaConnection, topic: str) -> UUID:
    async with LogReader(kafka, topic) as reader:
        return reader.topic_id


def _reasons(projectors: Sequence[Projector]) -> list[str]:
    if all(projector.folding for projector in projectors):
        return []
    return ["the projector does not read and write: it starts, or Kafka or PostgreSQL is away"]
