"""The processor: decides, for each stored message, push or PendingSync."""

from __future__ import annotations

import asyncio
from pathlib import Path

from deploy.admin import admin_app
from deploy.errors import DeployError
from deploy.foundation import connection, require_strong_log
from deploy.serving import served, told_to_stop, until
from deploy.settings import Settings
from deploy.wiring import process
from processors import worker
from processors.app import Options
from processors.health import Health
from producers.apart import PushesApart
from producers.kafka_tail import KafkaTail
from schemas.topics import GATEWAYS


def run_processor(settings: Settings, admin_port: int) -> None:
    """Decide until told to stop."""
    process.run(_processor(settings, admin_port))


async def _processor(settings: Settings, admin_port: int) -> None:
    kafka, health = connection(settings), Health()
    options = Options(
        client_options=kafka.client_options(),
        producer=process.producer("processor"),
        partitions=settings.partitions,
        data_dir=_directory(settings, admin_port),
        instance_id=process.instance(admin_port),
        lease_seconds=settings.gateway_lease,
    )
    with told_to_stop() as stop:
        await require_strong_log(settings)
        async with (
            PushesApart(kafka) as log,
            KafkaTail(kafka, GATEWAYS, start="beginning") as leases,
            served(admin_app(lambda: health.reasons), settings.admin_host, admin_port, "RESTANTE_ADMIN_PORT") as admin,
        ):
            deciding = asyncio.create_task(worker.run(options, log, leases, health, stop), name="deciding")
            await until(stop, admin, deciding)
            await deciding


def _directory(settings: Settings, admin_port: int) -> Path:
    """Faust makes its own directory, but none above it."""
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DeployError(
            f"{settings.data_dir} cannot be made: {error}. Set RESTANTE_DATA_DIR to a place that may be written"
        ) from error
    return settings.data_dir / f"processor-{admin_port}"
