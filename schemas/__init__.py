"""What two processes must agree on: ids, facts, their meaning, topics, bytes, metric names.

The words:

- *account*: a person or a program; a unique name outside, a `user_id` in the log.
- *device*: one installation of a client; has its own view of the account's mailbox.
- *message*: immutable, addressed to one account.
- *fact*: something that happened, appended to the log, never changed. See `schemas.events`.
- *position*: the offset of a message's `MessageStored` in its recipient's partition; orders a mailbox.
- *lifecycle*: Created, Stored, DeliveryAttempted, PendingSync, Delivered, Read (or Erased). See `schemas.lifecycle`.
- *mailbox*: what a device has not acknowledged, in order of position.
- *session*, *epoch*: one live socket of a device, and the position of its latest marker in the log.
- *gateway*: an API process that holds sockets; its *lease* says that it lives, and without renewal its sessions are lost.
- *receipt*: what a sender is told about a message: Delivered, Read or Erased, each once.
- *decision*: a fact that the processor derived from others, with its evidence.
- *rejected repeat*: a second `MessageStored` with the same message id; the first one stays.
- *late decision*: one that an acknowledgement overtook; counted, changes nothing.

Everything here is pure (metrics apart, which count): no I/O, no clock, no randomness.
"""
