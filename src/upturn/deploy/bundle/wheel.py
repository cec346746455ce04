"""Upturn itself as a wheel, from what is installed here: the very code that the bundle was tried
with, and no index needs to have it.
"""

import base64
import hashlib
import zipfile
from importlib import metadata
from pathlib import Path

from upturn.core.errors import Unavailable

_WHEN = (1980, 1, 1, 0, 0, 0)  # a zip file has no earlier time; the same content is the same bytes
_WHEEL = "Wheel-Version: 1.0\nGenerator: upturn build\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_TAKEN = ("METADATA", "entry_points.txt")


def from_an_index() -> str | None:
    """The version of Upturn that an index has, if it was installed from one."""
    distribution = _installed()
    folder = Path(str(distribution.locate_file("upturn")))
    if distribution.read_text("direct_url.json") is not None or folder != _package():
        return None
    return distribution.version


def write_wheel(directory: Path) -> Path:
    """Write Upturn's wheel into the directory, and return its path."""
    distribution = _installed()
    package = _package()
    info = f"upturn-{distribution.version}.dist-info"
    files = {
        f"upturn/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    for name in _TAKEN:
        files[f"{info}/{name}"] = (distribution.read_text(name) or "").encode()
    files[f"{info}/WHEEL"] = _WHEEL.encode()
    record = "".join(_recorded(name, files[name]) for name in sorted(files))
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    wheel = directory / f"upturn-{distribution.version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _WHEN)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name])
    return wheel


def requirements() -> list[str]:
    """What Upturn itself needs, as it is declared."""
    return [text for text in metadata.requires("upturn") or () if "extra ==" not in text]


def _package() -> Path:
    return Path(__file__).parents[2]


def _installed() -> metadata.Distribution:
    try:
        return metadata.distribution("upturn")
    except metadata.PackageNotFoundError:
        raise Unavailable(
            "Upturn runs from a folder here, and nothing says which packages it needs.",
            hint="Install it, also from that folder: pip install -e FOLDER",
        ) from None


def _recorded(name: str, content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(content)}\n"
