"""A person's side of the HTTP calls: addresses, tokens kept between commands, problems told in words."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from deploy.errors import DeployError, Refused
from deploy.local.home import Home, write_whole
from deploy.settings import Settings
from deploy.tls import trust

_SECONDS = 40.0
"""A long poll may take 30 s."""
_ATTEMPTS = 4
_REMEDIES: Mapping[str, str] = {
    "bad_credentials": "check name and password; `restante login NAME --create` makes an account",
    "name_taken": "choose another name, or log in without --create",
    "accounts_elsewhere": "these commands cannot log in there; come with the provider's token over HTTP",
    "signup_closed": "ask the operator of the service for an account",
    "recipient_unknown": "check the name of the recipient",
    "token_missing": "run `restante login`",
    "token_invalid": "run `restante login`",
    "token_revoked": "run `restante login`",
    "token_reused": "run `restante login`",
    "message_unknown": "check the id, and that you are its sender or recipient",
    "rate_limited": "wait a little and send again",
    "mailbox_full": "the recipient has to sync first",
    "sender_share_full": "the recipient has to sync first",
    "log_unavailable": "see `restante status`; the same command again is safe",
}


class Problem(Refused):
    """The service said no. `code` is stable, the text is for a person."""

    def __init__(self, status: int, document: Mapping[str, Any], retry_after: float | None) -> None:
        self.status = status
        self.code = str(document.get("code", "unknown"))
        self.retry_after = retry_after
        said = ": ".join(str(document[part]) for part in ("title", "detail") if document.get(part))
        advice = _REMEDIES.get(self.code)
        what = f"{said or f'the service answered {status}'} ({self.code})"
        super().__init__(f"{what}. What to do: {advice}" if advice else what)


def service_url(settings: Settings) -> str:
    """RESTANTE_URL, else that of the `up` that runs in the data directory. DeployError (exit 3) where there is neither."""
    if settings.url:
        return settings.url
    published = Home(settings.data_dir).published()
    if published is None:
        raise DeployError(
            f"no service is known: nothing runs in {settings.data_dir}. Start `restante up`, or set RESTANTE_URL"
        )
    return str(published["url"])


@dataclass(slots=True)
class Service:
    """One service, without a login."""

    url: str
    ca: Path | None = None

    def trust(self) -> ssl.SSLContext | None:
        """How its certificate is checked, where it has one."""
        return trust(self.ca) if self.url.startswith("https:") else None

    def call(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """One request; the answer's JSON, None for an empty one.

        `Problem` where it is refused, DeployError where nobody answers.
        """
        parts = urlsplit(self.url)
        host, port, context = parts.hostname or "", parts.port, self.trust()
        if context is None:
            connection = http.client.HTTPConnection(host, port, timeout=_SECONDS)
        else:
            connection = http.client.HTTPSConnection(host, port, timeout=_SECONDS, context=context)
        sent = {"Accept": "application/json", **(headers or {})}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        if body is not None:
            sent["Content-Type"] = "application/json"
        try:
            connection.request(method, parts.path + path, None if body is None else json.dumps(body), sent)
            answer = connection.getresponse()
            text = answer.read()
        except ssl.SSLCertVerificationError as error:
            raise DeployError(
                f"{self.url} has a certificate that does not fit ({error.verify_message}). Set RESTANTE_URL to the name "
                "that is in the certificate, and RESTANTE_URL_CA to its authority's, where the system does not know that"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise DeployError(f"{self.url} does not answer ({error}). Is it running? See `restante status`") from error
        finally:
            connection.close()
        return _document(answer, text)


def _document(answer: http.client.HTTPResponse, text: bytes) -> Any:
    try:
        document = json.loads(text) if text else None
    except ValueError:
        document = None
    if answer.status >= 400:
        wait = answer.getheader("Retry-After", "")
        known = document if isinstance(document, dict) else {}
        raise Problem(answer.status, known, float(wait) if wait.replace(".", "", 1).isdigit() else None)
    return document


@dataclass(slots=True)
class Login:
    """An account of a service: its tokens live in a file that only its owner reads, and are renewed when they end."""

    service: Service
    file: Path
    tokens: dict[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        """The account's name."""
        return str(self.tokens["name"])

    @property
    def fresh_for(self) -> float:
        """Seconds until the access token has to be renewed; negative where that is overdue."""
        return float(self.tokens["expires_at"]) - time.time()

    def access_token(self) -> str:
        """An access token that has not expired as far as we know."""
        if self.fresh_for < 0:
            self.renew()
        return str(self.tokens["access_token"])

    def call(self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None) -> Any:
        """A request as this account; an expired access token is renewed once."""
        try:
            return self.service.call(method, path, body, token=self.access_token(), headers=headers)
        except Problem as problem:
            if problem.code != "token_expired":
                raise
        self.renew()
        return self.service.call(method, path, body, token=self.tokens["access_token"], headers=headers)

    def send(self, to: str, body: Mapping[str, Any], key: str) -> Any:
        """POST a message; the key makes it safe to repeat, so a service that is away is asked again a few times."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self.call("POST", "/messages", {"to": to, **body}, headers={"Idempotency-Key": key})
            except Problem as problem:
                if problem.status not in (429, 503) or attempt == _ATTEMPTS:
                    raise
                time.sleep(min(problem.retry_after or 1.0, 10.0))
            except DeployError:
                if attempt == _ATTEMPTS:
                    raise
                time.sleep(1.0)
        raise AssertionError("the last attempt returns or raises")

    def renew(self) -> None:
        """Get new tokens, or take those that another command of this login has got meanwhile.

        One command at a time: a refresh token that two of them use would look stolen, and log the device out.
        """
        with _held(self.file.with_suffix(".lock")):
            kept = json.loads(self.file.read_text(encoding="utf-8"))
            if kept["refresh_token"] != self.tokens["refresh_token"]:
                self.tokens = kept
                if self.fresh_for > 0:
                    return
            fresh = self.service.call("POST", "/tokens/refresh", {"refresh_token": self.tokens["refresh_token"]})
            self.tokens = {**self.tokens, **_kept(fresh)}
            write_whole(self.file, json.dumps(self.tokens))


def sign_up(service: Service, name: str, password: str) -> None:
    """Make an account. `Problem` where the name is taken or the service takes none."""
    service.call("POST", "/accounts", {"name": name, "password": password})


def log_in(service: Service, directory: Path, name: str, password: str, device: str) -> Login:
    """Get tokens and keep them below `directory` as the account that the next commands act for."""
    answer = service.call("POST", "/tokens", {"name": name, "password": password, "device": device})
    place = _place(directory, service.url)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    login = Login(service, place / f"{name}.json", {"name": name, **_kept(answer)})
    write_whole(login.file, json.dumps(login.tokens))
    write_whole(place / "current", name)
    return login


def logged_in(service: Service, directory: Path, name: str | None) -> Login:
    """The login of an account, by default the one that logged in last. Refused (exit 1) where there is none."""
    place = _place(directory, service.url)
    try:
        name = name or (place / "current").read_text(encoding="utf-8").strip()
        file = place / f"{name}.json"
        return Login(service, file, json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        who = f"{name} is" if name else "nobody is"
        raise Refused(f"{who} logged in at {service.url}. Run `restante login {name or 'NAME'}`") from error


def tokens_directory(environment: Mapping[str, str]) -> Path:
    """`$XDG_CONFIG_HOME/restante`, else `~/.config/restante`: tokens belong to the person, not to a service's data."""
    root = environment.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(root, "restante")


@contextmanager
def _held(lock: Path) -> Iterator[None]:
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _place(directory: Path, url: str) -> Path:
    return directory / sha256(url.encode()).hexdigest()[:16]


def _kept(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a token answer. It counts as expired a little early, so that no request is wasted."""
    wanted = {name: answer[name] for name in ("access_token", "refresh_token", "user_id", "device_id")}
    return {**wanted, "expires_at": time.time() + float(answer["expires_in"]) - 10}


def message_path(message_id: str, rest: str = "") -> str:
    """The path of a message, whatever was typed as its id."""
    return f"/messages/{quote(message_id, safe='')}{rest}"
