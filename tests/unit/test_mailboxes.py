"""What devices could see, by the fold for large accounts: the same as by `evolve`."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.lifecycle import fold
from schemas.mailbox import Mailboxes
from tests.histories import history, understood

STEPS = st.lists(st.tuples(st.integers(0, 13), st.integers(0, 1), st.integers(0, 11)), min_size=10, max_size=60)


@settings(max_examples=150)
@given(STEPS, st.integers(0, 300))
def test_every_device_sees_what_the_lifecycle_says_at_any_moment(steps: list[tuple[int, int, int]], until: int) -> None:
    world = history(steps)
    records = [understood(record) for record in world.finish()][:until]
    for account in world.accounts:
        mailboxes = Mailboxes()
        mine = [recorded for recorded in records if recorded.fact.recipient == account.user]
        for recorded in mine:
            mailboxes.take(recorded)
        state = fold(mine)
        assert mailboxes.devices.keys() == state.devices.keys()
        for device_id, device in mailboxes.devices.items():
            waiting = [(message.message_id, message.position) for message in mailboxes.waiting(device_id)]
            assert waiting == [(message.message_id, message.position) for message in state.mailbox(device_id)]
            acknowledged = {
                message.message_id: message.deliveries[device_id].at_ms
                for message in state.messages.values()
                if device_id in message.deliveries
            }
            assert device.acknowledged == acknowledged
            assert device.read.keys() <= acknowledged.keys()
