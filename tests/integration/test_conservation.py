"""Messages counted by state: what is lost shows, and a count in one process is no count in another."""

from __future__ import annotations

import asyncio

from projections.conservation import Counting, count, hide
from projections.database import Database
from schemas.lifecycle import Status
from schemas.metrics import REGISTRY
from tests.builders import delivered, entry, erased, pending, read, registered, stored
from tests.eventually import eventually
from tests.integration.projector_rig import Rig, running


def shown(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"partition": "0", **labels})


def test_every_message_is_somewhere_and_a_lost_one_shows(database_url: str) -> None:
    async def main() -> None:
        async with Database(database_url) as database:
            rig = Rig(database)
            rig.append(registered(), *map(stored, (1, 2, 3, 4)), stored(4), pending(2, 2))
            rig.append(delivered(entry(3, 3)), read(entry(4, 4)))
            async with running(rig.projector()):
                await rig.caught_up()
                counted = await count(database)
                assert {status: found for status, found in counted.messages[0].items() if found} == {
                    Status.STORED: 1,
                    Status.PENDING_SYNC: 1,
                    Status.DELIVERED: 1,
                    Status.READ: 1,
                }
                assert (counted.repeats, counted.misplaced) == ({0: 1}, {0: 0})
                await database.run(b"DELETE FROM mailbox WHERE position = 2")
                assert (await count(database)).misplaced == {0: 1}
                rig.append(erased())
                await rig.caught_up()
                assert (await count(database)).messages[0][Status.ERASED] == 2

    asyncio.run(main())


def test_the_gauges_are_of_whoever_counts(database_url: str) -> None:
    async def main() -> None:
        async with Database(database_url) as database:
            rig, ours = Rig(database), True
            rig.append(registered(), stored(1), stored(1))
            async with running(rig.projector()):
                await rig.caught_up()
            counting = asyncio.create_task(Counting(database, lambda: ours, least_seconds=0.01).run())
            await eventually(lambda: shown("restante_messages", state="Stored") == 1)
            assert (shown("restante_message_repeats"), shown("restante_messages_misplaced")) == (1, 0)
            ours = False
            await eventually(lambda: shown("restante_messages", state="Stored") is None)
            counting.cancel()
            await asyncio.wait({counting})
        hide()

    asyncio.run(main())
