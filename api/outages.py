"""What a caller is told while the log or PostgreSQL is out of reach."""

from types import TracebackType
from typing import Literal

from api.problems import Problem
from producers.log import LogUnavailable
from projections.errors import DatabaseUnavailable, ProjectionBehind


def log_away(error: LogUnavailable, message_id: str | None = None) -> Problem:
    """503 for a write that the log did not confirm; the message's id goes along where the outcome is unknown."""
    if error.outcome == "unknown":
        detail = (
            "The log did not confirm in time, and may hold it all the same. With an idempotency key, a retry settles it."
        )
        return Problem("log_unavailable", detail, outcome="unknown", message_id=message_id)
    return Problem("log_unavailable", "The log did not take it. Send it again later.", outcome="rejected")


def log_silent() -> Problem:
    """503 for a read that cannot be known to be complete."""
    return Problem("log_unavailable", "Without the log nobody knows whether an answer is complete. Try again later.")


def projection_behind() -> Problem:
    """503 for a read that would be short."""
    return Problem("projection_behind", "What was accepted before cannot all be shown yet. Try again after Retry-After.")


class asking_accounts:
    """Around calls that need the accounts: PostgreSQL out of reach becomes 503 directory_unavailable."""

    def __init__(self, outcome: Literal["rejected"] | None = None) -> None:
        self._outcome = outcome

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if isinstance(error, DatabaseUnavailable):
            detail = "The accounts cannot be reached. Try again after the time in Retry-After."
            raise Problem("directory_unavailable", detail, outcome=self._outcome) from error


class asking_projection:
    """Around reads of the projection: PostgreSQL out of reach, or behind, becomes 503 projection_behind."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if isinstance(error, DatabaseUnavailable | ProjectionBehind):
            raise projection_behind() from error
