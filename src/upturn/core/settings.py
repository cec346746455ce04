"""Settings: where things are kept and how much of the machine may be used, read once."""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from upturn.core.errors import Invalid, did_you_mean
from upturn.core.machine import total_bytes
from upturn.core.size import size_bytes

if TYPE_CHECKING:
    from upturn.core.oidc import Oidc

MARKERS = ("upturn.toml", "pyproject.toml")  # beside a project's files
# Every variable that Upturn reads; a test compares this table with the documentation.
VARIABLES = {
    "UPTURN_HOME": "the directory in which everything is kept",
    "UPTURN_SERVER": "the server that keeps everything, instead of a directory",
    "UPTURN_TOKEN": "what the server knows this client by",
    "UPTURN_CORES": "how many processor cores runs may use at a time",
    "UPTURN_MEMORY": "how much memory runs may use at a time",
    "UPTURN_GPUS": "which GPUs runs may use",
    "UPTURN_PORT": "the port on which endpoints are served",
    "UPTURN_DEADLINE_MS": "within how many milliseconds a request is answered or refused",
    "UPTURN_WORKERS": "how many processes answer requests",
    "UPTURN_SYSTEM_METRICS": "whether runs record what they use of the machine",
    "UPTURN_ACCESS_LOG": "the file to which a server writes a line for each request",
    "UPTURN_OIDC_SECRET": "the secret that the OpenID provider knows this server by",
    "UPTURN_HOOKS": "`public`: webhooks are posted to public addresses alone",
    "UPTURN_DEMAND_TOKENS": "whether a server on loopback, too, has to be shown a token",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """Where things are kept and how much of the machine may be used."""

    home: Path
    why_home: str  # one phrase for `upturn status`
    project: str
    root: Path  # the project's directory: paths of code are relative to it
    cores: int
    memory_bytes: int
    gpus: tuple[str, ...]  # their numbers, as CUDA_VISIBLE_DEVICES has them
    port: int
    deadline_s: float = 30.0  # within which a request is answered or refused, unless it says so
    workers: int = 1
    access_log: str = ""  # a file, "-" for stdout, or "" for none
    system_metrics: bool = False  # whether runs record what they use of the machine
    traces: bool = False  # whether the standard variables name a collector of traces
    server: str = ""  # the URL of who keeps records and blobs; '' for the home itself
    token: str = field(default="", repr=False)  # that the server knows us by
    demand_tokens: bool = False  # on loopback, too
    oidc: "Oidc | None" = None  # by whom people log in
    oidc_secret: str = field(default="", repr=False)
    public_hooks: bool = False  # webhooks are posted to public addresses alone
    bundle: Path | None = None  # what `upturn build` put here to be served: it is only read


def load_settings(cwd: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings for a working directory and an environment; the process's own by default.

    `.upturn/` lies beside the nearest `upturn.toml` or `pyproject.toml` at or above the directory,
    else in the home directory; `UPTURN_HOME` overrides. Raises Invalid for a bad value.
    """
    cwd = (cwd or Path.cwd()).resolve()
    environ = os.environ if environ is None else environ
    _refuse_unknown(environ)
    root = _project_root(cwd)
    home, why = _home(root, environ)
    table = _table(root)
    bundle = _bundle(root, table)
    if bundle is not None and (code := bundle.parent / "code").is_dir():
        root = code
    return Settings(
        home=home,
        why_home=why,
        project=str(table.get("project") or _slug((root or cwd).name)),
        root=root or cwd,
        cores=_number(environ, "UPTURN_CORES", default=_usable_cores(), low=1),
        memory_bytes=_memory(environ),
        gpus=_gpus(environ),
        port=_number(environ, "UPTURN_PORT", default=8600, low=0),
        deadline_s=_number(environ, "UPTURN_DEADLINE_MS", default=30_000, low=1) / 1000,
        bundle=bundle,
        server=_server(environ),
        token=environ.get("UPTURN_TOKEN", "").strip(),
        workers=_number(environ, "UPTURN_WORKERS", default=1, low=1),
        access_log=_access_log(environ, cwd),
        system_metrics=_switch(environ, "UPTURN_SYSTEM_METRICS"),
        traces=_traces(environ),
        public_hooks=_public_hooks(environ),
        demand_tokens=_switch(environ, "UPTURN_DEMAND_TOKENS"),
        oidc=_oidc(table),
        oidc_secret=environ.get("UPTURN_OIDC_SECRET", ""),
    )


def wants_plain_lines(environ: Mapping[str, str] | None = None) -> bool:
    """Whether the terminal can't move its cursor, or its user wants nothing but text.

    >>> wants_plain_lines({"TERM": "dumb"}), wants_plain_lines({"TERM": "xterm", "NO_COLOR": ""})
    (True, False)
    """
    environ = os.environ if environ is None else environ
    return bool(environ.get("NO_COLOR")) or environ.get("TERM", "dumb") in ("dumb", "unknown", "")


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    for name in environ:
        if name.startswith("UPTURN_") and name not in VARIABLES:
            raise Invalid(
                f"Upturn has no setting {name}.", hint=did_you_mean(name, VARIABLES), setting=name
            )


def _project_root(cwd: Path) -> Path | None:
    for directory in (cwd, *cwd.parents):
        if any((directory / marker).is_file() for marker in MARKERS):
            return directory
    return None


def _home(root: Path | None, environ: Mapping[str, str]) -> tuple[Path, str]:
    if given := environ.get("UPTURN_HOME"):
        return Path(given).expanduser().resolve(), "UPTURN_HOME says so"
    if root is not None:
        return root / ".upturn", f"beside the project's files in {root}"
    return Path.home() / ".upturn", "no project here, so in the home directory"


def _table(root: Path | None) -> dict[str, object]:
    if root is None:
        return {}
    try:
        if (root / "upturn.toml").is_file():
            return tomllib.loads((root / "upturn.toml").read_text())
        pyproject = tomllib.loads((root / "pyproject.toml").read_text())
        return pyproject.get("tool", {}).get("upturn", {})
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"A settings file in {root} is not valid TOML: {error}.") from None


def _bundle(root: Path | None, table: Mapping[str, object]) -> Path | None:
    name = table.get("bundle")
    if root is None or name is None:
        return None
    if not isinstance(name, str) or not (root / name / "upturn.db").is_file():
        raise Invalid(
            f"The settings in {root} say that {name!r} is to be served, and there is none such.",
            hint="Build the folder again: upturn build NAME",
        )
    return root / name


def _server(environ: Mapping[str, str]) -> str:
    given = environ.get("UPTURN_SERVER", "").strip()
    return server_url(given) if given else ""


def server_url(text: str) -> str:
    """The address of a server as it is used. Raises Invalid for what is none.

    >>> server_url("http://host:8600/")
    'http://host:8600'
    """
    try:
        parts = urlsplit(text)
        fits = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fits = False
    if not fits or parts.query or parts.fragment or parts.username:  # pyright: ignore[reportPossiblyUnboundVariable]
        raise Invalid(
            f"{text!r} is no address of a server.",
            hint="Write it as http://host:8600; a token goes into UPTURN_TOKEN.",
            setting="UPTURN_SERVER",
        )
    return text.rstrip("/")


def _oidc(table: Mapping[str, object]) -> "Oidc | None":
    if "oidc" not in table:
        return None
    from upturn.core.oidc import oidc_settings

    return oidc_settings(table["oidc"])


def _access_log(environ: Mapping[str, str], cwd: Path) -> str:
    given = environ.get("UPTURN_ACCESS_LOG", "")
    return given if given in ("", "-") else str(cwd / Path(given).expanduser())


def _public_hooks(environ: Mapping[str, str]) -> bool:
    given = environ.get("UPTURN_HOOKS", "any")
    if given not in ("any", "public"):
        raise Invalid(
            f"UPTURN_HOOKS is {given!r}.",
            hint="It takes public, or any.",
            setting="UPTURN_HOOKS",
        )
    return given == "public"


def _traces(environ: Mapping[str, str]) -> bool:
    """By OpenTelemetry's own variables; what else they say is read by its library."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if environ.get("OTEL_TRACES_EXPORTER", "otlp").strip() not in ("", "otlp"):
        return False
    named = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return any(environ.get(name) for name in named)


def _number(environ: Mapping[str, str], name: str, *, default: int, low: int) -> int:
    text = environ.get(name)
    if text is None:
        return default
    if not text.isdecimal() or int(text) < low:
        raise Invalid(
            f"{name} is {text!r}.", hint=f"It takes a whole number from {low} up.", setting=name
        )
    return int(text)


def _switch(environ: Mapping[str, str], name: str) -> bool:
    text = environ.get(name, "").strip().lower()
    if text not in ("", "0", "1", "false", "true", "no", "yes"):
        raise Invalid(f"{name} is {text!r}.", hint="It takes 1 or 0.", setting=name)
    return text in ("1", "true", "yes")


def _memory(environ: Mapping[str, str]) -> int:
    given = environ.get("UPTURN_MEMORY")
    if given is None:
        return total_bytes()
    try:
        return size_bytes(given)
    except Invalid as error:
        raise Invalid(
            f"UPTURN_MEMORY is {given!r}.", hint=error.problem.hint, setting="UPTURN_MEMORY"
        ) from None


def _gpus(environ: Mapping[str, str]) -> tuple[str, ...]:
    given = environ.get("UPTURN_GPUS", environ.get("CUDA_VISIBLE_DEVICES"))
    if given is None:
        # Devices of the driver's, which are there before any library is asked.
        return tuple(sorted(path.name[6:] for path in Path("/dev").glob("nvidia[0-9]*")))
    return tuple(name.strip() for name in given.split(",") if name.strip() not in ("", "-1"))


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-") or "default"
