"""Oidc: the OpenID provider by which people log in, and what its claims let them do."""

from typing import Any
from urllib.parse import urlsplit

import msgspec

from upturn.core.access import Role, reaches
from upturn.core.errors import Invalid

ALL_PROJECTS = "*"
_LOCAL = ("localhost", "127.0.0.1", "::1")


class Oidc(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `[oidc]` of upturn.toml, or `[tool.upturn.oidc]` of pyproject.toml."""

    issuer: str
    client_id: str
    url: str = ""  # of this server, as browsers know it; by default as they ask it
    name: str = "your organisation"  # what the button calls the provider
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    who: str = "email"  # the claim that names a person
    claim: str = "groups"  # the claim that says what they may, a text or a list of texts
    roles: dict[str, Role] = {}  # its value → role; the highest one holds
    projects: dict[str, tuple[str, ...]] = {}  # its value → projects, '*' for all
    role: Role | None = None  # of those whose claim has none of the roles; None: they are refused


def oidc_settings(table: object) -> Oidc:
    """The settings as they are written. Raises Invalid for what does not fit."""
    try:
        found = msgspec.convert(table, Oidc)
    except msgspec.ValidationError as error:
        raise Invalid(
            f"The settings of [oidc] do not fit: {error}.", hint="See access.md."
        ) from None
    for name, url in (("issuer", found.issuer), ("url", found.url or found.issuer)):
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOCAL):
            raise Invalid(f"The {name} of [oidc] is {url!r}.", hint="It begins with https://.")
    return found


def role_of(settings: Oidc, claims: dict[str, Any]) -> Role | None:
    """The highest role that the claims give; None when they give none.

    >>> settings = Oidc(issuer="https://x", client_id="y", roles={"ml": "editor", "ops": "admin"})
    >>> role_of(settings, {"groups": ["ml", "ops"]}), role_of(settings, {"groups": "tea"})
    ('admin', None)
    """
    highest = settings.role
    for value in values_of(settings, claims):
        role = settings.roles.get(value)
        if role is not None and (highest is None or reaches(role, highest)):
            highest = role
    return highest


def projects_of(settings: Oidc, claims: dict[str, Any]) -> frozenset[str] | None:
    """The projects that the claims open: None for all, which is so where no mapping is written.

    >>> settings = Oidc(issuer="https://x", client_id="y", projects={"ml": ("delays",)})
    >>> projects_of(settings, {"groups": ["ml"]}), projects_of(settings, {})
    (frozenset({'delays'}), frozenset())
    """
    if not settings.projects:
        return None
    found: set[str] = set()
    for value in values_of(settings, claims):
        found.update(settings.projects.get(value, ()))
    return None if ALL_PROJECTS in found else frozenset(found)


def values_of(settings: Oidc, claims: dict[str, Any]) -> list[str]:
    """The texts of the claim that says what somebody may."""
    value: Any = claims.get(settings.claim)
    values: list[Any] = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, str)]
