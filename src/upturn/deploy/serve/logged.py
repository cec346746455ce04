"""Entry: what the Log has of a request, begun before the model is called."""

from dataclasses import dataclass

import msgspec

from upturn.core.errors import ModelFailed
from upturn.core.log import Features, PredictionBatch
from upturn.deploy.serve.live import Share
from upturn.deploy.serve.rows import Rows
from upturn.deploy.serve.worker import Predicted

_NOTHING = Predicted(None, [], 0.0)


@dataclass(frozen=True, slots=True)
class Entry:
    """A request's rows with their ids. `received_at` is in microseconds since 1970."""

    route: int
    ids: list[str]
    rows: Rows
    request: str
    received_at: int

    def features(self, share: Share) -> Features:
        """What the share's model sees of its rows, as the Log keeps it."""
        return share.arm.features(self.rows.block, share.places)

    def batch(
        self, share: Share, features: Features, found: Predicted, latency_s: float, error: str = ""
    ) -> PredictionBatch:
        """The share's rows with what its model answered."""
        arm, places = share.arm, share.places
        ids, units, at = self.ids, self.rows.units, self.rows.at
        if places is not None:
            ids = [ids[place] for place in places]
            units = None if units is None else [units[place] for place in places]
            at = [at[place] for place in places] if isinstance(at, list) else at
        scores, answers = found.scores, found.answers
        if arm.scored:
            scores, answers = answers, None
        return PredictionBatch(
            ids=ids,
            at=self.received_at if at is None else at,
            received_at=self.received_at,
            route=self.route,
            arm=arm.arm.name,
            version=arm.version.number,
            shadow=arm.arm.shadow,
            units=units,
            propensity=share.propensity,
            features=features,
            scores=scores,
            answers=answers,
            latency_s=latency_s,
            request=self.request or self.ids[0],
            error=error,
        )

    def failed(self, share: Share, features: Features, error: ModelFailed) -> PredictionBatch:
        """The share's rows, which have no answer because of the error."""
        why = str(error.fields.get("reason") or error.message)
        return msgspec.structs.replace(
            self.batch(share, features, _NOTHING, 0.0, why), scores=None, answers=None
        )
