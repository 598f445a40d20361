"""The outside OpenID provider that keeps the accounts, where one is set."""

from __future__ import annotations

import time

from api.provider import Outside, Provider, ProviderUnreadable
from deploy.errors import DeployError
from deploy.settings import Settings


def outside_of(settings: Settings) -> Outside | None:
    """Whose tokens are taken instead of our own."""
    if settings.oidc_issuer is None:
        return None
    return Outside(
        issuer=settings.oidc_issuer,
        audience=settings.oidc_audience,
        jwks_url=settings.oidc_jwks_url,
        name_claim=settings.oidc_name_claim,
    )


async def provider_keys(outside: Outside) -> int:
    """How many usable keys the provider has. DeployError says why there is none to be had."""
    try:
        return await Provider(outside, time.time).look()
    except ProviderUnreadable as error:
        raise DeployError(str(error)) from error
