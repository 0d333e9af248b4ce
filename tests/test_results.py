"""An evaluation is stored without loss and without customers, and says what it found to whoever reads it."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from persopredict.calibration import choose, sigmoid
from persopredict.errors import Problem, SpecificationError
from persopredict.evaluation import Evaluation, evaluate
from persopredict.metrics import NAMES
from tests.folds import scored as made

SUSPECTED = (Problem("nearly_the_label", "refunds alone has AUC 0.99", "warning", example="c00001", remedy="leave it out"),)


def chosen(folds):
    """An evaluation that has everything to say."""
    calibration = choose([(fold.logit, fold.y) for fold in folds])
    kinds = {"logistic": 0.4012, "lightgbm": 0.3987, "btyd": math.nan}
    return evaluate(folds, target="churn_purchase_28d", calibration=calibration, kind="lightgbm", kinds=kinds, suspected=SUSPECTED)


def test_an_evaluation_survives_json():
    evaluation = replace(chosen(made(rule=0.5)), kinds={"lightgbm": 0.3987}, suspected=(replace(SUSPECTED[0], example=""),))
    stored = json.dumps(evaluation.to_dict(), allow_nan=False)
    loaded = Evaluation.from_dict(json.loads(stored))
    assert loaded == evaluation
    assert (str(loaded), loaded._repr_html_(), list(loaded.digest())) == (
        str(evaluation),
        evaluation._repr_html_(),
        list(evaluation.digest()),
    )
    assert loaded.audience(size=80) == evaluation.audience(size=80)


def test_what_an_older_version_stored_still_loads():
    evaluation = evaluate(made(rule=0.5), target="churn")
    stored = evaluation.to_dict()
    for name in ("kind", "kinds", "suspected"):
        del stored[name]
    for result in (*stored["folds"], stored["pooled"]):
        for name in ("against", "curve", "reliability"):
            del result[name]
    for fold in stored["folds"]:
        fold["intervals"] = {}
    older = Evaluation.from_dict(stored)
    assert (older.grade, older.skill, older.pooled.intervals) == (evaluation.grade, evaluation.skill, evaluation.pooled.intervals)
    assert older.trend()["skill"].tolist() == pytest.approx(evaluation.trend()["skill"].tolist())
    assert older.trend()["skill_lower"].isna().all()
    assert evaluation.grade_reason in str(older)
    assert "decile" not in str(older)
    with pytest.raises(SpecificationError, match="no_curve"):
        older.audience(size=10)


def test_a_suspicion_is_stored_and_logged_without_its_example():
    evaluation = chosen(made(rule=0.5))
    assert "c00001" not in json.dumps(evaluation.to_dict()) + "".join(evaluation.digest()) + evaluation._repr_html_()
    assert Evaluation.from_dict(evaluation.to_dict()).suspected[0].message == "refunds alone has AUC 0.99"


@pytest.mark.parametrize(
    "text", [str, lambda found: "\n".join(found.digest()), lambda found: found._repr_html_()], ids=["print", "digest", "html"]
)
def test_it_is_said_which_model_is_shipped_and_what_looks_like_leakage(text):
    said = text(chosen(made(rule=0.5)))
    assert "model: lightgbm, chosen by out-of-time log-loss: lightgbm 0.3987, logistic 0.4012, btyd –" in said
    assert "suspected leakage:" in said
    assert "warning nearly_the_label: refunds alone has AUC 0.99. Remedy: leave it out." in said
    nothing = text(evaluate(made(), target="churn"))
    assert "suspected" not in nothing
    assert "chosen by" not in nothing


def test_an_audience_is_chosen_among_as_many_as_the_latest_cutoff_had():
    folds = made(rule=0.5)
    arrays = {name: getattr(folds[2], name)[:700] for name in ("customer_id", "y", "logit", "probability")}
    folds[2] = replace(folds[2], baselines={name: p[:700] for name, p in folds[2].baselines.items()}, **arrays)
    evaluation = evaluate(folds, target="churn")
    reached = evaluation.audience(size=70)
    assert (reached.of, reached.share) == (700, 0.1)
    tops = [fold.y[np.argsort(-fold.probability)[: len(fold.y) // 10]] for fold in folds]
    assert reached.precision == pytest.approx(np.concatenate(tops).mean())
    assert reached.interval[0] < reached.precision < reached.interval[1]
    assert evaluation.audience(share=0.1, of=7000).expected == pytest.approx(10 * reached.expected)


def test_the_trend_shows_a_model_that_decays():
    folds = made(rule=0.5, rows=2000)
    rng = np.random.default_rng(9)
    for place in (1, 2):
        logit = folds[place].logit + place * rng.normal(size=2000)
        folds[place] = replace(folds[place], logit=logit, probability=sigmoid(logit))
    evaluation = evaluate(folds, target="churn")
    trend = evaluation.trend()
    assert trend.index.tolist() == ["2017-10-01", "2017-11-01", "2017-12-01"]
    assert trend["auc_upper"].iloc[2] < trend["auc_lower"].iloc[0]
    assert trend["skill_upper"].iloc[2] < trend["skill_lower"].iloc[0]
    assert trend["log_loss_lower"].iloc[2] > trend["log_loss_upper"].iloc[0]
    for fold, (_, row) in zip(evaluation.folds, trend.iterrows(), strict=True):
        assert (row["rows"], row["positives"], row["auc"]) == (2000, fold.positives, fold.model.auc)
        assert row["skill"] == pytest.approx(1 - fold.model.log_loss / fold.baselines[evaluation.best_baseline].log_loss)


def test_what_has_no_value_is_null_in_json_and_left_out_of_the_summary():
    one_class = evaluate([replace(fold, y=np.zeros_like(fold.y)) for fold in made()], target="churn")
    stored = json.loads(json.dumps(one_class.to_dict(), allow_nan=False))
    assert stored["pooled"]["model"]["auc"] is None
    assert Evaluation.from_dict(stored).to_dict() == one_class.to_dict()
    assert "auc" not in one_class.summary()
    assert one_class.summary()["positives"] == 0


def test_an_evaluation_holds_no_customer():
    assert "c00001" not in json.dumps(evaluate(made(), target="churn").to_dict())


def test_the_frame_has_a_row_per_cutoff_and_one_for_the_pool():
    evaluation = evaluate(made(rule=0.5), target="churn")
    frame = evaluation.to_frame()
    assert frame.index.tolist() == ["2017-10-01", "2017-11-01", "2017-12-01", "pooled"]
    assert set(NAMES) <= set(frame.columns)
    assert frame.loc["pooled", "best_rule_auc"] == evaluation.pooled.baselines["best_rule"].auc
    assert frame["auc_lower"].tolist() == [result.interval("auc")[0] for result in (*evaluation.folds, evaluation.pooled)]
    assert frame.loc["pooled", "auc_lower"] == evaluation.summary()["auc_lower"]
    assert frame.loc["2017-11-01", "skill_against_best_rule"] == evaluation.folds[1].skill("best_rule")[0]


def test_the_summary_holds_the_gain_over_each_baseline_and_the_candidates():
    evaluation = chosen(made(rule=0.5))
    found, against = evaluation.summary(), evaluation.against["base_rate"]
    assert (found["skill_against_base_rate"], found["auc_gain_over_base_rate_lower"]) == (against.skill, against.auc.interval[0])
    assert {name for name in found if name.startswith("candidate_")} == {"candidate_lightgbm_log_loss", "candidate_logistic_log_loss"}


def test_the_printed_table_shows_the_model_beside_its_baselines():
    folds = made(rule=0.5)
    folds[0] = replace(folds[0], cutoff=folds[0].cutoff.replace(hour=5))
    calibration = choose([(fold.logit, fold.y) for fold in folds])
    text = str(evaluate(folds, target="churn_purchase_28d", calibration=calibration))
    assert text.startswith("churn_purchase_28d: grade A. Clearly better")
    lines = text.splitlines()
    (model,) = [line for line in lines if line.startswith("model ")]
    order = [line.split()[0] for line in lines[lines.index(model) + 3 :][:2]]
    assert order == ["best_rule", "base_rate"]
    assert [line.split(":")[0] for line in lines if line.startswith("against ")] == ["against best_rule", "against base_rate"]
    assert "2017-10-01 05:00+0000" in text
    assert f"{np.sum([fold.y.sum() for fold in folds])} (" in text
    assert text.endswith(str(calibration))
    assert max(map(len, lines[1 : -len(str(calibration).splitlines())])) <= 140


def test_the_notebook_view_escapes_names():
    folds = [replace(fold, baselines={"<i>rule": fold.baselines["best_rule"]}) for fold in made()]
    html = evaluate(folds, target="<b>churn</b>", kind="<u>")._repr_html_()
    assert "&lt;b&gt;churn" in html
    assert not {"<i>", "<u>"} & set(html.replace(">", "> ").split())
    tables = {"predictors": 1 + 2, "cutoffs": 1 + 3, "deciles": 1 + 10, "reliability": 1 + 10}
    assert (html.count("<table>"), html.count("<tr>"), html.count("<style>")) == (len(tables), sum(tables.values()), 1)
