"""PyTorch modules as models; without PyTorch these tests are left out."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import upturn as up
from upturn.core.schema import Output
from upturn.model.adapters import load_predictor
from upturn.stores.workspace import open_workspace

torch: Any = pytest.importorskip("torch")
nn: Any = torch.nn

DRAW = np.random.default_rng(3)
TABLE = pd.DataFrame({"a": DRAW.normal(size=100), "b": DRAW.normal(size=100)})
TABLE["late"] = TABLE.a > 0
ROWS = np.array([[1.0, 2.0], [-3.0, 0.5]])


def answers(version: up.Version) -> Any:
    workspace = open_workspace()
    try:
        predictor = load_predictor(workspace, version)
        assert predictor.predict_matrix is not None
        found = predictor.predict_matrix(ROWS).answers
        assert predictor.predict(pa.table({"a": ROWS[:, 0], "b": ROWS[:, 1]})).answers == found
        return found
    finally:
        workspace.close()


def expected(module: Any) -> Any:
    module.eval()
    with torch.inference_mode():
        return module(torch.tensor(ROWS, dtype=torch.float32))


def test_a_network_of_one_output_is_a_probability_without_its_dropout() -> None:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 1), nn.Sigmoid())
    version = up.register("net", module, data=TABLE, target="late")
    assert module.training  # the user's own is left as it was
    assert version.signature.output == "probability"
    np.testing.assert_allclose(answers(version), expected(module)[:, 0].numpy(), atol=1e-6)


def test_a_network_of_two_classes_and_one_of_double_precision() -> None:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(2, 2), nn.Softmax(dim=1))
    version = up.register("two", module, data=TABLE, target="late", answer="label")
    found = expected(module).argmax(dim=1).numpy() == 1
    assert answers(version) == found.tolist()
    double = nn.Linear(2, 1).double()
    version = up.register("double", double, data=TABLE[["a", "b"]])
    assert version.signature.output == "number"
    assert len(answers(version)) == 2


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(2, 1), nn.Linear(2, 1)

    def forward(self, x: Any) -> Any:
        return {"one": self.one(x)[:, 0], "two": self.two(x)[:, 0]}


def test_a_network_of_several_heads() -> None:
    module = Heads()
    version = up.register("heads", module, data=TABLE[["a", "b"]])
    assert version.signature.outputs == (Output("one", "float"), Output("two", "float"))
    wanted = expected(module)
    assert [row["two"] for row in answers(version)] == pytest.approx(wanted["two"].tolist())


def test_a_network_of_a_script_answers_in_another_process(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import pandas as pd, torch, upturn as up\n"
        "class Twice(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return 2 * x[:, 0]\n"
        "up.register('twice', Twice(), data=pd.DataFrame({'a': [1.0], 'b': [2.0]}))\n"
    )
    subprocess.run([sys.executable, script], cwd=tmp_path, check=True)
    workspace = open_workspace()
    version = workspace.meta.get(up.Version, "twice", 1)
    workspace.close()
    assert answers(version) == [2.0, -6.0]


def test_equal_networks_are_equal_bytes_in_every_process() -> None:
    code = (
        "import torch; from upturn.stores.values import pack; torch.manual_seed(0);"
        "m = torch.nn.Linear(200, 200).bfloat16();"
        "import blake3; print(blake3.blake3(b''.join(map(bytes, pack(m)[1]))).hexdigest())"
    )
    runs = {subprocess.check_output([sys.executable, "-W", "ignore", "-c", code]) for _ in range(2)}
    assert len(runs) == 1


@pytest.mark.filterwarnings("ignore:`torch:FutureWarning")
def test_torchscript_comes_back() -> None:
    from upturn.stores.values import pack, unpack

    rows = torch.zeros(4, 3)
    traced = torch.jit.trace(torch.nn.Linear(3, 1), rows)
    blob = memoryview(b"".join(map(bytes, pack(traced)[1])))
    assert torch.equal(unpack(blob)(rows), traced(rows))
