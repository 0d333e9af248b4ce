"""persopredict: predictive attributes for every customer, from event logs, with their reasons and their proof.

The public names live in the modules below and are imported on first use, so that ``import persopredict`` stays quick.
A web service imports `OnlineFeatures` from `persopredict.features.online`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from persopredict.attributes import attributes
    from persopredict.errors import PersopredictError, Problem
    from persopredict.evaluation import Evaluation
    from persopredict.events import EventLog
    from persopredict.features.builders import default_features
    from persopredict.features.spec import Feature
    from persopredict.job import Job
    from persopredict.lookups import Lookup
    from persopredict.predictor import Predictor
    from persopredict.ranking_evaluation import RankingEvaluation
    from persopredict.snapshots import rolling_cutoffs, snapshots
    from persopredict.sources import constant as lit
    from persopredict.story import Explanation
    from persopredict.targets import Affinity, Cancellation, Churn, Conversion
    from persopredict.validation import ForwardSplit
    from persopredict.warehouse import Warehouse
    from persopredict.wording import Wording

_HOME = {
    "Affinity": "targets",
    "Cancellation": "targets",
    "Churn": "targets",
    "Conversion": "targets",
    "Evaluation": "evaluation",
    "EventLog": "events",
    "Explanation": "story",
    "Feature": "features.spec",
    "ForwardSplit": "validation",
    "Job": "job",
    "Lookup": "lookups",
    "PersopredictError": "errors",
    "Predictor": "predictor",
    "Problem": "errors",
    "RankingEvaluation": "ranking_evaluation",
    "Warehouse": "warehouse",
    "Wording": "wording",
    "attributes": "attributes",
    "default_features": "features.builders",
    "lit": "sources:constant",
    "rolling_cutoffs": "snapshots",
    "snapshots": "snapshots",
}

__all__ = [
    "Affinity",
    "Cancellation",
    "Churn",
    "Conversion",
    "Evaluation",
    "EventLog",
    "Explanation",
    "Feature",
    "ForwardSplit",
    "Job",
    "Lookup",
    "PersopredictError",
    "Predictor",
    "Problem",
    "RankingEvaluation",
    "Warehouse",
    "Wording",
    "attributes",
    "default_features",
    "lit",
    "rolling_cutoffs",
    "snapshots",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("persopredict")
    if name not in _HOME:
        from persopredict.errors import did_you_mean

        raise AttributeError(f"module 'persopredict' has no attribute {name!r}; {did_you_mean(name, __all__)}")
    module, _, original = _HOME[name].partition(":")
    value = getattr(import_module(f"persopredict.{module}"), original or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


class _Face(ModuleType):
    """The package itself. `snapshots` and `attributes` are functions and modules at once; whoever imports the module must not hide the
    function, as the import system otherwise does.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in _HOME):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
