"""The API follows its key files, and goes on with what it has where one of them will not do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from api.app import Service
from api.secrets import Secrets, make_key, make_token_key
from deploy.local.home import write_whole
from deploy.settings import read_settings
from deploy.wiring import keys
from schemas.metrics import KEY_FILES_TIME
from tests.eventually import eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Using:
    """Stands where the service is, and keeps what it is given."""

    def __init__(self) -> None:
        self.given: list[Secrets] = []

    def use(self, secrets: Secrets) -> None:
        self.given.append(secrets)


async def test_keys_follow_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "EVERY_SECONDS", 0.01)
    file, first, second = tmp_path / "cursor-keys", make_key(), make_key()
    write_whole(file, first)
    settings = read_settings(
        {
            "RESTANTE_TOKEN_KEY": make_token_key(),
            "RESTANTE_MASTER_KEY": make_key(),
            "RESTANTE_CURSOR_KEYS_FILE": str(file),
        }
    )
    using = Using()

    def in_force() -> bool:
        return bool(KEY_FILES_TIME.collect()[0].samples[0].value == file.stat().st_mtime)

    with capture_logs() as lines:
        async with keys.key_files_followed(settings, cast(Service, cast(Any, using))) as following:
            await eventually(in_force)
            assert using.given == []
            write_whole(file, "no key")
            await eventually(lambda: lines)
            file.unlink()
            await eventually(lambda: len(lines) == 2)
            write_whole(file, f"{second},{first}")
            os.utime(file, (2_000_000_000, 2_000_000_000))
            await eventually(in_force)
            assert not following.done()
    (given,) = using.given
    assert len(given.cursor_keys) == 2
    assert [line["event"] for line in lines] == ["keys_not_changed", "keys_not_changed", "keys_changed"]
    assert "no key" not in str(lines)
