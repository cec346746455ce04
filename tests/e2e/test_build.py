"""upturn build: a folder that serves with no store at hand, no project, and no rights to write."""

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from e2e.serving import GOOD, Project, Server, fitted, one, wait_for
from upturn.core.errors import Conflict, Invalid, UpturnError
from upturn.core.records import Arm, Version
from upturn.core.settings import load_settings
from upturn.deploy.bundle.build import Built, build
from upturn.deploy.running import fetch
from upturn.develop.uv import Job, find_uv
from upturn.improve.log import StoredLog
from upturn.stores.logfile import segments
from upturn.stores.workspace import open_workspace

PROBES = ("startup", "readiness", "liveness")
# A model whose class is the script's own and whose way leads through a package, an import that only
# happens when it predicts, and a file that the package reads.
SCRIPT = """
import sys
import numpy as np
import shop.tables
from e2e.serving import rows_table
from upturn.core.time import utcnow
from upturn.model.registry import register_version
from upturn.stores.workspace import open_workspace


class Priced:
    def predict(self, frame):
        return shop.tables.priced(np.asarray(frame["delay"], float))


workspace = open_workspace()
data = rows_table()
register_version(workspace, "priced", Priced(), data=data, target="late", now=utcnow())
workspace.close()
"""
PACKAGE = {
    "shop/__init__.py": "",
    "shop/rates.json": '{"rate": 3.5}',
    "shop/tables.py": """
import json
from pathlib import Path

RATE = json.loads((Path(__file__).parent / "rates.json").read_text())["rate"]


def priced(values):
    from shop.later import added
    print("a model that prints")
    return values * RATE + added
""",
    "shop/later.py": "added = 100.0\n",
    "shop/unused.py": "",
}


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def elsewhere(folder: Path, home: Path | None) -> Any:
    """Serve the folder as on another machine, with this Python."""
    kept = {name: value for name, value in os.environ.items() if name != "UPTURN_HOME"}
    source = str(Path(__file__).parents[2] / "src")  # and no project
    named = {} if home is None else {"UPTURN_HOME": str(home)}
    env = {**kept, "PYTHONPATH": source, "PYTHONDONTWRITEBYTECODE": "1", **named}
    return SimpleNamespace(root=folder, environ=env)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = Project(tmp_path_factory.mktemp("build") / "p")
    for name, text in PACKAGE.items():
        (project.root / name).parent.mkdir(exist_ok=True)
        (project.root / name).write_text(text)
    (project.root / "train.py").write_text(SCRIPT)
    tests = str(Path(__file__).parents[1])
    environ = {**project.environ, "PYTHONPATH": f"{project.environ['PYTHONPATH']}:{tests}"}
    subprocess.run([sys.executable, "train.py"], cwd=project.root, env=environ, check=True)
    project.endpoint("priced")
    project.route("priced", one(1))
    project.register("late", fitted(0))
    project.register("late", fitted(1))
    project.endpoint("late", unit="customer")
    project.route("late", one(1))
    project.route(
        "late",
        Arm(name="champion", version=1, share=0.6),
        Arm(name="candidate", version=2, share=0.4),
    )
    yield project
    project.workspace.close()


@pytest.fixture(scope="module")
def late(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The first version of `late` alone, built without uv."""
    return build(project.workspace, "late:1", tmp_path_factory.mktemp("late") / "late")


def test_a_folder_serves_without_project_and_store_and_is_only_read(
    project: Project, tmp_path: Path
) -> None:
    done = project.command("build", "priced", "-o", str(tmp_path / "shipped"))
    assert done.returncode == 0, done.stderr
    assert "shop/later.py, shop/rates.json, shop/tables.py" in done.stdout
    moved = tmp_path / "far" / "away"
    shutil.copytree(tmp_path / "shipped", moved)
    shutil.rmtree(tmp_path / "shipped")
    before = digests(moved)
    version = project.workspace.meta.get(Version, "priced", 1)
    assert version.data is not None  # the rows that it was trained on stay where they are
    assert not any(version.data[2:] in name for name in before)
    assert f"model/blobs/{version.artifact[:2]}/{version.artifact[2:]}" in before
    assert "code/shop/unused.py" not in before
    hidden = project.root.rename(project.root.with_name("gone"))
    try:
        server = Server(elsewhere(moved, tmp_path / "home"))
        try:
            reply = server.predict("priced", {"rows": [{**GOOD, "delay": 2.0}]})
            assert reply.status == 200, reply.body
            assert reply.body["predictions"][0]["prediction"] == 107.0
            request = json.loads((moved / "request.json").read_text())
            assert server.predict("priced", request).status == 200
            page = server.page("priced")
            assert (page["route"], page["arms"][0]["version"]) == (1, "priced:1")
        finally:
            server.end()
    finally:
        hidden.rename(project.root)
    log = segments(tmp_path / "home" / "log" / "priced", "predictions")
    assert len(log.parquet) == 1  # two rows, sealed at the end
    assert digests(moved) == before


FLOW = """
import pandas as pd
import upturn as up
from beside import Doubled

@up.step
def train() -> Doubled:
    return Doubled()

@up.step
def load() -> pd.DataFrame:
    return pd.DataFrame({"delay": [1.0, 2.0], "late": [2.0, 4.0]})

@up.flow
def doubled():
    return up.register("doubled", train(), data=load(), target="late")
"""


def test_what_a_flow_in_a_folder_of_its_own_registered_is_found_beside_it(
    project: Project, tmp_path: Path
) -> None:
    flows = project.root / "flows"
    flows.mkdir()
    (flows / "beside.py").write_text(
        "class Doubled:\n    def predict(self, frame):\n        return frame['delay'] * 2\n"
    )
    (flows / "doubling.py").write_text(FLOW)
    done = project.command("run", "flows/doubling.py:doubled")
    assert done.returncode == 0, done.stderr
    built = build(project.workspace, "doubled:1", tmp_path / "out")
    assert built.code == ("beside.py",)


def test_the_folder_places_units_as_the_store_does(project: Project, tmp_path: Path) -> None:
    folder = build(project.workspace, "late", tmp_path / "late").folder
    rows = [{**GOOD, "customer": f"c{number}"} for number in range(60)]
    with project.server() as there:
        expected = there.predict("late", {"rows": rows}).body["predictions"]
    server = Server(elsewhere(folder, None))
    try:
        found = server.predict("late", {"rows": rows}).body["predictions"]
    finally:
        server.end()
    kept = ("prediction", "version", "arm")
    assert [[one[key] for key in kept] for one in found] == [
        [one[key] for key in kept] for one in expected
    ]
    assert {one["arm"] for one in found} == {"champion", "candidate"}
    # With no home said the Log is in the folder; in the store's own place it is read there.
    (sealed,) = (folder / ".upturn" / "log" / "late").glob("*.parquet")
    shutil.copy(sealed, project.workspace.log_dir / "late")
    logged = project.log("late")
    rows_of = dict(zip(logged["id"].to_pylist(), logged["route"].to_pylist(), strict=True))
    assert {rows_of[one["id"]] for one in (*found, *expected)} == {2}
    # Built again, at another route: the Log that was written there stays.
    project.route("late", one(2))
    build(project.workspace, "late", folder)
    assert json.loads((folder / "model" / "bundle.json").read_text())["versions"] == ["late:2"]
    assert list((folder / ".upturn" / "log" / "late").glob("*.parquet"))


def test_one_version_becomes_an_endpoint_of_its_own_in_the_same_bytes_each_time(
    project: Project, late: Built, tmp_path: Path
) -> None:
    again = build(project.workspace, "late:1", tmp_path / "again")
    assert (late.content.name, late.content.endpoint.unit) == ("late-1", "customer")
    one, two = digests(late.folder), digests(again.folder)
    for name in (
        "README.md",
        "kubernetes/deployment.yaml",
    ):  # but for the memory it was seen to take
        texts = [(folder / name).read_text() for folder in (late.folder, again.folder)]
        assert len({re.sub(r"\d+Mi", "…", text) for text in texts}) == 1
        del one[name], two[name]
    del one["model/bundle.json"], two["model/bundle.json"]
    assert one == two
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_manifests_fit_together_and_their_probes_are_answered(late: Built, tmp_path: Path) -> None:
    folder = late.folder / "kubernetes"
    found = {path.name: yaml.safe_load(path.read_text()) for path in folder.iterdir()}
    kustomization = found.pop("kustomization.yaml")
    assert sorted(kustomization["resources"]) == sorted(found)
    by_kind = {one["kind"]: one for one in found.values()}
    assert len(by_kind) == len(found)
    deployment, service = by_kind["Deployment"]["spec"], by_kind["Service"]["spec"]
    pod = deployment["template"]
    labels = pod["metadata"]["labels"].items()
    for selector in (
        deployment["selector"]["matchLabels"],
        service["selector"],
        by_kind["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels
    target = by_kind["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert target["name"] == by_kind["Deployment"]["metadata"]["name"] == late.label
    assert "replicas" not in deployment
    (container,) = pod["spec"]["containers"]
    assert container["image"] == kustomization["images"][0]["name"]
    volumes = {one["name"]: one for one in pod["spec"]["volumes"]}
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    assert mounts.keys() == volumes.keys()
    claim = volumes["log"]["persistentVolumeClaim"]["claimName"]
    assert claim == by_kind["PersistentVolumeClaim"]["metadata"]["name"]
    home = next(one["value"] for one in container["env"] if one["name"] == "UPTURN_HOME")
    assert home == mounts["log"] + "/$(POD_NAME)"
    (port,) = container["ports"]
    assert service["ports"][0]["targetPort"] == port["name"]
    docker = Dockerfile(late.folder)
    assert docker.environ["UPTURN_PORT"] == str(port["containerPort"]) == docker.lines["EXPOSE"][0]
    assert docker.environ["UPTURN_HOME"] == docker.lines["VOLUME"][0] == mounts["log"]
    security = pod["spec"]["securityContext"]
    assert docker.lines["USER"][0] == f"{security['runAsUser']}:{security['runAsGroup']}"
    memory = [container["resources"][kind]["memory"] for kind in ("requests", "limits")]
    asked, most = (int(text.removesuffix("Mi")) for text in memory)
    assert 96 < asked < most < 4096
    probes = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in PROBES}
    assert probes == {"/healthz", "/readyz"}
    server = Server(elsewhere(late.folder, tmp_path / "home"))
    try:
        for path in probes:
            assert server.ask("GET", path, headers={"Host": "10.2.3.4:8600"}).status == 200
    finally:
        server.end()


def test_health_is_told_to_any_host_and_the_rest_to_those_that_are_allowed(
    project: Project, late: Built, tmp_path: Path
) -> None:
    folder = late.folder
    other = {"Host": "late.shop.svc"}
    server = Server(elsewhere(folder, tmp_path / "home"))
    try:
        assert server.ask("GET", "/v1/endpoints", headers=other).status == 401
        for path in ("/healthz", "/readyz", "/health/live", "/health/ready"):
            assert server.ask("GET", path, headers=other).status == 200
        assert server.ask("GET", "/healthz/../v1/endpoints", headers=other).status == 401
    finally:
        server.end()
    public = Server(elsewhere(folder, tmp_path / "home"), "--host", "0.0.0.0", "--allow-anyone")
    try:
        assert public.ask("GET", "/v1/endpoints", headers=other).status == 200
        assert public.predict("late-1", {"rows": [GOOD]}, Host="late.shop.svc").status == 200
    finally:
        public.end()
    refused = project.command("up", "--host", "0.0.0.0", "--port", "0")
    assert refused.returncode == 2
    assert "--allow-anyone" in refused.stderr


def test_a_folder_whose_model_is_damaged_is_not_ready(late: Built, tmp_path: Path) -> None:
    folder = shutil.copytree(late.folder, tmp_path / "late")
    for blob in (path for path in (folder / "model" / "blobs").rglob("*") if path.is_file()):
        blob.chmod(0o644)
        blob.write_bytes(b"rust" + blob.read_bytes()[4:])
    process = subprocess.Popen(
        [sys.executable, "-m", "upturn", "up", "--port", "0"],
        cwd=folder,
        env=elsewhere(folder, tmp_path / "home").environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = re.search(r"http://[^/]+", process.stdout.readline())
        assert url is not None
        wait_for(lambda: fetch(url[0], "/healthz")[0] == 200, "the server")
        wait_for(lambda: bool(pages(url[0])), "a look at the route")
        assert "damaged" in pages(url[0])[0]["refused"]["reason"]
        assert fetch(url[0], "/readyz")[0] == 503
    finally:
        process.terminate()
        process.communicate(timeout=30)


def pages(url: str) -> list[Any]:
    status, body = fetch(url, "/v1/endpoints")
    return [one for one in body["endpoints"] if one["refused"]] if status == 200 else []


def test_a_folder_that_others_wrote_to_is_left_alone(project: Project, tmp_path: Path) -> None:
    target = tmp_path / "t"
    target.mkdir()
    (target / "thesis.txt").write_text("years of work")
    with pytest.raises(Conflict, match="no build made it"):
        build(project.workspace, "late:1", target)
    build(project.workspace, "late:1", target, force=True)
    (target / "kubernetes" / "service.yaml").write_text("mine: true\n")
    with pytest.raises(Conflict, match=r"service\.yaml is not as it was built"):
        build(project.workspace, "late:1", target)
    (target / "kubernetes" / "service.yaml").unlink()
    with pytest.raises(Conflict, match=r"service\.yaml is not as it was built"):
        build(project.workspace, "late:1", target)
    build(project.workspace, "late:1", target, force=True)
    (target / "notes.txt").write_text("")
    with pytest.raises(Conflict, match=r"notes\.txt"):
        build(project.workspace, "late:1", target)
    for force in (False, True):
        with pytest.raises(Invalid, match="where you work"):
            build(project.workspace, "late:1", project.root, force=force)
    with pytest.raises(Conflict, match="not a folder"):
        build(project.workspace, "late:1", target / "notes.txt", force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


def test_what_would_make_the_code_a_project_of_its_own_is_refused(
    project: Project, tmp_path: Path
) -> None:
    (project.root / "about.py").write_text(
        "from pathlib import Path\n"
        "ABOUT = Path(__file__).with_name('pyproject.toml').read_text()\n"
        "def predict(frame):\n    return [float(len(ABOUT))] * len(frame)\n"
    )
    project.register("about", project.module("about").predict)
    with pytest.raises(Invalid, match=r"pyproject\.toml"):
        build(project.workspace, "about:1", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "fact", "way_out"),
    [
        ("lat", "No endpoint 'lat'.", "Did you mean 'late'?"),
        ("broken", "No endpoint 'broken' yet.", "upturn build broken:1"),
        ("empty", "Endpoint 'empty' has no route yet.", "upturn deploy empty"),
        ("late:9", "Model 'late' has no version 9.", "There is: '1', '2'."),
        ("lat:1", "No model 'lat'.", "Did you mean 'late'?"),
        ("late@", "'late@' is not a reference to a version.", "delays:7"),
        (
            "broken:1",
            "broken:1 failed its warm-up: The model raised RuntimeError: no such weights",
            "",
        ),
    ],
)
def test_what_can_not_be_built_says_why_and_leaves_nothing(
    name: str, fact: str, way_out: str, project: Project, tmp_path: Path
) -> None:
    if name.startswith("broken"):
        project.register("broken", project.model("Broken", "raise"))
    if name == "empty":
        project.endpoint("empty")
    with pytest.raises(UpturnError) as caught:
        build(project.workspace, name, tmp_path / "out")
    assert str(caught.value).startswith(fact)
    assert way_out in caught.value.hint
    assert list(tmp_path.iterdir()) == []


# On a machine that has nothing


class Dockerfile:
    """The instructions of a Dockerfile, by name, as the steps of a test."""

    def __init__(self, folder: Path) -> None:
        text = (folder / "Dockerfile").read_text().replace("\\\n", " ")
        self.lines: dict[str, list[str]] = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                word, _, rest = line.partition(" ")
                self.lines.setdefault(word, []).append(rest.strip())
        (environ,) = self.lines["ENV"]
        self.environ = dict(item.split("=", 1) for item in environ.split())
        self.command: list[str] = json.loads(self.lines["CMD"][0])
        self.install = next(shlex.split(one) for one in self.lines["RUN"] if "pip" in one)


@pytest.mark.timeout(300)
def test_the_dockerfiles_steps_make_an_environment_that_serves(
    project: Project, tmp_path: Path
) -> None:
    built = build(project.workspace, "priced", tmp_path / "app", uv=Job(print).run)
    if not built.locked.hashed:
        pytest.skip(f"no package index can be reached: {built.locked.notes[-1]}")
    folder, uv = built.folder, find_uv()
    assert not re.search(r"https?://", (folder / "requirements.txt").read_text())
    steps = Dockerfile(folder)
    assert steps.lines["FROM"] == [f"python:{built.locked.python}-slim"]
    clean = {key: value for key, value in os.environ.items() if key not in NOT_THERE}
    venv = tmp_path / "venv"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, venv], check=True, env=clean)
    assert steps.install[:2] == ["pip", "install"]
    assert "--require-hashes" in steps.install
    options = [one for one in steps.install[2:] if one not in PIPS_OWN]
    subprocess.run(
        [uv, "pip", "install", "-q", "--python", venv / "bin" / "python", *options],
        check=True,
        cwd=folder,
        env=clean,
    )
    environ = {**clean, **steps.environ, "UPTURN_PORT": "0", "UPTURN_HOME": str(tmp_path / "data")}
    process = subprocess.Popen(
        [venv / "bin" / steps.command[0], *steps.command[1:]],
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = re.search(r"http://0\.0\.0\.0:\d+", line)
        assert url is not None, line
        here = url[0].replace("0.0.0.0", "127.0.0.1")
        healthy = json.loads(steps.lines["HEALTHCHECK"][0].partition("CMD ")[2])
        healthy[0] = venv / "bin" / healthy[0]
        healthy[2] = healthy[2].replace("http://127.0.0.1:8600", here)
        wait_for(lambda: subprocess.run(healthy, check=False, env=clean).returncode == 0, "health")
        wait_for(lambda: fetch(here, "/readyz")[0] == 200, "the model", timeout_s=60)
        body = json.dumps({"rows": [{**GOOD, "delay": 4.0}]}).encode()
        request = urllib.request.Request(
            f"{here}/v1/endpoints/priced/predict", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.load(answer)["predictions"][0]["prediction"] == 114.0
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0
    # Sealed, if there was time for it in the end; else its journal is read.
    home = open_workspace(load_settings(tmp_path, {"UPTURN_HOME": str(tmp_path / "data")}))
    assert StoredLog(home, "priced").predictions()["score"].to_pylist() == [114.0]
    home.close()


NOT_THERE = ("PYTHONPATH", "VIRTUAL_ENV", "UPTURN_HOME")
PIPS_OWN = ("--no-cache-dir", "--disable-pip-version-check")
