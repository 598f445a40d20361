"""The service does what its description says, and nothing else: schemathesis calls every operation of /openapi.json with
what it allows and with what it forbids, as a caller with a token and as one without, and checks every answer."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from api.app import create_app
from api.limits import Limits
from api.waiting import awaited
from tests.edge import Edge, running
from tests.socket_rig import listening

pytestmark = pytest.mark.anyio

CHECKED = """
seed = 1
continue-on-failure = true
suppress-health-check = ["all"]
generation = {database = "none", max-examples = 4}
phases.coverage.unexpected-methods = ["PATCH"]
warnings = false
dictionaries.names.values = ["bob"]

# No description can say who got a cursor (400 bad_cursor), or how many bytes a text has (413).
[checks]
positive_data_acceptance.expected-statuses = ["2xx", 400, 401, 403, 404, 409, 413]
negative_data_rejection.expected-statuses = [400, 401, 404, 405, 413, 414, 415, 422]
"""
OF_PATHS = {
    # A key may have come before, with another content.
    "/messages": 'checks.positive_data_acceptance.expected-statuses = ["2xx", 401, 404, 413, 422]',
    # No pattern that all readers know says what a printable character is.
    "/tokens": 'checks.positive_data_acceptance.expected-statuses = ["2xx", 401, 422]',
    # Each message of a batch is refused by itself.
    "/messages/batch": "checks.negative_data_rejection.expected-statuses = [202, 400, 401, 404, 405, 413, 415, 422]",
    # Whatever is asked of it by HTTP, this is a WebSocket.
    "/messages/stream": "checks.positive_data_acceptance.expected-statuses = [426]\n"
    "checks.negative_data_rejection.expected-statuses = [400, 405, 414, 422, 426]",
}
NAMED = """parameters."path.id" = {{dictionary = "ids{0}", probability = 0.5}}
parameters."body.ids[*]" = {{dictionary = "ids{0}", probability = 0.5}}
parameters."path.name" = {{dictionary = "names", probability = 0.5}}
parameters."body.to" = {{dictionary = "names", probability = 0.5}}"""


async def settings(edge: Edge, known: bool) -> str:
    """Settings of schemathesis. Who is known has a token for each operation, since some end it, and names what there is."""
    lines, bob = [CHECKED], await edge.person("bob")
    paths = (await edge.client.get("/openapi.json")).json()["paths"]
    for number, (path, method) in enumerate((path, method) for path, methods in paths.items() for method in methods):
        lines += ["[[operations]]", f'include-name = "{method.upper()} {path}"', "enabled = true", OF_PATHS.get(path, "")]
        if known:
            alice = await edge.person(f"alice{number}")
            ids = [(await alice.send(bob)).json()["id"], (await bob.send(alice)).json()["id"]]
            lines += [f"headers.Authorization = {json.dumps(alice.bearer['Authorization'])}", NAMED.format(number)]
            lines.insert(1, f"[dictionaries.ids{number}]\nvalues = {json.dumps(ids)}")
    return "\n".join(lines)


async def _hardly_awaited(call: Any, draining: Any, arrivals: Any, seconds: float, *more: Any) -> Any:
    return await awaited(call, draining, arrivals, min(seconds, 0.01), *more)


async def attacked(at: str, directory: Path, settings: str, phases: str) -> None:
    """Have every operation called, and all answers checked."""
    file = directory / "schemathesis.toml"
    file.write_text(settings)
    command = (sys.executable, "-m", "schemathesis.cli", f"--config-file={file}", "run", at)
    options = ("--checks=all", f"--phases={phases}")
    schemathesis = await asyncio.create_subprocess_exec(*command, *options, stdout=-1, stderr=-2, cwd=directory)
    said, _ = await schemathesis.communicate()
    print(said.decode())
    assert schemathesis.returncode == 0, said.decode()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("mailbox", "receipts"):
        monkeypatch.setattr(f"api.{module}.awaited", _hardly_awaited)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("known", "phases"),
    [(True, "coverage,fuzzing,stateful"), (False, "fuzzing")],
    ids=["with a token", "without a token"],
)
async def test_every_answer_is_described(database_url: str, tmp_path: Path, known: bool, phases: str) -> None:
    async with running(database_url, limits=Limits(on=False)) as edge, listening(create_app(edge.service)) as site:
        at = f"http://127.0.0.1:{site.port}/openapi.json"
        await attacked(at, tmp_path, await settings(edge, known), phases)
