"""Appending facts to the log, and knowing that they stay there.

`log` is the port: `append` and `append_all` answer when the log holds the record for good, or say within five seconds
what became of it (`LogUnavailable.outcome`); `ends` says how far the lifecycle log reaches. `kafka` is the log on
Apache Kafka, `stripes` several of them side by side, `memory` one for tests and trials, all held to the same contract
suite. `topics` creates the topics, compares a live cluster with the table in `schemas.topics` and refuses one that
could lose what we promise to keep.

`recorded` reads back what the log holds, from one offset to another, for whoever judges it or makes something anew from it.

    async with KafkaLog(KafkaConnection("127.0.0.1:9092")) as log:
        appended = await log.append(fact)

Inside `kafka`: `lanes` collects the records of one partition while a request is under way, `rounds` decides when they leave
so that one request carries every partition that is ready, `session` is one life of an aiokafka producer, `ends` asks Kafka
where the partitions end.
"""
