"""What the command line says when it cannot go on, with the exit code that belongs to it."""

from __future__ import annotations


class DeployError(Exception):
    """It could not look or could not start (exit 3). The message says what happened and what to do next."""

    exit_code = 3


class Misconfigured(DeployError):
    """A setting or an option is wrong (exit 2). The message names it."""

    exit_code = 2


class Refused(DeployError):
    """It looked and found something, or the service said no (exit 1)."""

    exit_code = 1
