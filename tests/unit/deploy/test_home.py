from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.errors import DeployError
from deploy.local.child import started_at
from deploy.local.home import Home, write_whole
from tests.eventually import soon


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "data")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as process:
        yield process
        process.kill()


def test_one_up_a_directory(home: Home) -> None:
    with home.held(), pytest.raises(DeployError, match=rf"runs already .*process {os.getpid()}") as refusal, home.held():
        raise AssertionError("held twice")
    assert refusal.value.exit_code == 3


def test_a_directory_that_was_let_go_can_be_held_again(home: Home) -> None:
    with home.held():
        pass
    with home.held():
        assert home.is_held()
    assert not home.is_held()


def test_a_kill_lets_go_of_the_directory(home: Home) -> None:
    code = "import signal, sys; from pathlib import Path; from deploy.local.home import Home\n"
    code += "with Home(Path(sys.argv[1])).held(): print('held', flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", code, str(home.path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        assert home.is_held()
        holder.kill()
    with home.held():
        pass


def test_a_directory_that_cannot_be_made_says_which_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeployError, match="RESTANTE_DATA_DIR"), Home(tmp_path / "file" / "data").held():
        raise AssertionError("held")


def test_a_secret_is_made_once_and_private(home: Home) -> None:
    with home.held():
        first = home.secret("key", lambda: "one").read_text()
        again = home.secret("key", lambda: "two")
    assert first == again.read_text() == "one\n"
    assert again.stat().st_mode & 0o777 == 0o600
    assert home.secrets.stat().st_mode & 0o777 == 0o700


def test_what_is_published_counts_only_while_it_runs(home: Home) -> None:
    with home.held():
        home.publish({"url": "http://127.0.0.1:8080"})
        assert home.published() == {"url": "http://127.0.0.1:8080"}
        assert home.up_file.stat().st_mode & 0o777 == 0o600
    assert home.published() is None


def test_leftovers_of_a_killed_run_are_ended(home: Home, sleeper: subprocess.Popen[bytes]) -> None:
    with home.held():
        home.record_children({"kafka": sleeper.pid})
        assert home.clear_leftovers() == ["kafka"]
        assert soon(lambda: sleeper.poll() is not None)
        assert sleeper.returncode == -signal.SIGKILL
        assert home.clear_leftovers() == []


def test_a_process_that_only_has_the_same_number_is_left_alone(home: Home, sleeper: subprocess.Popen[bytes]) -> None:
    with home.held():
        rows = [{"name": "kafka", "pid": sleeper.pid, "started": "1"}]
        write_whole(home.path / "children.json", json.dumps(rows))
        assert home.clear_leftovers() == []
    assert sleeper.poll() is None and started_at(sleeper.pid)
