"""How results are shown in a notebook: tables of HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from persopredict import html
from persopredict.cells import cell, percent
from persopredict.curves import Curve, ReliabilityBin
from persopredict.html import Html
from persopredict.metrics import Metrics

#: What a table of predictors shows: heading, name in `Metrics`, decimals.
_COLUMNS = (
    ("AUC", "auc", 3),
    ("average precision", "average_precision", 3),
    ("log-loss", "log_loss", 4),
    ("Brier skill", "brier_skill", 3),
    ("ECE", "ece", 4),
    ("lift of the top tenth", "lift_top_decile", 2),
)


def predictors(found: Mapping[str, Metrics]) -> Html:
    """The model and its baselines, one in a row."""
    rows = [(name, *(cell(getattr(metrics, key), decimals) for _, key, decimals in _COLUMNS)) for name, metrics in found.items()]
    return html.table(("", *(heading for heading, _, _ in _COLUMNS)), rows)


def deciles(curve: Curve) -> Html:
    """Each tenth of the customers, to be opened; nothing where the curve was not kept."""
    heading = ("tenth", "customers", "expected", "came", "precision", "lift", "cumulative gain")
    rows = [
        (f"{found.decile}", f"{found.rows:,.0f}", f"{found.expected:,.0f}", f"{found.positives:,.0f}",
         percent(found.precision), cell(found.lift, 2), percent(found.gain))
        for found in curve.deciles
    ]  # fmt: skip
    return html.folded("by tenths of the customers, the likeliest first", html.table(heading, rows, words=())) if rows else Html()


def reliability(bins: Sequence[ReliabilityBin]) -> Html:
    """Predicted beside observed rates, the likeliest first, to be opened; nothing where they were not kept."""
    heading = ("customers", "predicted", "observed", "95% interval", "")
    rows = [
        (f"{found.rows:,}", percent(found.predicted), percent(found.observed), f"{percent(found.lower)} to {percent(found.upper)}",
         "" if found.holds else "outside")
        for found in reversed(bins)
    ]  # fmt: skip
    return html.folded("what was said, and what came", html.table(heading, rows, words=())) if rows else Html()
