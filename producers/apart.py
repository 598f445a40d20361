"""What a processor appends, over several connections: pushes wait for facts, and somebody waits for pushes. On one, both
would wait for the disk behind everything else, partition by partition. Pushes are not synced, so they are quick.
"""

from producers.connection import KafkaConnection
from producers.kafka import KafkaLog
from producers.lanes import Place
from producers.stripes import SideBySide
from schemas.topics import LIFECYCLE, PUSH

REST_PACE_SECONDS = 0.04


class PushesApart(SideBySide):
    """Three connections: one for facts, one for pushes, one for the rest, with few and full requests."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._facts, self._pushes = KafkaLog(connection), KafkaLog(connection)
        self._rest = KafkaLog(connection, pace_seconds=REST_PACE_SECONDS)
        super().__init__([self._facts, self._pushes, self._rest])

    def _log(self, place: Place) -> KafkaLog:
        return {LIFECYCLE: self._facts, PUSH: self._pushes}.get(place[0], self._rest)
