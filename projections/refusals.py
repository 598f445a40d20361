"""Why PostgreSQL does not let us in, in words that name the setting. A server that is merely away refuses nothing."""

from typing import Final

import psycopg

from projections.database import connect_options

_SAID: Final = (
    (
        ("certificate verify failed",),
        "its certificate does not come from an authority that sslrootcert in RESTANTE_DATABASE_URL names."
        " Name the file with the right one",
    ),
    (
        ("does not match host name",),
        "its certificate is for another name. Give a name in RESTANTE_DATABASE_URL that the certificate has",
    ),
    (
        ("root certificate file",),
        "the file of sslrootcert in RESTANTE_DATABASE_URL cannot be read. Correct its path or rights",
    ),
    (("does not support SSL",), "it does not speak TLS, which sslmode in RESTANTE_DATABASE_URL asks for. Turn ssl on in it"),
    (
        (
            "authentication failed",
            "no password supplied",
            "does not exist",
            "not permitted to log in",
            "no pg_hba.conf entry",
        ),
        "user, password or database are wrong, or this user may not come from here. Correct RESTANTE_DATABASE_URL;"
        " `restante grants` makes the users of the roles",
    ),
    (("permission denied for database",), "this user has no right to this database. Run `restante grants` as a superuser"),
)


async def refused(url: str) -> str | None:
    """Why the server refuses us; None where it lets us in, or does not answer at all."""
    try:
        async with await psycopg.AsyncConnection.connect(url, **connect_options()):
            return None
    except psycopg.OperationalError as error:
        said = str(error)
    for signs, meaning in _SAID:
        if any(sign in said for sign in signs):
            return f"PostgreSQL does not let us in: {meaning}. It says: {said.strip().splitlines()[-1].strip()}"
    return None
