"""How to speak to each service: the requests of a scenario as bytes, the answers as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from tests.benchmarks.client import head
from tests.benchmarks.ledger import Letter, number_of

_encode = msgspec.json.Encoder().encode


def name(account: int) -> str:
    """The name of an account; all of one length, so that all requests are of one size."""
    return f"u{account:05d}"


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a mailbox: the numbers in the bodies, the ids to acknowledge, whether there is more."""

    numbers: list[int]
    ids: list[str | int]
    has_more: bool


class Dialect(Protocol):
    """The three calls of a mailbox. Accounts are numbers."""

    def post_head(self, sender: int) -> bytes:
        """POST of one message."""

    def post_body(self, letter: Letter) -> bytes:
        """Its body."""

    def sync_head(self, account: int, limit: int) -> bytes:
        """GET of the oldest messages of a mailbox."""

    def page(self, answer: bytes) -> Page:
        """The answer to it."""

    def ack(self, account: int, page: Page) -> tuple[bytes, bytes]:
        """Head and body of the acknowledgement of a page."""


class _Row(msgspec.Struct):
    id: str | int
    body: str


class _Answer(msgspec.Struct):
    messages: list[_Row]
    has_more: bool


_answer = msgspec.json.Decoder(_Answer).decode


def _page(answer: bytes) -> Page:
    found = _answer(answer)
    return Page([number_of(row.body) for row in found.messages], [row.id for row in found.messages], found.has_more)


class Plain:
    """The do-it-yourself peer: no login, the mailbox is named in the request."""

    def post_head(self, sender: int) -> bytes:
        """POST of one message."""
        return head("POST", "/messages")

    def post_body(self, letter: Letter) -> bytes:
        """Its body."""
        return _encode({"to": name(letter.recipient), "body": letter.text})

    def sync_head(self, account: int, limit: int) -> bytes:
        """GET of the oldest messages of a mailbox."""
        return head("GET", f"/messages/sync?to={name(account)}&limit={limit}")

    def page(self, answer: bytes) -> Page:
        """The answer to it."""
        return _page(answer)

    def ack(self, account: int, page: Page) -> tuple[bytes, bytes]:
        """Head and body of the acknowledgement of a page."""
        return head("POST", "/messages/ack"), _encode({"to": name(account), "ids": page.ids})


@dataclass(frozen=True, slots=True)
class Account:
    """An account that is logged in."""

    user_id: str
    token: str


class _Result(msgspec.Struct):
    id: str | None = None
    problem: dict[str, object] | None = None


class _Results(msgspec.Struct):
    results: list[_Result]


_results = msgspec.json.Decoder(_Results).decode


class Restante:
    """The project's HTTP interface, with a token an account."""

    def __init__(self, accounts: Sequence[Account]) -> None:
        self.accounts = accounts

    def post_head(self, sender: int) -> bytes:
        """POST of one message."""
        return head("POST", "/messages", self.accounts[sender].token)

    def post_body(self, letter: Letter) -> bytes:
        """Its body."""
        return _encode({"to": name(letter.recipient), "body": letter.text})

    def batch_head(self, sender: int) -> bytes:
        """POST of many messages."""
        return head("POST", "/messages/batch", self.accounts[sender].token)

    def batch_body(self, letters: Sequence[Letter]) -> bytes:
        """Their body."""
        return _encode({"messages": [{"to": name(letter.recipient), "body": letter.text} for letter in letters]})

    def batch_results(self, answer: bytes) -> list[str | None]:
        """Of each message: None where it is stored, else the code of the problem."""
        return [
            str((result.problem or {}).get("code")) if result.id is None else None for result in _results(answer).results
        ]

    def sync_head(self, account: int, limit: int) -> bytes:
        """GET of the oldest messages of a mailbox."""
        return head("GET", f"/messages/sync?limit={limit}", self.accounts[account].token)

    def page(self, answer: bytes) -> Page:
        """The answer to it."""
        return _page(answer)

    def ack(self, account: int, page: Page) -> tuple[bytes, bytes]:
        """Head and body of the acknowledgement of a page."""
        return head("POST", "/messages/ack", self.accounts[account].token), _encode({"ids": page.ids})

    def status(self, account: int, ids: Sequence[str]) -> tuple[bytes, bytes]:
        """Head and body of the question what became of messages."""
        return head("POST", "/messages/status", self.accounts[account].token), _encode({"ids": ids})
