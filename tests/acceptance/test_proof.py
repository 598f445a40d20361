"""The log is proved from outside: the notary of a running service, `restante verify`, `restante export`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.acceptance.people import Device
from tests.acceptance.service import RESTANTE, Service

pytestmark = pytest.mark.timeout(300)


def run(service: Service, *arguments: str, **settings: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [RESTANTE, *arguments, "--json"],
        env={**service.environment, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_the_log_of_a_service_is_verified_and_taken_away(
    service: Service, alice: Device, bob: Device, tmp_path: Path
) -> None:
    alice.send(bob.name, "for the record")
    code, report = run(service, "verify")
    assert (code, report["findings"]) == (0, [])
    assert report["last_statement"]["number"] >= 1
    ends = {(row["topic"], row["partition"]): row["end"] for row in report["partitions"]}
    assert sum(ends.values()) > 0
    code, made = run(service, "export", str(tmp_path / "taken"))
    assert code == 0 and made["records"] >= sum(ends.values())
    code, report = run(service, "verify", "--export", str(tmp_path / "taken"), RESTANTE_DATA_DIR=str(tmp_path))
    assert (code, report["findings"], report["records"]) == (0, [], made["records"])


def test_the_notary_is_signing_and_nobody_else_has_its_key(service: Service) -> None:
    assert service.metric("notary", "restante_notary_statements_total") >= 1
    assert service.metric("notary", "restante_notary_findings") == 0
    holders = {role for role in ("api", "processor", "projector", "notary") if knows_key(service.process(role))}
    assert holders == {"notary"}
    key = service.data / "secrets" / "notary-key"
    assert key.stat().st_mode & 0o077 == 0
    assert key.parent.stat().st_mode & 0o077 == 0


def knows_key(process: psutil.Process) -> bool:
    return any(name.startswith("RESTANTE_NOTARY_KEY") for name in process.environ())
