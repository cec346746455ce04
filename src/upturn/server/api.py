"""Api: the operations over HTTP, from a path to an answer in JSON."""

import hashlib
import logging
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

import msgspec

from upturn.api.here import thing_of
from upturn.api.operation import AnyOperation, Ask, Asker, Page
from upturn.api.resources import PREFIX, all_operations, operations_of, resources
from upturn.core.errors import Invalid, NotFound, UpturnError, did_you_mean
from upturn.core.time import utcnow
from upturn.core.who import who
from upturn.deploy.serve.asgi import Receive, Scope, Send
from upturn.deploy.serve.problems import (
    BadRequest,
    Forbidden,
    NoSuchMethod,
    encode_headers,
    internal_problem,
    send_problem,
)
from upturn.deploy.serve.request import read_body, too_large
from upturn.server.pool import Pool
from upturn.server.requests import FIELDS, MSGPACK, from_body, from_query, read_query, text_of
from upturn.stores.tables import plain
from upturn.stores.workspace import Workspace

ASKER = "upturn.asker"  # in a request's scope: who asks
PATH = "upturn.path"  # likewise: what thing it is about, for the audit log
BODY_BYTES = 64 * 2**20
_ROLES = ("viewer", "editor", "deployer", "admin")
_QUERIED = ("GET", "DELETE")
_JSON = b"application/json"
_HTML = b"text/html"
_log = logging.getLogger("upturn.serve")


@dataclass(slots=True)
class _Place:
    """A place in the tree of paths: what is asked there, by method, and what lies below."""

    below: dict[str, "_Place"] = field(default_factory=dict[str, "_Place"])
    any: "tuple[str, _Place] | None" = None  # a field of the path, and what lies below its values
    methods: dict[str, AnyOperation] = field(default_factory=dict[str, AnyOperation])


class Api:
    """An ASGI application that answers the operations of a workspace."""

    def __init__(self, workspace: Workspace, in_thread: Pool) -> None:
        self._workspace = workspace
        self._in_thread = in_thread
        self._trees: dict[str, _Place] = {}
        self._self: Asker | None = None

    @staticmethod
    def takes(path: str) -> bool:
        """Whether the path is one of the API's."""
        return path.startswith(PREFIX) or path == PREFIX[:-1]

    @staticmethod
    def described() -> tuple[dict[str, Any], dict[str, Any]]:
        """Paths and schemas of all operations, for OpenAPI; slow the first time."""
        return _described()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            await self._answer(scope, receive, send)
        except UpturnError as error:
            if error.http_status >= 500 and error.code == "error":
                _log.error("%s", error, exc_info=error)
            await send_problem(send, error)
        except Exception:  # noqa: BLE001 (the one place that reports what nobody foresaw)
            _log.exception("%s %s could not be answered.", scope["method"], scope["path"])
            await send_problem(send, internal_problem())

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        operation, path = await self._find(scope)
        asker = scope.get(ASKER) or self._who()
        if _ROLES.index(asker.role) < _ROLES.index(operation.role):
            raise Forbidden(
                f"{asker.name} is a {asker.role}, and this takes a {operation.role}.",
                hint="Ask with a token of that role.",
            )
        query = read_query(scope["query_string"])
        wanted = _wanted(operation, query)
        headers = dict(scope["headers"])
        media = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        length = headers.get(b"content-length", b"")
        if len(length) > 18 or (length and int(length) > BODY_BYTES):
            raise too_large(BODY_BYTES)
        if operation.method in _QUERIED:
            request = from_query(operation.asks, path, query)
        else:
            if query:
                raise Invalid(
                    f"{next(iter(query))[:100]!r} is in the query of a {operation.method}.",
                    hint="Send it in the body.",
                )
            body = await read_body(receive, BODY_BYTES)
            # A page in a browser can send other kinds, or nothing, to any address without asking.
            if media not in (_JSON, MSGPACK):
                said = repr(media.decode("latin-1")) if media else "nothing"
                raise BadRequest(
                    f"The body is to be JSON, and its Content-Type says {said}.",
                    hint="Send the header: Content-Type: application/json",
                )
            request = from_body(operation.asks, path, body, media)
        accepted = headers.get(b"accept", b"")
        packed = MSGPACK in accepted
        shown = operation.page is not None and _HTML in accepted and not packed
        ask = Ask(self._workspace, asker, utcnow())
        if operation.method != "GET":
            scope[PATH] = thing_of(operation, request)
        data = await self._in_thread(_do, operation, ask, request, wanted, packed, shown)
        kind = MSGPACK if packed else _HTML if shown else _JSON
        about = {"content-type": kind.decode(), "cache-control": "no-cache"}
        status = operation.status
        if operation.method == "GET":
            tag = f'"{hashlib.blake2b(data, digest_size=12).hexdigest()}"'
            about["etag"] = tag
            about["vary"] = "accept"
            if _matches(headers.get(b"if-none-match", b"").decode("latin-1"), tag):
                status, data = 304, b""
        raw = encode_headers(about, data)
        if status in (204, 304):
            raw, data = [pair for pair in raw if pair[0] != b"content-length"], b""
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": data})

    def _who(self) -> Asker:
        if self._self is None:
            self._self = Asker(who())
        return self._self

    async def _find(self, scope: Scope) -> tuple[AnyOperation, dict[str, str]]:
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        if not raw.startswith(PREFIX.encode()):  # parts of it are written with %XX
            raise await self._nowhere(scope["path"], "")
        parts = [text_of(part) for part in raw[len(PREFIX) :].split(b"/")]
        tree = self._trees.get(parts[0])
        if tree is None:  # its module may be new to this process: it is not imported on the loop
            operations = await self._in_thread(operations_of, parts[0])
            if not operations:
                raise await self._nowhere(scope["path"], parts[0])
            tree = self._trees.setdefault(parts[0], grown(operations))
        place: _Place | None = tree
        found: dict[str, str] = {}
        for part in parts[1:]:
            assert place is not None
            nearer = place.below.get(part)
            if nearer is None and place.any is not None and part:
                found[place.any[0]] = part
                nearer = place.any[1]
            place = nearer
            if place is None:
                raise await self._nowhere(scope["path"], "")
        assert place is not None
        if not place.methods:
            raise await self._nowhere(scope["path"], "")
        method: str = scope["method"]
        operation = place.methods.get("GET" if method == "HEAD" else method)
        if operation is None:
            methods = [*place.methods, *(["HEAD"] if "GET" in place.methods else [])]
            allow = ", ".join(sorted(methods))
            raise NoSuchMethod(
                f"{method} is no method of {scope['path'][:100]}.",
                hint=f"Use {allow}.",
                allow=allow,
            )
        return operation, found

    async def _nowhere(self, path: str, segment: str) -> UpturnError:
        hint = did_you_mean(segment, await self._in_thread(resources)) if segment else ""
        return NotFound(f"There is nothing at {path[:100]}.", hint=hint or "See /openapi.json.")


@cache
def _described() -> tuple[dict[str, Any], dict[str, Any]]:
    from upturn.api.openapi import describe

    return describe(all_operations())


def grown(operations: tuple[AnyOperation, ...]) -> _Place:
    """The tree of the paths below their common first segment."""
    root = _Place()
    for operation in operations:
        place = root
        for part in operation.path.removeprefix(PREFIX).split("/")[1:]:
            if part.startswith("{"):
                name = part[1:-1]
                if place.any is None:
                    place.any = (name, _Place())
                if place.any[0] != name:
                    raise ValueError(f"{operation.path} calls {place.any[0]!r} {name!r}")
                place = place.any[1]
            else:
                place = place.below.setdefault(part, _Place())
        if operation.method in place.methods:
            raise ValueError(f"{operation.method} {operation.path} is there twice")
        place.methods[operation.method] = operation
    return root


def _wanted(operation: AnyOperation, query: dict[str, list[str]]) -> tuple[str, ...]:
    if FIELDS in operation.asks.__struct_fields__:
        return ()
    given = query.pop(FIELDS, [])
    return tuple(name.strip() for text in given for name in text.split(",") if name.strip())


def _do(
    operation: AnyOperation,
    ask: Ask,
    request: Any,
    wanted: tuple[str, ...],
    packed: bool,
    shown: bool,
) -> bytes:
    answer = operation.do(ask, request)
    if shown and operation.page is not None:
        return operation.page(answer).encode()
    if wanted:
        answer = _only(answer, wanted)
    if packed:
        return msgspec.msgpack.encode(answer, enc_hook=plain)
    return msgspec.json.encode(answer, enc_hook=plain)  # NaN and infinities are null


def _only(answer: Any, wanted: tuple[str, ...]) -> Any:
    """The answer with the wanted fields alone; those of a page are its items'."""
    if isinstance(answer, Page):
        page: Page[Any] = answer
        return {"items": [_part(item, wanted) for item in page.items], "cursor": page.cursor}
    return _part(answer, wanted)


def _part(item: Any, wanted: tuple[str, ...]) -> dict[str, Any]:
    whole: Any = msgspec.to_builtins(item, enc_hook=plain, builtin_types=(bytes,))
    if not isinstance(whole, dict):
        raise Invalid("This answer has no fields to choose from.", hint="Leave `fields` out.")
    found = cast("dict[str, Any]", whole)
    for name in wanted:
        if name not in found and name not in getattr(item, "__struct_fields__", ()):
            raise Invalid(f"There is no field {name[:100]!r}.", hint=did_you_mean(name, found))
    return {name: found.get(name) for name in wanted}


def _matches(given: str, tag: str) -> bool:
    tags = [each.strip().removeprefix("W/") for each in given.split(",")]
    return "*" in tags or tag in tags
