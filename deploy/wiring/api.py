"""The API: HTTP and WebSocket, in front of the log and the projection."""

from __future__ import annotations

from api.app import Parts, Service, create_admin_app, create_app
from api.gateway import StreamOptions
from api.health import Phase
from api.limits import Limits
from api.proxies import Proxies
from api.web import Web
from deploy.foundation import connection, require_admission, require_strong_log
from deploy.processor_group import ProcessorGroup
from deploy.serving import served, told_to_stop, until
from deploy.settings import Settings, is_loopback
from deploy.tls import Certificate
from deploy.wiring import process
from deploy.wiring.keys import key_files_followed, secrets_of
from deploy.wiring.provider import outside_of
from producers.kafka_tail import KafkaTail
from producers.stripes import StripedLog
from projections.database import Database
from projections.progress import Progress
from projections.reads import Reads
from schemas.topics import PUSH


def run_api(settings: Settings, port: int, admin_port: int) -> None:
    """Serve `port` until told to stop; then sessions and running requests end, and the log and the pools are closed."""
    process.run(_api(settings, port, admin_port))


async def _api(settings: Settings, port: int, admin_port: int) -> None:
    assert settings.database_url
    kafka, keys, phase = connection(settings), secrets_of(settings), Phase()
    certificate = Certificate(settings.tls_cert, settings.tls_key) if settings.tls_cert and settings.tls_key else None
    with told_to_stop() as stop:
        await require_strong_log(settings)
        await require_admission(settings)
        async with (
            StripedLog(kafka) as log,
            Database(settings.database_url) as database,
            Progress(settings.database_url) as progress,
            ProcessorGroup(kafka, log) as processors,
        ):
            parts = Parts(
                log=log,
                database=database,
                reads=Reads(database),
                progress=progress,
                secrets=keys,
                processor_lag=processors,
                committed=processors.committed,
                producer=process.producer("api"),
                gateway=process.gateway(),
                pushes=lambda partition: KafkaTail(kafka, PUSH, partition=partition, start="end"),
                stream=StreamOptions(
                    ack_timeout=settings.ack_timeout, heartbeat=settings.heartbeat, lease=settings.gateway_lease
                ),
                access_ttl=settings.access_ttl,
                refresh_ttl=settings.refresh_ttl,
                limits=Limits(on=settings.rate_limits),
                mailbox_quota=settings.mailbox_quota,
                mailbox_bytes=settings.mailbox_bytes,
                signup=settings.signup == "open",
                outside=outside_of(settings),
                public_url=settings.public_url,
                docs=settings.docs,
                web=_web(settings),
                phase=phase,
            )
            async with (
                Service(parts) as service,
                key_files_followed(settings, service) as following,
                served(create_admin_app(service), settings.admin_host, admin_port, "RESTANTE_ADMIN_PORT") as admin,
                served(
                    create_app(service),
                    settings.host,
                    port,
                    "RESTANTE_PORT",
                    proxies=parts.web.proxies,
                    certificate=certificate,
                ) as public,
            ):
                try:
                    await until(stop, admin, public, service.gateway.working, following)
                finally:
                    await service.end_sessions()


def _web(settings: Settings) -> Web:
    """On a loopback address only names that nobody on the web has are served, unless told otherwise: a page of another site
    could reach us by its own name (DNS rebinding)."""
    hosts, local = settings.allowed_hosts, is_loopback(settings.host)
    known = hosts is not None or settings.public_url is not None
    return Web(
        hosts=None if hosts == ("*",) or not (known or local) else hosts or (),
        bare=not known,
        origins=settings.cors_origins,
        public_url=settings.public_url,
        proxies=Proxies(settings.trusted_proxies),
    )
