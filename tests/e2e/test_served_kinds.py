"""Models of other kinds than usual, from registration to an answer over HTTP."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression

from e2e.serving import Project, one
from upturn.core.time import utcnow
from upturn.model.registry import register_version

MODELS = '''
import json
import sys
import upturn as up


class Sentiment(up.Model):
    """Answers several values, of words that lie in a file; not all of it with good manners."""

    def load(self, files):
        self.words = json.loads(files["words"].read_text())

    def pre(self, rows):
        return [text.lower().split() for text in rows["text"]]

    def predict(self, rows):
        if ["exit"] in rows:
            sys.exit(3)
        if ["set"] in rows:
            return {"score": [object()] * len(rows), "words": [1] * len(rows)}
        return [[self.words.get(word, 0) for word in row] for row in rows]

    def post(self, answers):
        if isinstance(answers, dict):
            return answers
        score = [float(sum(one)) for one in answers]
        return {"score": score, "words": [len(one) for one in answers]}
'''
FLOW = """
from pathlib import Path
import pandas as pd
import upturn as up
from mine import Sentiment


@up.step
def texts():
    return pd.DataFrame({"text": ["a good day", "a bad one"]})


@up.flow
def train():
    return up.register("sentiment", Sentiment(), data=texts(), files={"words": Path("words.json")})
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = Project(tmp_path_factory.mktemp("kinds") / "project")
    (project.root / "mine.py").write_text(MODELS)
    (project.root / "flows.py").write_text(FLOW)
    yield project
    project.workspace.close()


def train(project: Project, words: str) -> None:
    (project.root / "words.json").write_text(words)
    ran = project.command("run", "flows.py:train")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_model_of_ones_own_from_a_flow_with_its_files_to_a_url(project: Project) -> None:
    train(project, '{"good": 1, "bad": -1}')
    train(project, '{"good": 7, "bad": -1}')  # other content: the task runs again
    (project.root / "words.json").unlink()
    project.endpoint("sentiment")
    project.route("sentiment", one(1))
    with project.server() as server:
        rows = [{"text": "A good good day"}, {"text": "bad"}]
        found = server.predict("sentiment", {"rows": rows})
        said = [one["prediction"] for one in found.body["predictions"]]
        assert said == [{"score": 2.0, "words": 4}, {"score": -1.0, "words": 1}]
        for text in ("exit", "set"):
            assert server.predict("sentiment", {"row": {"text": text}}).status == 500
        server.wait_route("sentiment", project.route("sentiment", one(2)))
        found = server.predict("sentiment", {"row": {"text": "good"}})
        assert found.body["predictions"][0]["prediction"] == {"score": 7.0, "words": 1}
        answer = server.get("/openapi.json").body["components"]["schemas"]["sentiment.answer"]
        prediction = answer["properties"]["predictions"]["items"]["properties"]["prediction"]
        assert prediction["required"] == ["score", "words"]


def test_an_onnx_model_at_a_url(project: Project) -> None:
    draw = np.random.default_rng(1)
    table = pd.DataFrame(draw.normal(size=(200, 2)), columns=["a", "b"])
    late = table.a + draw.normal(size=200) > 0
    model = LogisticRegression().fit(table.to_numpy(), late)
    path = Path(project.root / "m.onnx")
    path.write_bytes(to_onnx(model, np.zeros((1, 2), np.float32)).SerializeToString())
    register_version(
        project.workspace, "o", path, data=table.assign(late=late), target="late", now=utcnow()
    )
    path.unlink()
    project.endpoint("o")
    project.route("o", one(1))
    with project.server() as server:
        found = server.predict("o", {"rows": [{"a": 1.0, "b": 2.0}, {"a": -1, "b": 0}]})
        said = [one["prediction"] for one in found.body["predictions"]]
        np.testing.assert_allclose(
            said, model.predict_proba([[1.0, 2.0], [-1.0, 0.0]])[:, 1], atol=1e-6
        )
