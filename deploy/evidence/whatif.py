"""`restante what-if`: the recorded facts put before another policy."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path
from typing import Any

from deploy.errors import Misconfigured, Refused
from deploy.evidence.reading import Pages, Progress, Stretch, opened, stretches, understood
from deploy.settings import Settings
from processors.decisions import POLICY
from processors.other_policies import POLICIES, Comparison, Difference, Outcome, Policy
from producers.recorded import LogDamaged, LogReader


def policy(named: str) -> Policy:
    """A policy by its name, or from a Python file that defines `decide(here, recorded, producer)` as `processors.decisions`
    does. The file is run. Misconfigured (exit 2) where there is no such thing."""
    if named in POLICIES:
        return POLICIES[named]
    path = Path(named)
    if not path.is_file():
        known = ", ".join(POLICIES)
        raise Misconfigured(f"{named!r} is neither a policy ({known}) nor a file that defines `decide`")
    spec = importlib.util.spec_from_file_location("restante_other_policy", path)
    if spec is None or spec.loader is None:
        raise Misconfigured(f"{named} is no Python file: its name must end with .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        found: Policy = module.decide
    except Exception as error:  # whatever the file does
        raise Misconfigured(f"{named} gives no `decide`: {error!r}") from error
    return found


async def what_if(settings: Settings, named: str, since_ms: int | None, progress: Progress) -> dict[str, Any]:
    """How the messages since a time would have been decided."""
    chosen = policy(named)
    async with opened(settings) as reader:
        since = {stretch.partition: stretch.start for stretch in await stretches(reader, since_ms=since_ms)}
        whole = await stretches(reader)
        pages = Pages(reader, whole, progress)
        done = [await _compared(reader, pages, stretch, chosen, since[stretch.partition]) for stretch in whole]
    recorded, other = Counter[str](), Counter[str]()
    for one in done:
        recorded.update(one.recorded)
        other.update(one.other)
    return {
        "policy": named,
        "recorded_policy": POLICY,
        "messages": sum(one.messages for one in done),
        "undecided": sum(one.undecided for one in done),
        "decided_otherwise": sum(one.differing for one in done),
        "recorded": {**recorded, "pushes": sum(one.recorded_pushes for one in done)},
        "would_be": {**other, "pushes": sum(one.other_pushes for one in done)},
        "examples": [_shown(example) for one in done for example in one.examples],
    }


async def _compared(reader: LogReader, pages: Pages, stretch: Stretch, chosen: Policy, since: int) -> Comparison:
    comparison, lost = Comparison(chosen, since), list[LogDamaged]()
    async for records in pages.of(stretch, lost.append):
        for raw in records:
            recorded = understood(raw)
            if recorded is None:
                continue
            try:
                comparison.take(recorded)
            except Exception as error:  # the policy may be somebody's file
                place = f"{raw.partition}@{raw.offset}"
                raise Refused(f"the policy fails at the record {place}: {error!r}. Mend its `decide`") from error
    comparison.close()
    return comparison


def _shown(one: Difference) -> dict[str, Any]:
    return {
        "message_id": str(one.message_id),
        "log": {"partition": one.partition, "offset": one.position},
        "was": _said(one.was),
        "would_be": _said(one.would_be),
    }


def _said(outcome: Outcome) -> dict[str, Any]:
    return {"decision": outcome.kind, "pushes": outcome.pushes}
