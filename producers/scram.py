"""Kafka's own users: which of them can log in with a password (SCRAM), and setting one. Passwords do not leave this process:
Kafka gets what they come to.

Messages 50 and 51 of Kafka's protocol guide (DescribeUserScramCredentials, AlterUserScramCredentials, version 0), which
aiokafka 0.14 does not speak.
"""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    CompactArray,
    CompactBytes,
    CompactString,
    Int8,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from producers.acls import ask

ITERATIONS: Final = 8_192
_MECHANISMS: Final = {1: "sha256", 2: "sha512"}
"""A user gets both, and a client takes which it likes."""

_NO_SUCH_USER: Final = 91
_TEXT: Final = CompactString("utf-8")
_TAGS: Final = ("tags", TaggedFields)


async def with_password(admin: AIOKafkaAdminClient, users: Sequence[str]) -> set[str]:
    """Those of these users who can log in with a password."""
    answer = await ask(admin, _Describe(users))
    if answer.error_code:
        raise for_code(answer.error_code)(answer.error_message)
    there = set()
    for user, code, message, infos, *_ in answer.results:
        if code and code != _NO_SUCH_USER:
            raise for_code(code)(message)
        if {mechanism for mechanism, *_ in infos or ()} >= _MECHANISMS.keys():
            there.add(user)
    return there


async def set_passwords(admin: AIOKafkaAdminClient, passwords: Mapping[str, str]) -> None:
    """Make these users, or give them these passwords; others keep theirs."""
    for mechanism, digest in _MECHANISMS.items():  # a request may name a user once only
        rows: list[tuple[Any, ...]] = []
        for user, password in passwords.items():
            salt = secrets.token_bytes(32)
            salted = hashlib.pbkdf2_hmac(digest, password.encode(), salt, ITERATIONS)
            rows.append((user, mechanism, ITERATIONS, salt, salted, {}))
        for _, code, message, *_ in (await ask(admin, _Alter(rows))).results if rows else ():
            if code:
                raise for_code(code)(message)


class _Described(Response):  # type: ignore[misc]
    API_KEY = 50
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("error_message", _TEXT),
        (
            "results",
            CompactArray(
                ("user", _TEXT),
                ("error_code", Int16),
                ("error_message", _TEXT),
                ("infos", CompactArray(("mechanism", Int8), ("iterations", Int32), _TAGS)),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class _DescribeStruct(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 50
    API_VERSION = 0
    RESPONSE_TYPE = _Described
    SCHEMA = Schema(("users", CompactArray(("name", _TEXT), _TAGS)), _TAGS)


class _Describe(Request[_DescribeStruct]):  # type: ignore[misc]
    API_KEY = 50

    def __init__(self, users: Sequence[str]) -> None:
        self._users = users

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class([(user, {}) for user in self._users], {})


class _Altered(Response):  # type: ignore[misc]
    API_KEY = 51
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("results", CompactArray(("user", _TEXT), ("error_code", Int16), ("error_message", _TEXT), _TAGS)),
        _TAGS,
    )


class _AlterStruct(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 51
    API_VERSION = 0
    RESPONSE_TYPE = _Altered
    SCHEMA = Schema(
        ("deletions", CompactArray(("name", _TEXT), ("mechanism", Int8), _TAGS)),
        (
            "upsertions",
            CompactArray(
                ("name", _TEXT),
                ("mechanism", Int8),
                ("iterations", Int32),
                ("salt", CompactBytes),
                ("salted_password", CompactBytes),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class _Alter(Request[_AlterStruct]):  # type: ignore[misc]
    API_KEY = 51

    def __init__(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self._rows = rows

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class([], self._rows, {})
