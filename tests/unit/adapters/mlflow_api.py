"""What tests of MLflow's API share: a client of the API of a workspace, without a network."""

from typing import Any

from starlette.testclient import TestClient

from upturn.adapters.mlflow.app import MlflowApi
from upturn.stores.workspace import Workspace

PREFIX = "/api/2.0/mlflow/"


class Api:
    """Asks the API, and says what went wrong as (status, code, message)."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.http = TestClient(MlflowApi(workspace), base_url="http://localhost")  # type: ignore[arg-type]

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        """Return what is answered to a POST, which has to be fine."""
        answer = self.http.post(PREFIX + path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """Return what is answered to a GET, which has to be fine."""
        answer = self.http.get(PREFIX + path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, path: str, **body: Any) -> tuple[int, str, str]:
        """Return how a POST was refused."""
        return self.said(self.http.post(PREFIX + path, json=body))

    def refused_get(self, path: str, **query: Any) -> tuple[int, str, str]:
        """Return how a GET was refused."""
        return self.said(self.http.get(PREFIX + path, params=query))

    @staticmethod
    def said(answer: Any) -> tuple[int, str, str]:
        """Return what an error says: its body has two fields."""
        body = answer.json()
        assert set(body) == {"error_code", "message"}, body
        return answer.status_code, body["error_code"], body["message"]

    def experiment(self, name: str = "e", **more: Any) -> str:
        """Return the id of a new experiment."""
        return self.post("experiments/create", name=name, **more)["experiment_id"]

    def run(self, experiment: str = "0", **more: Any) -> str:
        """Return the id of a new run."""
        made = self.post("runs/create", experiment_id=experiment, **more)
        return made["run"]["info"]["run_id"]
