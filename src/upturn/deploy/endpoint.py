"""Endpoints: what clients call, created once and changed by a newer record of the same name."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import msgspec

from upturn.core.errors import Invalid, did_you_mean
from upturn.core.records import Endpoint, Version
from upturn.core.time import duration
from upturn.stores.workspace import Workspace

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_VERSIONS = 3  # how many of the newest versions are asked for their fields


def create_endpoint(
    workspace: Workspace, endpoint: Endpoint, *, now: datetime, exactly: bool = False
) -> Endpoint:
    """Store the endpoint and return it as stored; one that is stored so already is left as it is.

    A change (another unit, durable or not, what is logged) is a newer record. What the endpoint
    says nothing of, of the Log, stays as it is stored, so that code which names the endpoint does
    not undo a redaction; with `exactly` it is as given. Raises Invalid for a name that can't be
    part of an address, for a field to redact that no version has, for a rate or a time that is
    none, and for another model: give that an endpoint of its own.
    """
    if not _NAME.fullmatch(endpoint.name):
        raise Invalid(
            f"{endpoint.name!r} can't name an endpoint.",
            hint="Use up to 63 letters, digits, '.', '-' and '_', a letter or a digit first.",
        )
    stored = workspace.meta.find(Endpoint, endpoint.name)
    if stored is not None and stored.model_name != endpoint.model_name:
        raise Invalid(
            f"Endpoint {endpoint.name!r} serves model {stored.model_name!r}, "
            f"not {endpoint.model_name!r}.",
            hint="Give the other model an endpoint of its own name.",
        )
    if stored is not None and not exactly:
        endpoint = _as_stored(endpoint, stored)
    endpoint = msgspec.structs.replace(endpoint, redact=tuple(sorted(set(endpoint.redact))))
    if stored is not None and _settings(stored) == _settings(endpoint):
        return stored
    _check_redact(workspace, endpoint)
    _check_rates(endpoint.log_rates)
    if endpoint.keep_log is not None:
        kept_for(endpoint.keep_log)
    # The next number is said, not asked for: of two writers at a time one gets a Conflict.
    seq = 1 if stored is None else stored.seq + 1
    return workspace.meta.add(msgspec.structs.replace(endpoint, seq=seq, at=now))


def get_endpoint(workspace: Workspace, name: str) -> Endpoint:
    """The endpoint of that name as it is now. Raises NotFound, with the nearest name as a hint."""
    return workspace.meta.get(Endpoint, name)


def kept_for(keep_log: str) -> timedelta:
    """How long rows of the Log are kept. Raises Invalid for what is no duration, or none at all."""
    try:
        span = duration(keep_log)
    except OverflowError:
        raise Invalid(f"{keep_log!r} is longer than any time.", hint="Write '90d'.") from None
    if not span:
        raise Invalid(
            f"A Log can't be kept for {keep_log!r}.", hint="Write how long: '90d', or leave it out."
        )
    return span


def _as_stored(endpoint: Endpoint, stored: Endpoint) -> Endpoint:
    return msgspec.structs.replace(
        endpoint,
        redact=endpoint.redact or stored.redact,
        log_rates=endpoint.log_rates or stored.log_rates,
        keep_log=endpoint.keep_log or stored.keep_log,
    )


def _settings(endpoint: Endpoint) -> tuple[object, ...]:
    return (
        endpoint.unit,
        endpoint.durable,
        endpoint.redact,
        endpoint.log_rates,
        endpoint.keep_log,
    )


def _check_redact(workspace: Workspace, endpoint: Endpoint) -> None:
    if not endpoint.redact:
        return
    newest = workspace.meta.select(
        Version, model=endpoint.model_name, newest_first=True, limit=_VERSIONS
    )
    if not newest:
        return  # there is no model yet to know its fields by
    fields = {name for version in newest for name in version.signature.names}
    _refuse_unknown(endpoint, fields | ({endpoint.unit} if endpoint.unit else set()))


def _refuse_unknown(endpoint: Endpoint, fields: Iterable[str]) -> None:
    known = set(fields)
    for name in endpoint.redact:
        if name not in known:
            raise Invalid(
                f"{endpoint.model_name!r} has no field {name!r} to redact.",
                hint=did_you_mean(name, known),
            )


def _check_rates(rates: Mapping[str, float]) -> None:
    for arm, rate in rates.items():
        if not 0.0 < rate <= 1.0:
            raise Invalid(
                f"{rate:g} is no share of the rows of arm {arm!r}.",
                hint="A rate lies above 0 and up to 1: 0.1 logs a tenth of the rows.",
            )
