"""Every way in which a session ends: what the client is told, and what the log is."""

from dataclasses import dataclass
from typing import Final

from api.frames import CloseCode
from api.problems import Code
from schemas.events import EndReason


@dataclass(frozen=True, slots=True)
class End:
    """A close code with its problem code (none where there is nobody to tell), and the reason in SessionClosed."""

    code: int
    problem: Code | None
    reason: EndReason

    @property
    def text(self) -> str:
        """The reason of the close frame."""
        return self.problem or ""


NORMAL: Final = 1000
ABNORMAL: Final = 1006

ACK_TIMEOUT: Final = End(CloseCode.OVERDUE, "ack_timeout", EndReason.ACK_TIMEOUT)
HEARTBEAT_TIMEOUT: Final = End(CloseCode.OVERDUE, "heartbeat_timeout", EndReason.HEARTBEAT_TIMEOUT)
TOO_SLOW: Final = End(CloseCode.TOO_SLOW, "too_slow", EndReason.TOO_SLOW)
REPLACED: Final = End(CloseCode.REPLACED, "replaced", EndReason.REPLACED)
TOKEN_EXPIRED: Final = End(CloseCode.TOKEN, "token_expired", EndReason.TOKEN_EXPIRED)
TOKEN_REVOKED: Final = End(CloseCode.TOKEN, "token_revoked", EndReason.TOKEN_REVOKED)
RESTART: Final = End(CloseCode.RESTART, "gateway_restart", EndReason.GATEWAY_RESTART)
FAULT: Final = End(CloseCode.FAULT, "internal_error", EndReason.FAULT)
LOG_AWAY: Final = End(CloseCode.FAULT, "log_unavailable", EndReason.FAULT)
TOO_MANY_SOCKETS: Final = End(CloseCode.TOO_MANY, "rate_limited", EndReason.PROTOCOL_ERROR)
FLOOD: Final = End(CloseCode.TOO_MANY, "rate_limited", EndReason.PROTOCOL_ERROR)

_SAYS_THE_LOG: Final = {
    EndReason.REPLACED: REPLACED,
    EndReason.DEVICE_REMOVED: End(CloseCode.TOKEN, "token_revoked", EndReason.DEVICE_REMOVED),
    EndReason.ACCOUNT_ERASED: End(CloseCode.TOKEN, "token_revoked", EndReason.ACCOUNT_ERASED),
}


def gone(code: int) -> End:
    """The peer has closed with this code, or (1006) the connection broke."""
    return End(NORMAL, None, EndReason.CONNECTION_LOST if code == ABNORMAL else EndReason.CLIENT_CLOSED)


def misbehaved(code: int, problem: Code) -> End:
    """The client broke the protocol; this is the close code for it."""
    return End(code, problem, EndReason.PROTOCOL_ERROR)


def said_by_log(reason: str | None) -> End:
    """The processor has read that the session is over. What is about the gateway, or is not known here, sends the client
    to another one."""
    try:
        known = EndReason(reason) if reason else EndReason.FAULT
    except ValueError:
        known = EndReason.FAULT
    return _SAYS_THE_LOG.get(known) or End(CloseCode.RESTART, "gateway_restart", known)
