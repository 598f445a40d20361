"""What can go wrong here, sorted by who must act."""


class ProjectionsError(Exception):
    """Base of every error of this package."""


class DatabaseUnavailable(ProjectionsError):
    """PostgreSQL did not answer in time, or went away in between. Nobody needs to act yet: the pool reconnects by itself;
    answer 503 or try again later. A write that ended so may have happened or not."""


class NotMigrated(DatabaseUnavailable):
    """A table is missing: run `restante migrate`."""


class ProjectionMoved(DatabaseUnavailable):
    """A rebuild has taken the place of the schema that this transaction looked into. Nothing was written; begin again."""


class NotGranted(DatabaseUnavailable):
    """This database role may not do what its process needs: run `restante grants` as a superuser."""


class ProjectionBehind(ProjectionsError):
    """The projection has not reached the record that this read must see. Try again; if it lasts, look at the projector."""


class SourceUnavailable(ProjectionsError):
    """Kafka did not answer in time, or fell silent. Nobody needs to act yet: the projector connects anew by itself."""


class ReplacedError(ProjectionsError):
    """Another projector has moved this partition on since this one read its offset. Nothing was written; drop what is in
    memory, read the offsets again and go on from there."""


class ForeignLogError(ProjectionsError):
    """The log is not the one this projection was made from. Point RESTANTE_KAFKA at the right cluster; if the topic was
    replaced on purpose, drop the schema that `SELECT live FROM pointer.projection` names, run `restante migrate` and start
    the projector, which then reads from the start."""


class QuarantineLimitError(ProjectionsError):
    """More records than the limit could not be understood. Look at restante.quarantine: either a newer version writes to
    this log (upgrade this role first) or a writer is broken. A restart goes on from where it stopped, with a fresh limit."""
