"""The route table: every call with who may make it, what it takes, and what it answers."""

from typing import Final

from api import models
from api.access import ANYONE, Access
from api.devices import DeviceCalls
from api.erasures import Erasures
from api.frames import ClientFrame, ServerFrame
from api.health import HealthCalls
from api.logins import Logins
from api.mailbox import Mailbox
from api.me import MyAccount
from api.messages import Messages
from api.outside import Elsewhere
from api.presence import PresenceCalls
from api.problems import Code
from api.receipts import Receipts
from api.resource import Operation
from api.statuses import MessageStatuses
from api.stream import PATH, Stream, StreamQuery

_READ: Final[tuple[Code, ...]] = ("log_unavailable", "projection_behind")


def health_operations(health: HealthCalls, *, in_figures: bool = False) -> list[Operation]:
    """The calls that ask how it stands; on the admin port they are answered in figures."""
    answers = {200: models.Health, 503: models.Health}
    return [
        Operation(
            method="GET",
            path="/health/live",
            handler=health.live,
            summary="Whether this process answers",
            access=ANYONE,
            rate=None,
            answers={200: models.Health},
        ),
        Operation(
            method="GET",
            path="/health/ready",
            handler=health.ready,
            summary="Whether this process should be sent calls",
            access=ANYONE,
            rate=None,
            answers=answers,
        ),
        Operation(
            method="GET",
            path="/health",
            handler=health.whole_in_figures if in_figures else health.whole,
            summary="Whether the whole service does its work",
            access=ANYONE,
            rate=None,
            answers=answers,
        ),
    ]


def public_operations(
    *,
    logins: Logins | Elsewhere,
    me: MyAccount,
    erasures: Erasures,
    devices: DeviceCalls,
    messages: Messages,
    mailbox: Mailbox,
    receipts: Receipts,
    statuses: MessageStatuses,
    presence: PresenceCalls,
    stream: Stream,
    health: HealthCalls,
) -> list[Operation]:
    """The rows of the public port."""
    return [
        Operation(
            method="POST",
            path="/messages",
            handler=messages.post,
            rate="messages",
            summary="Send a message; 202 once the log holds it for good",
            access=Access("account", "mail to anybody, in the name of the account"),
            notes=(
                "With an idempotency key a retry, however late and through whichever process, is the same message. "
                "While the outcome is unknown (503), the key settles it."
            ),
            gives=("Location", "Idempotency-Replayed"),
            body=models.NewMessage,
            headers=(("Idempotency-Key", "1 to 255 printable characters; the same key is the same message"),),
            answers={202: models.Accepted},
            problems=(
                "recipient_unknown",
                "mailbox_full",
                "sender_share_full",
                "idempotency_conflict",
                "log_unavailable",
                "directory_unavailable",
                "overloaded",
            ),
        ),
        Operation(
            method="POST",
            path="/messages/batch",
            handler=messages.batch,
            rate="messages",
            summary="Send up to 500 messages, each on its own",
            access=Access("account", "mail to anybody, in the name of the account"),
            notes=(
                "Only a body that is no batch at all is refused as a whole. A message that is wrong in itself, or one too "
                "many (each counts against rate and quota), is a problem among the results and the others are stored; "
                "those to one recipient keep their order. 202 also where all were refused, 503 with results where none "
                "was stored because the log is away."
            ),
            body=models.NewMessages,
            answers={202: models.BatchAnswer},
            parts=(models.Accepted, models.Refused),
            problems=("log_unavailable",),
        ),
        Operation(
            method="GET",
            path="/messages/sync",
            handler=mailbox.sync,
            summary="What this device has not acknowledged, oldest first",
            access=Access("account", "the device's mailbox", otherwise="bad_cursor"),
            notes=(
                "Reading never acknowledges. An empty cursor is none. With stale=ok and the log away there is no "
                "waiting, and as_of is the last moment at which this process knew the mailbox to be complete, or "
                "null."
            ),
            query=models.SyncQuery,
            answers={200: models.Page},
            problems=("directory_unavailable", *_READ),
        ),
        Operation(
            method="POST",
            path="/messages/ack",
            handler=mailbox.ack,
            summary="Acknowledge messages, so that this device's mailbox shows them no more",
            access=Access("account", "the device's mailbox", otherwise="unknown"),
            notes=("An id given twice is answered once. The answer to up_to counts what this call acknowledged."),
            body=models.Acknowledgement,
            answers={200: (models.Acknowledged, models.AcknowledgedCount)},
            problems=("bad_cursor", *_READ),
        ),
        Operation(
            method="POST",
            path="/messages/read",
            handler=mailbox.read,
            summary="Say that messages were read, which acknowledges them, too",
            access=Access("account", "the device's mailbox", otherwise="unknown"),
            notes=("Acknowledged means read just now; already means that the account had read it and this device had it."),
            body=models.IdList,
            answers={200: models.Acknowledged},
            problems=_READ,
        ),
        Operation(
            method="POST",
            path="/messages/status",
            handler=statuses.several,
            summary="Where several messages are",
            access=Access("account", "messages that the account sent or got", otherwise="unknown"),
            body=models.IdList,
            answers={200: models.Statuses},
            problems=_READ,
        ),
        Operation(
            method="GET",
            path="/messages/{id}",
            handler=statuses.one,
            summary="Where a message is",
            access=Access("account", "messages that the account sent or got", otherwise="message_unknown"),
            answers={200: models.MessageStatus},
            problems=_READ,
        ),
        Operation(
            method="GET",
            path="/messages/{id}/trail",
            handler=statuses.trail,
            summary="Every state of a message with the record in the log that proves it",
            access=Access("account", "messages that the account sent or got", otherwise="message_unknown"),
            notes=(
                "Repeats are records that came under the same idempotency key before the first was known; they "
                "changed nothing."
            ),
            answers={200: models.TrailAnswer},
            problems=_READ,
        ),
        Operation(
            method="GET",
            path="/receipts",
            handler=receipts.page,
            summary="What became of the messages that this account sent, oldest first",
            access=Access("account", "receipts of what the account sent", otherwise="bad_cursor"),
            notes=(
                "Each receipt once, the same for all devices: Delivered with the first device that acknowledged, then Read; "
                "Read alone where it came first. A cursor is resumed from for ever; cursor=now starts at the end, an empty "
                "one is none."
            ),
            query=models.ReceiptsQuery,
            answers={200: models.ReceiptPage},
            problems=_READ,
        ),
        Operation(
            method="GET",
            path=PATH,
            handler=stream.plain,
            summary="Mail as it comes, over a WebSocket",
            access=Access("socket", "the device's mailbox, receipts of what the account sent", otherwise="bad_cursor"),
            notes=(
                "Ask for the subprotocol restante.v1. Frames are JSON texts, one object each, of at most 64 KiB from the "
                "client; ignore frames and fields that you do not know. A browser sends its token in the first frame, "
                "authenticate, within 5 seconds, everybody else in the Authorization header. Then ready, the whole mailbox "
                "oldest first, caught_up once, and live messages; positions only rise, and no message of the mailbox is "
                "left out. What is not acknowledged comes again in the next session. Acknowledge what was processed, the "
                "oldest within ack_timeout_seconds; at most window messages or 1 MiB wait for that. Without receipts_from, "
                "or with now, receipts are told from now on. A socket is closed with the codes of x-websocket; the reason "
                "is a problem code. Frames that move nothing (ping, authenticate, invalid ones) may come 100 times in 10 "
                "seconds."
            ),
            query=StreamQuery,
            headers=(("Sec-WebSocket-Protocol", "restante.v1"), ("Origin", "of a web page: ours")),
            gives=("Sec-WebSocket-Protocol",),
            answers={101: None},
            problems=(
                "subprotocol_missing",
                "foreign_origin",
                "upgrade_required",
                "log_unavailable",
                "gateway_restart",
            ),
            frames=(ClientFrame, ServerFrame),
        ),
        Operation(
            method="POST",
            path="/accounts",
            handler=logins.sign_up,
            rate="sign_ups",
            summary="Sign up",
            access=Access("anyone", "an account of a name that was never given"),
            body=models.NewAccount,
            answers={201: models.Account},
            problems=("signup_closed", "accounts_elsewhere", "name_taken", "directory_unavailable", "overloaded"),
        ),
        Operation(
            method="GET",
            path="/accounts/me",
            handler=me.shown,
            summary="Whose token this is, and of which device",
            access=Access("account", "the account's own name and ids"),
            answers={200: models.Me},
            problems=("directory_unavailable",),
        ),
        Operation(
            method="DELETE",
            path="/accounts/me",
            handler=erasures.erase,
            summary="Erase the account, for good",
            access=Access("account", "the account"),
            notes=(
                "Its tokens end and its sockets close (4401), its name finds nobody and is never given again, its key is "
                "destroyed, and with it every message that it got; nobody can take this back. What no device had "
                "acknowledged ends as Erased, and its senders are told. What it sent stays in the mailboxes of others, with "
                "from null. After 503 log_unavailable nothing has changed; after directory_unavailable the token tells."
            ),
            answers={204: None},
            problems=("directory_unavailable", "log_unavailable"),
        ),
        Operation(
            method="POST",
            path="/tokens",
            handler=logins.log_in,
            rate="logins",
            summary="Log in on a device",
            access=Access("anyone", "the account whose password comes along", otherwise="bad_credentials"),
            notes=("The same label is the same device until it is removed, with its mailbox as it was."),
            body=models.Login,
            answers={200: models.Tokens},
            problems=("accounts_elsewhere", "token_revoked", "directory_unavailable", "log_unavailable", "overloaded"),
        ),
        Operation(
            method="POST",
            path="/tokens/refresh",
            handler=logins.refresh,
            summary="Fresh tokens for a refresh token, which is used up",
            access=Access("anyone", "the device whose refresh token comes along", otherwise="token_invalid"),
            notes=(
                "Shown again within 60 seconds, while no successor was used, it gives another pair and the first "
                "successor stays good: the answer was lost, or two tabs share it. Later the whole login ends: "
                "token_reused."
            ),
            body=models.Refresh,
            answers={200: models.Tokens},
            problems=("accounts_elsewhere", "token_expired", "token_revoked", "token_reused", "directory_unavailable"),
        ),
        Operation(
            method="DELETE",
            path="/tokens/current",
            handler=devices.log_out,
            summary="Log out on this device",
            access=Access("account", "the device's tokens"),
            notes=("All tokens of this device end, its socket closes. Its mailbox stays as it is."),
            answers={204: None},
            problems=("directory_unavailable",),
        ),
        Operation(
            method="GET",
            path="/devices",
            handler=devices.listed,
            summary="The account's devices, each with how much waits for it",
            access=Access("account", "the account's devices"),
            answers={200: models.Devices},
            problems=("directory_unavailable", *_READ),
        ),
        Operation(
            method="DELETE",
            path="/devices/{device_id}",
            handler=devices.remove,
            summary="Remove a device",
            access=Access("account", "the account's devices", otherwise="device_unknown"),
            notes=(
                "Its tokens end, its socket closes, its view of the mailbox is freed; what no device has acknowledged stays "
                "with the account. Again is 204 again. Where the log is away (503) the tokens have ended all the same "
                "and the rest is done as soon as it can be. The label may be used for a new device."
            ),
            answers={204: None},
            problems=("directory_unavailable", "log_unavailable"),
        ),
        Operation(
            method="GET",
            path="/presence/{name}",
            handler=presence.of,
            summary="Whether somebody is there",
            access=Access("account", "those with whom the account has exchanged messages", otherwise="presence_unknown"),
            notes=(
                "For those only who have sent each other a message; whoever has not gets the answer for an unknown name."
            ),
            answers={200: models.Presence},
            problems=_READ,
        ),
        Operation(
            method="GET",
            path="/.well-known/jwks.json",
            handler=logins.public_keys,
            summary="Public keys that verify access tokens",
            access=ANYONE,
            answers={200: models.Jwks},
        ),
        *health_operations(health),
    ]
