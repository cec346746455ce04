"""Paths of artifacts: nothing leads out of its root, however it is written."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upturn.adapters.mlflow.errors import MlflowError
from upturn.adapters.mlflow.paths import artifact_path_of, plain_path
from upturn.adapters.mlflow.places import media_of

OUT = [
    "..",
    "../x",
    "a/../../x",
    "a/..",
    "/etc/passwd",
    "//etc/passwd",
    "~/x",
    "~root/x",
    "a\\..\\b",
    "..\\x",
    "\\\\host\\share",
    "C:/x",
    "c:\\x",
    "C:x",
    "file:///etc/passwd",
    "FILE:/etc/passwd",
    "a\0b",
    "a\nb",
    "a\x7fb",
    "a#b",
]


@pytest.mark.parametrize("path", OUT)
@pytest.mark.parametrize("codings", [0, 1, 2, 3])
def test_what_leads_out_is_refused_in_every_coding(path: str, codings: int) -> None:
    for _ in range(codings):
        path = quote(path, safe="")
    with pytest.raises(MlflowError) as caught:
        plain_path(path)
    assert (caught.value.message, caught.value.status) == ("Invalid path", 400)


def test_what_is_no_unicode_is_refused() -> None:
    with pytest.raises(MlflowError, match="Invalid path"):
        plain_path("\ud800")


@pytest.mark.parametrize(
    "path", ["%2e%2e/x", "%2e%2e%2fx", "%252e%252e%252fx", "..%2f..%2fx", "%2fetc"]
)
def test_codings_by_hand(path: str) -> None:
    with pytest.raises(MlflowError, match="Invalid path"):
        plain_path(path)


def test_what_is_coded_without_end_is_refused() -> None:
    path = "%2e"
    for _ in range(20):
        path = quote(path, safe="")
    with pytest.raises(MlflowError, match="Invalid path"):
        plain_path(path)


def test_a_path_that_is_too_long_is_refused() -> None:
    with pytest.raises(MlflowError, match="Invalid path"):
        plain_path("a/" * 3000)


@pytest.mark.parametrize(
    ("given_path", "plain"),
    [
        ("", ""),
        (".", ""),
        ("./model//data/", "model/data"),
        ("a b/ü.txt", "a b/ü.txt"),
        ("100%.txt", "100%.txt"),
        ("a%20b", "a b"),
        ("...", "..."),
        ("a..b/..c", "a..b/..c"),
    ],
)
def test_paths_are_made_plain(given_path: str, plain: str) -> None:
    assert plain_path(given_path) == plain


@given(st.text(alphabet="./%25ef\\ a", max_size=24))
def test_what_comes_out_stays_inside(text: str) -> None:
    try:
        path = plain_path(text)
    except MlflowError:
        return
    parts = path.split("/")
    assert not path.startswith("/")
    assert ".." not in parts
    assert "\\" not in path
    assert plain_path(path) == path


def test_which_artifacts_are_ours() -> None:
    assert artifact_path_of("mlflow-artifacts:/0/abc/artifacts") == "0/abc/artifacts"
    assert artifact_path_of("mlflow-artifacts://host:5000/0/abc") == "0/abc"
    for uri in ("s3://bucket/x", "file:///etc", "/etc", "mlflow-artifacts:/x?y=1", "http://[x"):
        assert artifact_path_of(uri) is None


@pytest.mark.parametrize(
    ("name", "media"),
    [
        ("a/b.json", "text/plain"),
        ("MLmodel", "text/plain"),
        ("mlproject", "text/plain"),
        ("json", "text/plain"),
        ("page.html", "text/html"),
        ("c.png", "image/png"),
        ("b.pkl", "application/octet-stream"),
        ("nothing", "application/octet-stream"),
    ],
)
def test_what_people_read_is_plain_text(name: str, media: str) -> None:
    assert media_of(name) == media
