from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from deploy import cli
from deploy.local import ports
from deploy.local.home import Home
from deploy.settings import TABLE


@pytest.fixture(autouse=True)
def _own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTANTE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_help_lists_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert [row.variable for row in TABLE if row.variable not in shown] == []


@pytest.mark.parametrize("arguments", [["nonsense"], ["up", "--fast"], ["sync", "--limit", "501"], ["trail"]])
def test_usage_is_2(arguments: list[str]) -> None:
    assert cli.run(arguments) == 2


@pytest.mark.parametrize("command", ["up", "status", "api", "topics", "send"])
def test_an_unknown_setting_is_2_and_named(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RESTANTE_PROT", "8081")
    assert cli.run([command, *(["bob", "hello"] if command == "send" else [])]) == 2
    assert "RESTANTE_PROT" in capsys.readouterr().err


def test_a_role_without_its_settings_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["projector"]) == 2
    assert "RESTANTE_KAFKA, RESTANTE_DATABASE_URL" in capsys.readouterr().err


def test_a_set_port_that_is_taken_is_3_and_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", ports.any_free())) as listening:
        monkeypatch.setenv("RESTANTE_KAFKA", "127.0.0.1:1")
        monkeypatch.setenv("RESTANTE_DATABASE_URL", "postgresql://127.0.0.1:1/x")
        monkeypatch.setenv("RESTANTE_ADMIN_PORT", str(listening.getsockname()[1]))
        assert cli.run(["projector"]) == 3
    assert "RESTANTE_ADMIN_PORT" in capsys.readouterr().err


def test_status_of_nothing_is_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.run(["status", "--json"]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"running": False, "data_dir": str(tmp_path / "data")}
    assert "restante up" in shown.err


def test_up_in_a_directory_that_is_held_is_3(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with Home(tmp_path / "data").held():
        assert cli.run(["up"]) == 3
    assert "runs already" in capsys.readouterr().err


def test_a_service_that_is_away_is_3(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RESTANTE_URL", f"http://127.0.0.1:{ports.any_free()}")
    assert cli.run(["demo"]) == 3
    assert "does not answer" in capsys.readouterr().err


def test_no_service_at_all_is_3() -> None:
    assert cli.run(["sync"]) == 3


def test_nobody_logged_in_is_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RESTANTE_URL", "http://127.0.0.1:1")
    assert cli.run(["send", "bob", "hello"]) == 1
    assert "restante login" in capsys.readouterr().err


def test_kafka_away_is_3(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RESTANTE_DATABASE_URL", f"postgresql://u:hunter2@127.0.0.1:{ports.any_free()}/x")
    assert cli.run(["migrate", "--check"]) == 3
    assert "hunter2" not in capsys.readouterr().err


def test_doctor_says_what_it_could_not_look_at(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["doctor", "--json"]) == 3
    checks = {check["what"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["topics"]["verdict"] == checks["database"]["verdict"] == "unknown"
    assert "RESTANTE_KAFKA" in checks["topics"]["do"]
    assert checks["versions"]["verdict"] == "ok"


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("deploy.commands.service.read_settings", interrupted)
    assert cli.run(["status"]) == 130
