"""Paths of artifacts, as clients write them: made plain, and refused when they lead elsewhere."""

import re
from urllib.parse import unquote, urlparse

from upturn.adapters.mlflow.errors import MlflowError

_DECODINGS = 10
_PATH_MOST = 4096
_DRIVE = re.compile(r"[A-Za-z]:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def plain_path(given: str) -> str:
    """The path below some root, without what means nothing; '' is the root itself.

    >>> plain_path("model/./data//x.txt"), plain_path(".")
    ('model/data/x.txt', '')

    Raises MlflowError for what would lead out of the root, in whatever coding it comes.
    """
    path = decoded(given)
    if (
        len(path) > _PATH_MOST
        or _CONTROL.search(path)
        or "\\" in path
        or "#" in path
        or path.startswith(("/", "~"))
        or path[:5].lower() == "file:"
        or _DRIVE.match(path)
        or ".." in path.split("/")
    ):
        raise MlflowError("Invalid path")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise MlflowError("Invalid path") from None
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def decoded(text: str) -> str:
    """The text without percent signs that stand for something, however often they were put."""
    for _ in range(_DECODINGS):
        plain = unquote(text, errors="strict") if _is_utf8(text) else text
        if plain == text:
            return text
        text = plain
    raise MlflowError("Invalid path")


def artifact_path_of(uri: str) -> str | None:
    """The path of an artifact that this server keeps; None for what is kept elsewhere."""
    try:
        parsed = urlparse(uri)
    except ValueError:
        return None
    if parsed.scheme != "mlflow-artifacts" or parsed.query:
        return None
    return parsed.path.strip("/")


def _is_utf8(text: str) -> bool:
    try:
        unquote(text, errors="strict")
    except UnicodeDecodeError:
        return False
    return True
