"""The parts of a bundle: names, own modules, wheel, requirements; and whose lease a server's is."""

import csv
import hashlib
import io
import os
import re
import socket
import sys
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upturn.core.errors import Invalid, Unavailable
from upturn.core.records import Environment
from upturn.core.settings import load_settings
from upturn.deploy.bundle.content import label_of
from upturn.deploy.bundle.lock import Locked, lock
from upturn.deploy.bundle.own import followed, place_of, root_of
from upturn.deploy.bundle.probe import Seen
from upturn.deploy.bundle.wheel import write_wheel
from upturn.deploy.running import LEASE, began, clear_dead_lease, running_server
from upturn.stores.workspace import open_workspace

MADE_WITH = Environment(python="3.12.4", distributions={"numpy": "2.2.0", "pytest": "9.0.0"})


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True))
def test_whatever_an_endpoint_is_called_a_cluster_takes_its_label(name: str) -> None:
    assert re.fullmatch(r"[a-z]([a-z0-9-]{0,55}[a-z0-9])?", label_of(name))


@given(
    st.lists(st.from_regex(r"[a-z_]{1,5}", fullmatch=True), min_size=1, max_size=4),
    st.sampled_from([".py", "/__init__.py", ".cpython-311-x86_64-linux-gnu.so"]),
)
def test_a_module_lies_as_deep_below_its_root_as_its_name_says(parts: list[str], end: str) -> None:
    file = f"/srv/shop/{'/'.join(parts)}{end}"
    name = ".".join(parts)
    assert root_of(name, file) / place_of(name, file) == Path(file)
    assert root_of(name, file) == Path("/srv/shop")


def test_own_modules_are_followed_into_functions_and_nothing_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "wares/__init__.py": "",
        "wares/models.py": "import json, numpy\nfrom . import base\ndef f(): import late_one",
        "wares/base.py": "from .deep.inner import thing\nfrom wares import missing\n",
        "wares/deep/__init__.py": "import no_such_module_anywhere",
        "wares/deep/inner.py": "import pandas.testing\nthing = 1\nraise SystemExit\n",
        "wares/other.py": "",
        "late_one.py": "raise SystemExit",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    found, foreign = followed({"wares.models": str(tmp_path / "wares/models.py")})
    assert set(found) == {
        *("wares", "wares.models", "wares.base", "wares.deep", "wares.deep.inner", "late_one")
    }
    assert foreign == {"numpy", "pandas"}
    assert set(sys.modules) == before


def test_the_wheel_holds_upturn_as_its_record_says_and_is_the_same_each_time(
    tmp_path: Path,
) -> None:
    wheel = write_wheel(tmp_path)
    content = wheel.read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        record = next(name for name in names if name.endswith("/RECORD"))
        for name, digest, size in csv.reader(io.StringIO(archive.read(record).decode())):
            names.remove(name)
            if name != record:
                data = archive.read(name)
                said = urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
                assert (digest, size) == (f"sha256={said}", str(len(data)))
        assert b"upturn = upturn.cli:main" in archive.read(
            record.replace("RECORD", "entry_points.txt")
        )
        assert b"Requires-Dist: msgspec" in archive.read(record.replace("RECORD", "METADATA"))
    assert not names
    assert write_wheel(tmp_path).read_bytes() == content


def pins(locked: Locked) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)$", locked.text, re.MULTILINE))


def test_without_uv_the_versions_are_pinned_and_that_is_said(tmp_path: Path) -> None:
    seen = Seen(distributions={"scikit-learn": "1.0", "numpy": "2.3.9"}, later={"pytest": "9.9"})
    locked = lock(seen, MADE_WITH, tmp_path, uv=None)
    found = pins(locked)
    # At the versions that the model was made with, where that is known.
    assert (found["numpy"], found["pytest"], found["scikit-learn"]) == ("2.2.0", "9.0.0", "1.0")
    assert {"scipy", "joblib", "msgspec", "pyarrow", "anyio"} <= set(found)  # and all these need
    assert not {"upturn", "hypothesis", "polars"} & set(found)
    assert locked.python == "3.12"
    assert not locked.hashed
    assert "--hash" not in locked.text
    assert [path.name for path in tmp_path.glob("*.whl")] == [
        line[2:] for line in locked.text.splitlines() if line.startswith("./")
    ]
    assert "numpy 2.2.0" in locked.notes[0]
    assert "2.3.9" in locked.notes[0]
    assert "pip install uv" in locked.notes[-1]


def test_what_nobody_loaded_at_the_training_is_not_shipped_for_later(tmp_path: Path) -> None:
    seen = Seen(distributions={"numpy": "2.2.0"}, later={"matplotlib": "3.10"})
    assert "matplotlib" not in pins(lock(seen, MADE_WITH, tmp_path, uv=None))


def test_an_index_that_is_away_leaves_versions_and_says_what_uv_said(tmp_path: Path) -> None:
    def uv(*_: object) -> None:
        raise Unavailable("the index is on holiday")

    locked = lock(Seen(distributions={"numpy": "2.2.0"}), MADE_WITH, tmp_path, uv=uv)
    assert pins(locked)["numpy"] == "2.2.0"
    assert "the index is on holiday" in locked.notes[-1]


@pytest.mark.parametrize(
    ("origin", "taken"),
    [
        ('{"url": "file:///x/gadget", "dir_info": {}}', False),
        ('{"url": "file:///x/gadget.whl", "archive_info": {}}', False),
        ('{"url": "https://x/gadget.git", "vcs_info": {"vcs": "git"}}', False),
        ('{"url": "file:///x/gadget", "dir_info": {"editable": true}}', True),
        (None, True),
    ],
)
def test_a_package_that_was_installed_from_a_path_is_refused_unless_its_files_are_shipped(
    origin: str | None, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "gadget-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gadget\nVersion: 1.5\n")
    if origin is not None:
        (info / "direct_url.json").write_text(origin)
    monkeypatch.syspath_prepend(str(tmp_path))
    seen = Seen(distributions={"gadget": "1.5"})
    if taken:
        assert pins(lock(seen, MADE_WITH, tmp_path, uv=None)).get("gadget") == (
            "1.5" if origin is None else None
        )
        return
    with pytest.raises(Invalid, match=r"gadget.*no index") as caught:
        lock(seen, MADE_WITH, tmp_path, uv=None)
    assert "pip install -e" in caught.value.hint


def test_settings_that_name_a_bundle_which_is_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "upturn.toml").write_text('bundle = "model"\n')
    with pytest.raises(Invalid) as caught:
        load_settings(tmp_path, {})
    assert "upturn build" in caught.value.hint


def test_a_server_that_was_killed_leaves_no_lease_to_one_that_has_its_process_id(
    tmp_path: Path,
) -> None:
    workspace = open_workspace(load_settings(tmp_path, {"UPTURN_HOME": str(tmp_path)}))
    payload = {"url": "http://x", "pid": os.getpid(), "host": socket.gethostname()}
    mine = {**payload, "began": began(os.getpid())}
    assert workspace.meta.claim(LEASE, "me", ttl_s=60, payload=mine)
    clear_dead_lease(workspace)
    assert running_server(workspace) is not None
    assert workspace.meta.claim(LEASE, "me", ttl_s=60, payload={**payload, "began": "1"})
    if began(os.getpid()):  # where the machine tells when a process began
        assert running_server(workspace) is None
        clear_dead_lease(workspace)
        assert workspace.meta.lease(LEASE) is None
    workspace.close()
