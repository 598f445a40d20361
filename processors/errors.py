"""What goes wrong here, and who has to act."""


class ProcessorsError(Exception):
    """Anything that this package raises. Its text says what to do next."""


class LogHasHole(ProcessorsError):
    """Records are missing between the committed offset and what the log still holds: somebody deleted a part of the topic.
    Restore it from a replica or a backup; if it is gone for good, reset the group's offsets by hand."""


class TooManyQuarantined(ProcessorsError):
    """So many records could not be understood that the fault is likelier here than there: stop and look at
    restante.quarantine. A processor older than the writers of the log wants an update, not a quarantine."""
