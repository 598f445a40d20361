"""`restante keys` in a data directory where nothing runs, and where the keys are set from outside."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from api.secrets import make_key, make_token_key, read_token_keys
from deploy import cli
from deploy.settings import read_again, read_settings


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESTANTE_DATA_DIR", str(tmp_path))
    made = tmp_path / "secrets"
    made.mkdir()
    (made / "token-key").write_text(make_token_key() + "\n")
    (made / "cursor-keys").write_text(make_key() + "\n")
    (made / "master-key").write_text(make_key() + "\n")
    return made


def test_a_new_token_key_goes_in_front_of_the_old_one(secrets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (old,) = read_token_keys((secrets / "token-key").read_text())
    assert cli.run(["keys", "rotate", "token", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"kind": "token", "keys": 2}
    new, kept = read_token_keys((secrets / "token-key").read_text())
    assert kept.private_bytes_raw() == old.private_bytes_raw() != new.private_bytes_raw()
    assert (secrets / "token-key").stat().st_mode & 0o077 == 0


def test_a_new_cursor_key_goes_in_front_and_none_is_ever_taken_out(
    secrets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = (secrets / "cursor-keys").read_text().strip()
    for _ in range(2):
        assert cli.run(["keys", "rotate", "cursor"]) == 0
    kept = (secrets / "cursor-keys").read_text().strip().split(",")
    assert (len(set(kept)), kept[-1]) == (3, first)
    assert cli.run(["keys", "retire", "cursor"]) == 1
    assert "for ever" in capsys.readouterr().err


def test_an_old_token_key_stays_as_long_as_its_tokens_live(secrets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = secrets / "token-key"
    assert cli.run(["keys", "rotate", "token"]) == 0
    assert cli.run(["keys", "retire", "token"]) == 1
    assert "--now" in capsys.readouterr().err
    new, _ = read_token_keys(file.read_text())
    long_ago = time.time() - 1000
    os.utime(file, (long_ago, long_ago))
    assert cli.run(["keys", "retire", "token"]) == 0
    assert [key.private_bytes_raw() for key in read_token_keys(file.read_text())] == [new.private_bytes_raw()]
    assert cli.run(["keys", "rotate", "token"]) == 0
    assert cli.run(["keys", "retire", "token", "--now"]) == 0
    assert len(read_token_keys(file.read_text())) == 1


@pytest.mark.parametrize(("which", "variable"), [("token", "TOKEN_KEY"), ("cursor", "CURSOR_KEYS")])
def test_keys_that_are_set_are_the_operators(
    which: str, variable: str, secrets: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file.name: file.read_text() for file in secrets.iterdir()}
    monkeypatch.setenv(f"RESTANTE_{variable}", make_token_key() if which == "token" else make_key())
    assert cli.run(["keys", "rotate", which]) == 1
    said = capsys.readouterr().err
    assert f"RESTANTE_{variable}" in said
    assert "docs/operating.md" in said
    assert {file.name: file.read_text() for file in secrets.iterdir() if not file.name.startswith(".")} == before


def test_without_a_database_the_master_key_stays(secrets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (secrets / "master-key").read_text()
    for command in ("rotate", "retire"):
        assert cli.run(["keys", command, "master"]) in (0, 2)
    assert "RESTANTE_DATABASE_URL" in capsys.readouterr().err
    assert (secrets / "master-key").read_text() == before


def test_a_broken_key_file_is_left_alone(secrets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (secrets / "cursor-keys").write_text("no key")
    assert cli.run(["keys", "rotate", "cursor"]) == 3
    assert "backup" in capsys.readouterr().err
    assert (secrets / "cursor-keys").read_text() == "no key"


def test_where_up_has_never_been_there_is_nothing_to_rotate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RESTANTE_DATA_DIR", str(tmp_path / "none"))
    assert cli.run(["keys", "rotate", "token"]) == 1
    assert "RESTANTE_DATA_DIR" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("which", ["token", "cursor", "master"])
def test_new_keys_are_printed(which: str, capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for _ in range(2):
        assert cli.run(["keys", "new", which]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] != printed[1]
    assert printed[0].startswith("-----BEGIN PRIVATE KEY-----\n") == (which == "token")


def test_a_process_reads_its_key_files_again(secrets: Path) -> None:
    settings = read_settings({"RESTANTE_CURSOR_KEYS_FILE": str(secrets / "cursor-keys"), "RESTANTE_MASTER_KEY": make_key()})
    assert cli.run(["keys", "rotate", "cursor"]) == 0
    again = read_again(settings, "cursor_keys", "master_key")
    assert again.cursor_keys == (secrets / "cursor-keys").read_text().strip() != settings.cursor_keys
    assert again.master_key == settings.master_key
