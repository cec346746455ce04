"""Settings: where things are kept, what is refused, and that every variable is documented."""

import os
from pathlib import Path

import pytest

from upturn.core.errors import Invalid
from upturn.core.settings import VARIABLES, load_settings

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A directory that belongs to no project."""
    for parent in tmp_path.parents:
        if any((parent / name).is_file() for name in ("pyproject.toml", "upturn.toml")):
            pytest.skip("the temporary directory lies in a project")
    return tmp_path


@pytest.mark.parametrize("variable", VARIABLES)
def test_every_variable_is_documented(variable: str) -> None:
    text = "".join(page.read_text("utf-8") for page in DOCS.rglob("*.md"))
    assert f"`{variable}`" in text
    assert VARIABLES[variable] in text, "the documentation says something else of it"


def test_no_other_variable_is_documented_or_read() -> None:
    package = Path(__file__).parents[3] / "src" / "upturn"
    for file in package.rglob("*.py"):
        for word in file.read_text("utf-8").replace('"', " ").replace("`", " ").split():
            name = word.partition("=")[0].strip(".,:;()[]'")
            if name.startswith("UPTURN_") and name.isupper() and name != "UPTURN_":
                assert name in VARIABLES, f"{file.name}: {name}"


@pytest.mark.parametrize("marker", ["pyproject.toml", "upturn.toml"])
def test_things_are_kept_beside_the_nearest_project_file(bare: Path, marker: str) -> None:
    (bare / marker).touch()
    deep = bare / "a" / "b"
    deep.mkdir(parents=True)
    settings = load_settings(deep, {})
    assert settings.home == bare.resolve() / ".upturn"
    assert settings.root == bare.resolve()
    assert "project" in settings.why_home
    (bare / "a" / "upturn.toml").touch()
    assert load_settings(deep, {}).home == bare.resolve() / "a" / ".upturn"


def test_without_a_project_things_are_kept_in_the_home_directory(bare: Path) -> None:
    settings = load_settings(bare, {})
    assert settings.home == Path.home() / ".upturn"
    assert settings.root == bare.resolve()
    assert "home directory" in settings.why_home


def test_upturn_home_overrides(bare: Path) -> None:
    (bare / "upturn.toml").touch()
    settings = load_settings(bare, {"UPTURN_HOME": str(bare / "elsewhere")})
    assert settings.home == bare.resolve() / "elsewhere"
    assert settings.root == bare.resolve()
    assert "UPTURN_HOME" in settings.why_home
    assert load_settings(bare, {"UPTURN_HOME": "~/x"}).home == Path.home() / "x"
    assert load_settings(bare, {"UPTURN_HOME": ""}).home == bare.resolve() / ".upturn"


def test_the_project_is_named_by_its_files_or_its_folder(bare: Path) -> None:
    folder = bare / "My Project!"
    folder.mkdir()
    file = folder / "pyproject.toml"
    file.write_text("")
    assert load_settings(folder, {}).project == "my-project"
    file.write_text('[tool.upturn]\nproject = "churn"')
    assert load_settings(folder, {}).project == "churn"
    (folder / "upturn.toml").write_text('project = "delays"')
    assert load_settings(folder, {}).project == "delays"
    (folder / "upturn.toml").write_text("project =")
    with pytest.raises(Invalid, match="not valid TOML"):
        load_settings(folder, {})


def test_an_unknown_variable_is_refused_with_the_nearest_one(bare: Path) -> None:
    with pytest.raises(Invalid, match=r"no setting UPTURN_CORE\. Did you mean 'UPTURN_CORES'\?"):
        load_settings(bare, {"UPTURN_CORE": "2"})
    assert load_settings(bare, {"UPTURNED": "1", "MY_UPTURN_X": "1"})


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "", " 2", "²"])
def test_a_wrong_number_is_refused_by_name(bare: Path, text: str) -> None:
    with pytest.raises(Invalid, match=r"UPTURN_CORES is .*whole number from 1 up") as error:
        load_settings(bare, {"UPTURN_CORES": text})
    assert error.value.fields == {"setting": "UPTURN_CORES"}


def test_numbers_and_their_defaults(bare: Path) -> None:
    given = load_settings(bare, {"UPTURN_CORES": "3", "UPTURN_PORT": "0"})
    assert (given.cores, given.port) == (3, 0)
    default = load_settings(bare, {})
    assert 1 <= default.cores <= (os.cpu_count() or 1)
    assert default.port == 8600
