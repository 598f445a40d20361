"""GET /: what answers here and which calls there are, for people. One page without scripts, whose policy allows its style
and nothing else."""

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from html import escape
from typing import Final

from api.calls import Answer
from api.resource import Operation

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}"
    "td{padding:.2rem 1.2rem .2rem 0;vertical-align:top}code{font-size:14px}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}a{color:#8bf}}"
)
_ALLOWED: Final = b64encode(sha256(_STYLE.encode()).digest()).decode()
POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_ALLOWED}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
).encode()
_FIVE_MINUTES: Final = (b"cache-control", b"public, max-age=300")


def page(operations: Sequence[Operation], version: str) -> Answer:
    """The page of these calls."""
    rows = "".join(
        f"<tr><td><code>{escape(row.method)}</code><td><code>{escape(row.path)}</code><td>{escape(row.summary)}"
        for row in sorted(operations, key=lambda row: (row.path, row.method))
    )
    text = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Restante</title><style>{_STYLE}</style><h1>Restante</h1>"
        "<p>Poste restante: your mail is kept until you come for it. This is the address that clients talk to. "
        f'Version {escape(version)}, described for programs in <a href="/openapi.json">openapi.json</a>.</p>'
        f"<table>{rows}</table></html>"
    )
    return Answer(200, text.encode(), (_FIVE_MINUTES, (b"content-security-policy", POLICY)), b"text/html; charset=utf-8")
