"""`up`, `status`, `api`, `processor`, `projector`, `notary`: the service itself.

What a command is made of (Kafka's client, Faust, Starlette) is imported where it runs, so that the others start fast.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from deploy.commands.screen import Waiting, out, say, show_json, show_table
from deploy.errors import DeployError, Refused
from deploy.local.home import Home
from deploy.local.ports import choose
from deploy.local.role import bracketed, health_path, http_status
from deploy.settings import ROLES, Role, Settings, given_settings, machine_environment, read_settings, require

Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of a table, for programs.")]


def up() -> None:
    """Run everything on this machine: Kafka, PostgreSQL, processor, projector, notary, API. Ctrl-C stops it, data stay."""
    from deploy.foundation import lay_out
    from deploy.local.up import Up
    from deploy.logs import configure

    settings = read_settings(given_settings())
    configure(settings.log_level, role="up")
    service = Up(settings, given_settings(), machine_environment(), say, Waiting(), lay_out)
    raise typer.Exit(asyncio.run(service.run()))


def status(as_json: Json = False) -> None:
    """Say what runs in the data directory and where, and whether it is well. Exit 1 where it is not."""
    settings = read_settings(given_settings())
    published = Home(settings.data_dir).published()
    if published is None:
        if as_json:
            show_json({"running": False, "data_dir": str(settings.data_dir)})
        raise Refused(f"nothing runs in {settings.data_dir}. Start it with `restante up`, or set RESTANTE_DATA_DIR")
    health = asyncio.run(_health(published))
    if as_json:
        show_json({"running": True, **published, "ready": health})
    else:
        rows = [("service", published["url"]), ("Kafka", published["kafka"]), ("data", published["data_dir"])]
        rows += [(role, f"{published['admin'][role]}  {'ready' if health[role] else 'NOT WELL'}") for role in ROLES]
        show_table(("what", "where"), rows)
        out.print("The database's address is in up.json: it holds the password.")
    if not all(health.values()):
        raise Refused(
            f"not well: {', '.join(role for role in ROLES if not health[role])}. GET /health on the admin port says why; "
            f"logs are in {settings.data_dir}/logs"
        )


async def _health(published: dict[str, Any]) -> dict[str, bool]:
    async def ready(role: Role) -> bool:
        host, _, port = published["admin"][role].removeprefix("http://").rpartition(":")
        return await http_status(host.strip("[]"), int(port), health_path(role)) == 200

    return dict(zip(ROLES, await asyncio.gather(*(ready(role) for role in ROLES)), strict=True))


def api() -> None:
    """Run the API alone, for deployments: HTTP, WebSocket and web page."""
    settings, admin = _settings_of("api")
    port = choose(settings.host, settings.port, frozenset({admin}))
    scheme = "http" if settings.tls_cert is None else "https"
    _tell(settings, admin, url=f"{scheme}://{bracketed(settings.host)}:{port}")
    from deploy.wiring.api import run_api

    with _end_logged():
        run_api(settings, port, admin)


def processor() -> None:
    """Run one processor alone: it decides push or PendingSync. Run as many as there are cores for it."""
    settings, admin = _settings_of("processor")
    _tell(settings, admin)
    from deploy.wiring.processor import run_processor

    with _end_logged():
        run_processor(settings, admin)


def projector() -> None:
    """Run one projector alone: it folds the log into PostgreSQL. Several share the partitions."""
    settings, admin = _settings_of("projector")
    _tell(settings, admin)
    from deploy.wiring.projector import run_projector

    with _end_logged():
        run_projector(settings, admin)


def notary() -> None:
    """Run the notary alone: it signs how far the log has come; `restante verify` then notices any change."""
    settings, admin = _settings_of("notary")
    _tell(settings, admin)
    from deploy.wiring.notary import run_notary

    with _end_logged():
        run_notary(settings, admin)


@contextmanager
def _end_logged() -> Iterator[None]:
    """Why a role ends goes into its log as a line like the others, where nobody sits at a terminal."""
    import structlog

    try:
        yield
    except DeployError as error:
        if sys.stderr.isatty():
            raise
        _log = structlog.get_logger("restante.deploy")
        _log.error("ended", error=str(error))
        raise typer.Exit(error.exit_code) from error


def _tell(settings: Settings, admin: int, url: str | None = None) -> None:
    """The first line of a role's log."""
    import structlog

    _log = structlog.get_logger("restante.deploy")
    _log = _log if url is None else _log.bind(url=url)
    _log.info("starting", admin_url=f"http://{bracketed(settings.admin_host)}:{admin}")


def _settings_of(role: Role) -> tuple[Settings, int]:
    """The settings, all there that the role needs, and its admin port."""
    from deploy.logs import configure

    settings = read_settings(given_settings())
    require(settings, role)
    configure(settings.log_level, role=role)
    return settings, choose(settings.admin_host, settings.admin_port_of(role))


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (up, status, api, processor, projector, notary):
        app.command()(command)
