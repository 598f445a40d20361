"""What a service stands on: topics and tables, made or compared."""

from __future__ import annotations

from deploy.errors import DeployError, Refused
from deploy.settings import Settings
from producers.connection import KafkaConnection
from producers.log import ProducersError
from producers.topics import WeakLog, create_topics, refuse_weak, verify_topics
from projections.errors import ProjectionsError
from projections.migrate import migrate, pending_migrations
from projections.refusals import refused


def connection(settings: Settings) -> KafkaConnection:
    """Where Kafka is and how to speak to it. DeployError where a certificate file cannot be used."""
    assert settings.kafka
    try:
        options = settings.kafka_security.client_options()
    except OSError as error:
        raise DeployError(
            f"a file of RESTANTE_KAFKA_SSL_* cannot be used: {error}. Correct its path, rights or content"
        ) from error
    return KafkaConnection(bootstrap=settings.kafka, security=options)


async def lay_out(settings: Settings) -> None:
    """Create topics and tables and refuse a log that is weaker than the promise. DeployError (exit 3) says what is wrong."""
    try:
        await create_topics(connection(settings), partitions=settings.partitions)
        await refuse_weak(connection(settings), partitions=settings.partitions)
        await migrate(_database(settings))
    except (ProducersError, ProjectionsError) as error:
        raise DeployError(str(error)) from error


async def make_topics(settings: Settings) -> list[str]:
    """Create the topics that are missing, and give their names."""
    try:
        return await create_topics(connection(settings), partitions=settings.partitions)
    except ProducersError as error:
        raise DeployError(str(error)) from error


async def topic_findings(settings: Settings) -> list[str]:
    """Every way in which the live topics are weaker than the table, a sentence each. Changes nothing."""
    try:
        return [str(drift) for drift in await verify_topics(connection(settings), partitions=settings.partitions)]
    except ProducersError as error:
        raise DeployError(str(error)) from error


async def require_strong_log(settings: Settings) -> None:
    """Refuse (exit 1) a log that could lose what we promise to keep; DeployError (exit 3) where Kafka does not answer."""
    try:
        await refuse_weak(connection(settings), partitions=settings.partitions)
    except WeakLog as error:
        raise Refused(f"{error}\nRun `restante topics` for what is missing; alter in Kafka what is weaker") from error
    except ProducersError as error:
        raise DeployError(str(error)) from error


async def require_admission(settings: Settings) -> None:
    """DeployError (exit 3) where PostgreSQL does not let us in and says so. One that is away is waited for, not refused."""
    if reason := await refused(_database(settings)):
        raise DeployError(reason)


async def make_tables(settings: Settings) -> list[str]:
    """Run the migrations that are pending, and give their names."""
    try:
        return await migrate(_database(settings))
    except ProjectionsError as error:
        raise DeployError(str(error)) from error


async def tables_missing(settings: Settings) -> list[str]:
    """The migrations that `make_tables` would run."""
    try:
        return await pending_migrations(_database(settings))
    except ProjectionsError as error:
        raise DeployError(str(error)) from error


def _database(settings: Settings) -> str:
    assert settings.database_url
    return settings.database_url
