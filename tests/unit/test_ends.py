"""The question where the log ends, asked of a broker that is not there."""

import asyncio
import gc
from typing import Any

from producers.connection import KafkaConnection
from producers.ends import Ends
from tests.eventually import eventually

NOBODY = "127.0.0.1:1"


def test_a_question_whose_askers_have_gone_fails_silently() -> None:
    unforeseen: list[dict[str, Any]] = []

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unforeseen.append(context))
        ends = Ends(KafkaConnection(bootstrap=NOBODY), "restante.lifecycle")
        ends.failing = True  # asks for a second only
        asker = asyncio.create_task(ends.ask())
        await eventually(lambda: ends._under_way is not None)
        asker.cancel()
        await eventually(lambda: ends._under_way.done())
        ends._under_way = None  # as the next question leaves it
        gc.collect()
        await ends.close()

    asyncio.run(scenario())
    assert unforeseen == []
