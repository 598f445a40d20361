"""The notary's chain and the projector's, each from its own reading of one log."""

from __future__ import annotations

from pathlib import Path

from projections.chains import projected_chains
from schemas.raw import RawRecord
from schemas.topics import LIFECYCLE
from tests.integration.projector_rig import STORY, Rig, on, running
from tests.notarized import Notarized


def test_they_agree_and_a_log_that_was_changed_between_the_two_is_found(database_url: str, tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(*STORY)
        log = Notarized(tmp_path)
        async with running(rig.projector(topic_id=log.topic.topic_id)):
            await rig.caught_up()
        log.projected = dict(await projected_chains(rig.database))
        assert log.projected[LIFECYCLE, 0].next_offset == len(STORY)
        log.topic.held[0] = [
            RawRecord(0, raw.offset, raw.at_ms, raw.key, raw.value, tuple(raw.headers)) for raw in rig.log[0]
        ]
        assert await signed(log) == []
        again = Notarized(tmp_path / "again", topic=log.topic, projected=log.projected)
        log.topic.held[0][2] = log.topic.held[0][2]._replace(at_ms=1)
        (found,) = await signed(again)
        assert "partition 0 of restante.lifecycle" in found

    on(scenario, database_url)


async def signed(log: Notarized) -> list[str]:
    notary = log.notary()
    with log.register() as register:
        await notary.sign(register)
    return notary.findings


def test_tables_older_than_the_chain_are_not_compared(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(*STORY)
        async with running(rig.projector()):
            await rig.caught_up()
        await rig.database.run(b"UPDATE offsets SET chain = NULL")
        assert await projected_chains(rig.database) == {}

    on(scenario, database_url)
