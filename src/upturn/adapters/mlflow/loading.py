"""Loading: the module by which MLflow loads versions of ours, in a client's process."""

from pathlib import Path
from typing import Any

import msgspec

from upturn.core.records import Version
from upturn.model.adapters import Predictor, predictor_for
from upturn.model.torch_model import is_torch
from upturn.model.user_model import Model, load_model
from upturn.stores import values


class Loaded:
    """A version as MLflow's pyfunc calls it: `predict` takes a table, and answers for each row."""

    def __init__(self, version: Version, predictor: Predictor) -> None:
        self.version = version
        self._predictor = predictor

    def predict(self, model_input: Any, params: Any = None) -> Any:
        """Scores as an array where the model gives scores, else a list of its answers."""
        from upturn.model.tables import to_arrow

        found = self._predictor.predict(to_arrow(model_input, index=False))
        return found.answers if found.scores is None else found.scores


def _load_pyfunc(path: str) -> Loaded:  # pyright: ignore[reportUnusedFunction]  (MLflow calls it)
    folder = Path(path)
    version = msgspec.json.decode((folder / "version.json").read_bytes(), type=Version)
    model = values.unpack(memoryview((folder / "model").read_bytes()))
    if isinstance(model, Model):
        files = {
            one.name: folder / "files" / one.name / one.path.partition("/")[0]
            for one in version.files
        }
        load_model(model, files)
    elif is_torch(model):
        model.eval()
    return Loaded(version, predictor_for(model, version.signature))
