"""The log as its own witness: everything that the records of a partition prove, and everything about them that cannot be.

It lives with the processor because it asks the processor's own `decide` whether a recorded decision follows from its
recorded evidence; what states mean is `schemas.lifecycle`, folded here in a shape that a stream of any length fits through
(held against `evolve` by property tests). Nothing here knows Kafka: whoever has records, in their order, hands them in.

`partition` reads one partition's records; `messages` and `sessions` judge each by what came before it, `shelves` keep what
they must remember (`rows`) in bounded memory, `replay` gives a decision again. `notes` is what they write down: `findings`,
the closed list of what can be wrong, counts, and times (`latency`).
"""
