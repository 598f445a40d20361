"""GET /openapi.json: the route table and the models that validate, written as OpenAPI 3.1."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from api.access import Caller
from api.frames import MEANINGS, SUBPROTOCOL
from api.models import EXACTLY_ONE, NAME, NoQuery, ProblemDetails
from api.problems import PROBLEMS, Code
from api.resource import Operation

REF: Final = "#/components/schemas/{name}"
_EVERYWHERE: Final[tuple[Code, ...]] = (
    "internal_error",
    "invalid_request",
    "malformed",
    "host_unknown",
    "request_timeout",
    "url_too_long",
    "headers_too_large",
)
_SECURED: Final[tuple[Code, ...]] = ("token_missing", "token_invalid", "token_expired", "token_revoked")
_SECURITY: Final[Mapping[Caller, Any]] = {"anyone": [], "account": [{"bearer": []}], "socket": [{"bearer": []}, {}]}
_COUNTED: Final[tuple[Code, ...]] = ("rate_limited",)
_HEADERS: Final = {"401": ("WWW-Authenticate",), "429": ("Retry-After",), "503": ("Retry-After",)}
_TEXT: Final = {"type": "string"}
_ID: Final = {"type": "string", "format": "uuid"}
_IN_PATHS: Final = {"name": {"type": "string", "pattern": NAME}}
"""Parameters of paths that are no ids."""
_IN_HEADERS: Final = {"Idempotency-Key": {"type": "string", "minLength": 1, "maxLength": 255}}
"""Headers of which more is known than that they are text."""
_BEARER: Final = (
    "An access token of POST /tokens. Where an outside OpenID provider keeps the accounts (POST /tokens says so: "
    "accounts_elsewhere), one of its tokens, and with each call the header Restante-Device: a label of 1 to 64 printable "
    "characters, in UTF-8. The same label is the same device."
)
_WITHOUT_CONTENT: Final = (101, 204)
_FRAMES: Final = ("ClientFrame", "ServerFrame")
_WITH_BODY: Final[tuple[Code, ...]] = ("body_too_large", "unsupported_media_type")


def document(operations: Sequence[Operation], version: str, public_url: str | None = None) -> dict[str, Any]:
    """The OpenAPI document of these operations. Without `public_url` they are where the document was found."""
    types = [ProblemDetails, *(kind for row in operations for kind in _types(row))]
    schemas, components = msgspec.json.schema_components(types, ref_template=REF)
    schema_of = dict(zip(types, schemas, strict=True))
    for kind, fields in EXACTLY_ONE.items():
        components[kind.__name__]["oneOf"] = [{"required": [field]} for field in fields]
    paths: dict[str, dict[str, Any]] = {}
    for row in operations:
        components.update((name, schema_of[kind]) for name, kind in zip(_FRAMES, row.frames or (), strict=False))
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row, schema_of, components)
    said: dict[str, Any] = _portable(
        {
            "openapi": "3.1.0",
            "info": {"title": "Restante", "version": version, "description": "Offline message delivery on an event log."},
            **({"servers": [{"url": public_url}]} if public_url else {}),
            "paths": paths,
            "components": {
                "schemas": {name: schema for name, schema in components.items() if not name.endswith("Query")},
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": _BEARER}
                },
            },
        }
    )
    return said


def _types(row: Operation) -> list[Any]:
    answers = [kind for given in row.answers.values() for kind in _each(given)]
    return [kind for kind in (row.body, row.query, *answers, *row.parts, *(row.frames or ())) if kind is not None]


def _each(kind: Any) -> tuple[Any, ...]:
    return kind if isinstance(kind, tuple) else (kind,)


def _operation(row: Operation, schema_of: Mapping[Any, Any], components: Mapping[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {
        "operationId": row.handler.__qualname__,
        "summary": row.summary,
        "parameters": [*_path_parameters(row.path), *_query_parameters(row, components), *_header_parameters(row)],
        "responses": _responses(row, schema_of),
        "security": _SECURITY[row.access.caller],
    }
    if row.frames:
        said["x-websocket"] = {
            "subprotocol": SUBPROTOCOL,
            **{name: {"$ref": REF.format(name=name)} for name in _FRAMES},
            "closeCodes": {str(code.value): meaning for code, meaning in MEANINGS.items()},
        }
    if row.notes:
        said["description"] = row.notes
    if row.body is not None:
        said["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema_of[row.body]}}}
    return said


def _responses(row: Operation, schema_of: Mapping[Any, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for status, kind in row.answers.items():
        schemas = [schema_of[one] if one is not None else {"type": "object"} for one in _each(kind)]
        content = {"application/json": {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}}
        said[str(status)] = {"description": "As asked." if status < 400 else "See the reasons."}
        if status != 204:
            said[str(status)]["content"] = content
    for status, codes in sorted(_by_status(row).items()):
        content = {"application/problem+json": {"schema": {"$ref": REF.format(name="ProblemDetails")}}}
        refusal = said.setdefault(str(status), {"description": "", "content": {}})
        titles = "; ".join(f"`{code}`: {PROBLEMS[code].title}" for code in codes)
        refusal["description"] = f"{refusal['description']} {titles}".strip()
        refusal["content"].update(content)
    for key, described in said.items():
        named = [*_HEADERS.get(key, ()), "X-Request-Id", *(row.gives if key < "300" else ())]
        described["headers"] = {name: {"schema": _TEXT} for name in named}
    return said


def _by_status(row: Operation) -> dict[int, list[Code]]:
    codes = [
        *row.problems,
        *_EVERYWHERE,
        *((row.access.otherwise,) if row.access.otherwise in PROBLEMS else ()),
        *(_SECURED if row.access.caller != "anyone" else ()),
        *(_COUNTED if row.rate else ()),
        *(_WITH_BODY if row.body is not None else ()),
    ]
    found: dict[int, list[Code]] = {}
    for code in dict.fromkeys(codes):
        found.setdefault(PROBLEMS[code].status, []).append(code)
    return found


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": _IN_PATHS.get(name, _ID)}
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def _query_parameters(row: Operation, components: Mapping[str, Any]) -> list[dict[str, Any]]:
    if row.query is NoQuery:
        return []
    properties = components[row.query.__name__]["properties"]
    return [{"name": name, "in": "query", "required": False, "schema": schema} for name, schema in properties.items()]


def _header_parameters(row: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "required": False, "schema": _IN_HEADERS.get(name, _TEXT), "description": meaning}
        for name, meaning in row.headers
    ]


def _portable(value: Any) -> Any:
    r"""The same with regular expressions as JSON Schema knows them: `$` for Python's `\Z`, and descriptions on one line."""
    if isinstance(value, dict):
        return {key: _text(key, inner) for key, inner in value.items()}
    return [_portable(inner) for inner in value] if isinstance(value, list) else value


def _text(key: str, value: Any) -> Any:
    if isinstance(value, str):
        return value.replace(r"\Z", "$") if key == "pattern" else " ".join(value.split()) if key == "description" else value
    return _portable(value)
