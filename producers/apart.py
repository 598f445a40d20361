"""Pushes on a connection of their own: somebody waits for them, and behind facts they would wait for the disk, partition by
partition. The topic of pushes is not synced, so theirs is quick."""

from producers.connection import KafkaConnection
from producers.kafka import KafkaLog
from producers.lanes import Place
from producers.stripes import SideBySide
from schemas.topics import PUSH


class PushesApart(SideBySide):
    """Two connections, one of them for pushes."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._facts, self._pushes = KafkaLog(connection), KafkaLog(connection)
        super().__init__([self._facts, self._pushes])

    def _log(self, place: Place) -> KafkaLog:
        return self._pushes if place[0] == PUSH else self._facts
