"""Who may make a call, and of what. Every row of the route table has one of these; there is no default.

Whether a token must come is enforced from here, before the handler runs. Whose things they are is for the handlers and their
SQL, which always ask with the caller's account; `tests/contract/test_access.py` holds each of them to its row.
"""

from dataclasses import dataclass
from typing import Final, Literal

from api.problems import Code

Caller = Literal["anyone", "account", "socket"]


@dataclass(frozen=True, slots=True)
class Access:
    """`caller` is

    - anyone: nobody is asked who they are;
    - account: whoever comes with a good access token;
    - socket: the same, but the token may come in the first frame.

    `what` says what of whom the call can show or change. `otherwise` is what is said of anything else, whether it is
    somebody else's or does not exist: a problem code, or `unknown`, the list in the answer. None where a call can name
    nothing."""

    caller: Caller
    what: str
    otherwise: Code | Literal["unknown"] | None = None


ANYONE: Final = Access("anyone", "nothing of any account")
OPERATORS: Final = Access("anyone", "the process, for whoever reaches the admin port")
