"""The keys of the API: read at its start, and followed as their files change, so that a rotation needs no restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog

from api.app import Service
from api.secrets import Secrets, SecretsError
from deploy.errors import Misconfigured
from deploy.settings import Settings, read_again
from schemas.metrics import KEY_FILES_TIME

EVERY_SECONDS: Final = 1.0
_KEYS: Final = ("token_key", "cursor_keys", "master_key")
_log = structlog.get_logger("restante.deploy")


def secrets_of(settings: Settings) -> Secrets:
    """The keys that the settings hold. Misconfigured names the variables where one will not do."""
    assert settings.cursor_keys and settings.master_key
    token_key = None if settings.oidc_issuer else settings.token_key
    try:
        return Secrets.read(token_key=token_key, cursor_keys=settings.cursor_keys, master_key=settings.master_key)
    except SecretsError as error:
        raise Misconfigured(f"RESTANTE_TOKEN_KEY, RESTANTE_CURSOR_KEYS, RESTANTE_MASTER_KEY: {error}") from error


def _changed_at(settings: Settings) -> float:
    """When the newest key file was changed (Unix time); 0 without key files."""
    try:
        return max((file.stat().st_mtime for name, file in settings.secret_files.items() if name in _KEYS), default=0.0)
    except OSError as error:
        raise Misconfigured(f"a key file cannot be read ({error.strerror})") from error


@asynccontextmanager
async def key_files_followed(settings: Settings, service: Service) -> AsyncIterator[asyncio.Task[None]]:
    """Give the service the keys of the files whenever these change. A file that will not do changes nothing: the process
    goes on with the keys that it has, and its log says so once. Gives the task that does it."""
    task = asyncio.create_task(_follow(settings, service), name="key files")
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _follow(settings: Settings, service: Service) -> None:
    wrong, known = "", settings
    while True:
        try:
            changed, fresh = await asyncio.to_thread(_read, settings)
            if fresh != known:
                service.use(secrets_of(fresh))
                _log.info("keys_changed")
            wrong, known = "", fresh
            KEY_FILES_TIME.set(changed)
        except Misconfigured as error:
            if str(error) != wrong:
                _log.error("keys_not_changed", error=str(error))
            wrong = str(error)
        await asyncio.sleep(EVERY_SECONDS)


def _read(settings: Settings) -> tuple[float, Settings]:
    changed = _changed_at(settings)  # first: what is written after this look is seen by the next
    return changed, read_again(settings, *_KEYS)
