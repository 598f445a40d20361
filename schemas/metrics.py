"""Every metric there is: name, meaning, and what to do when it looks bad. People graph these names; they are a closed list.

No label ever holds an id, a name or a body.
"""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY: Final = CollectorRegistry()

MESSAGES_ACCEPTED: Final = Counter(
    "restante_messages_accepted",
    "Messages answered 202 (replays of a stored key not counted). Falls to zero: look at restante_http_requests_total.",
    registry=REGISTRY,
)
APPEND_SECONDS: Final = Histogram(
    "restante_append_duration_seconds",
    "From handing a record to the log until the broker has it on disk. Rises: the broker's disk or its network is slow.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
    registry=REGISTRY,
)
PROJECTION_LAG_RECORDS: Final = Gauge(
    "restante_projection_lag_records",
    "Records of the log that the projection has not applied, by partition. Grows for minutes: add projectors.",
    ["partition"],
    registry=REGISTRY,
)
PROJECTION_LAG_SECONDS: Final = Gauge(
    "restante_projection_lag_seconds",
    "Age of the last applied record where records wait, else 0, by partition. Over 30 s POST answers 503 overloaded.",
    ["partition"],
    registry=REGISTRY,
)
RECEIPTS_LAG_RECORDS: Final = Gauge(
    "restante_receipts_lag_records",
    "Receipts that the projection has not applied, by partition of their topic. Grows for minutes: add projectors.",
    ["partition"],
    registry=REGISTRY,
)
RECEIPTS_LAG_SECONDS: Final = Gauge(
    "restante_receipts_lag_seconds",
    "Age of the last applied receipt where receipts wait, else 0, by partition. Grows: senders hear late.",
    ["partition"],
    registry=REGISTRY,
)
PROJECTION_IGNORED: Final = Counter(
    "restante_projection_ignored",
    "Entries of facts about messages that are unknown or another recipient's. Any: a writer is broken, audit says which.",
    registry=REGISTRY,
)
MESSAGES_TOO_LATE: Final = Counter(
    "restante_messages_too_late",
    "Messages that reached the log after their recipient was erased, and end as Erased. Many: an API is cut off PostgreSQL.",
    registry=REGISTRY,
)
BODIES_UNREADABLE: Final = Counter(
    "restante_bodies_unreadable",
    "Messages handed over with a problem in place of a body that did not open. Any: the log line has the id; audit the log.",
    registry=REGISTRY,
)
PROCESSOR_LAG_RECORDS: Final = Gauge(
    "restante_processor_lag_records",
    "Records of the log that the processor has not decided on, by partition. Grows for minutes: add processors.",
    ["partition"],
    registry=REGISTRY,
)
DECISIONS: Final = Counter(
    "restante_decisions",
    "Decisions of the processor by kind (delivery_attempted, pending_sync). None while messages come in: look at its log.",
    ["kind"],
    registry=REGISTRY,
)
MESSAGES_PENDING: Final = Gauge(
    "restante_messages_pending",
    "Messages in mailboxes that a device has yet to acknowledge, as the projector estimates them.",
    registry=REGISTRY,
)
MESSAGES: Final = Gauge(
    "restante_messages",
    "Messages by partition and state, as a projector counts them again and again. Many PendingSync: clients do not come.",
    ["partition", "state"],
    registry=REGISTRY,
)
MESSAGE_REPEATS: Final = Gauge(
    "restante_message_repeats",
    "MessageStored records that repeat a known id, by partition. With restante_messages that is all MessageStored records.",
    ["partition"],
    registry=REGISTRY,
)
MESSAGES_MISPLACED: Final = Gauge(
    "restante_messages_misplaced",
    "Messages not in exactly one of mailbox, acknowledged, erased, by partition. Any: restante audit --against-projection.",
    ["partition"],
    registry=REGISTRY,
)
SESSIONS: Final = Gauge(
    "restante_sessions",
    "Live sessions in the processor's table.",
    registry=REGISTRY,
)
SOCKETS: Final = Gauge(
    "restante_sockets",
    "Open WebSockets of this process, authenticated or not. Falls at once: look at its log, clients connect elsewhere.",
    registry=REGISTRY,
)
SESSION_ENDS: Final = Counter(
    "restante_session_ends",
    "Sessions that ended in this process, by reason. Many of ack_timeout or heartbeat_timeout: slow clients.",
    ["reason"],
    registry=REGISTRY,
)
SESSION_MARKERS: Final = Counter(
    "restante_session_markers",
    "Fresh markers of live sessions, each because the processor had lost one. Many for long: look at the processors.",
    registry=REGISTRY,
)
QUARANTINED: Final = Counter(
    "restante_quarantined_records",
    "Records set aside because they could not be understood. Any: read them in restante.quarantine, mend the writer.",
    registry=REGISTRY,
)
TAIL_LEFT_OUT: Final = Counter(
    "restante_tail_left_out_records",
    "Records of the push and gateways topics passed over because they could not be understood. Any: a writer is newer.",
    ["topic"],
    registry=REGISTRY,
)
KEY_FILES_TIME: Final = Gauge(
    "restante_key_files_time_seconds",
    "When the key files that this process goes by were last changed (Unix time). Behind the files' own: its log says why.",
    registry=REGISTRY,
)
HTTP_REQUESTS: Final = Counter(
    "restante_http_requests",
    "Requests by route, method and status.",
    ["route", "method", "status"],
    registry=REGISTRY,
)
NOTARY_STATEMENTS: Final = Counter(
    "restante_notary_statements",
    "Statements that this notary signed. None while records come in: look at its log.",
    registry=REGISTRY,
)
NOTARY_ROUND: Final = Gauge(
    "restante_notary_round_timestamp_seconds",
    "When the notary last had signed all that the log held (seconds since 1970). Minutes ago: look at its log.",
    registry=REGISTRY,
)
NOTARY_FINDINGS: Final = Gauge(
    "restante_notary_findings",
    "Places where log, statements and projection do not agree, at the last look. Any: GET /health here names them.",
    registry=REGISTRY,
)
