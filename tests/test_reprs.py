"""How objects show themselves: short in a line, rich in a notebook, without work, without customers, without markup from the data."""

from __future__ import annotations

import re
from datetime import timedelta
from html.parser import HTMLParser
from types import MappingProxyType
from zoneinfo import ZoneInfo

import pandas as pd
import polars as pl
import pytest

import persopredict as pp
from persopredict.evaluation import Evaluation
from persopredict.events import EventLog
from persopredict.features.builders import default_features
from persopredict.job_result import JobResult, Outcome
from persopredict.predictor import Predictor
from persopredict.registry import ModelVersion
from persopredict.snapshots import snapshots
from persopredict.targets import Affinity, Cancellation, Churn, Conversion
from persopredict.warehouse import Warehouse
from tests import made

TARGETS = (
    Churn("purchase", "28d"),
    Churn("purchase", "28d", active_within=None, name="gone"),
    Conversion(("signup", "trial"), "7d", gap="36h", once=True, where="channel = 'web'", cohort="event = 'visit'"),
    Cancellation("cancel", "30d", start="subscribe", competing=("expire",), active_within="91d"),
    Affinity("purchase", "28d", by="item_id", top=3, name="taste"),
)


NAMES = {name: getattr(pp, name) for name in ("Affinity", "Cancellation", "Churn", "Conversion", "Feature")}


class Tree(HTMLParser):
    """Checks that every element that is opened is closed; keeps the text."""

    def __init__(self, page):
        super().__init__()
        self.open, self.texts = [], []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        if tag not in ("br",):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(self.texts)


def text_of(shown):
    """The words of what a notebook shows, which is one block."""
    page = shown._repr_html_()
    assert page.count("<style>") == 1
    return Tree(page).text


@pytest.fixture(scope="module")
def churn():
    return made.predictor(made.CHURN).fit(made.events(), made.NIGHTS[1])


# Targets and features --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_target_is_written_as_one_writes_it(target):
    assert eval(repr(target), NAMES) == target
    assert "Duration" not in repr(target)
    assert len(repr(target)) < 120


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        (TARGETS[0], "no purchase within 28 days, asked of customers with at least one purchase in the 91 days before"),
        (TARGETS[1], "no purchase within 28 days, asked of customers with at least one purchase before"),
        (
            TARGETS[2],
            "at least one signup or trial with channel = 'web' within the 7 days that begin 36 hours later, asked of customers with any "
            "event before and no signup or trial with channel = 'web' so far, from their first event with event = 'visit' on",
        ),
        (
            TARGETS[3],
            "the contract ends by cancel within 30 days, not by expire, asked of customers with a running contract, "
            "active in the 91 days before",
        ),
        (TARGETS[4], "at least one purchase within 28 days, for each item, asked of customers with any event in the 91 days before"),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else "",
)
def test_a_target_is_told_in_a_sentence(target, sentence):
    assert str(target) == f"{target.name}: {sentence}"
    shown = text_of(target)
    meaning, asked_of = sentence.split(", asked of ")
    assert f"Predicts {meaning}. Asked of {asked_of}." in shown
    assert target.name in shown


def test_a_feature_is_written_as_one_writes_it():
    mine = pp.Feature("ratio", ["value", "order_id"], window="4w", fallback=0.5, name="mine", label="<i>mine</i>")
    for feature in (*default_features(made.events()), mine, pp.Feature("decayed_sum", half_life="28d", fallback=None)):
        assert eval(repr(feature), NAMES) == feature
        assert feature.name in text_of(feature)
    assert repr(mine) == "Feature('ratio', ('value', 'order_id'), window='28d', fallback=0.5, name='mine', label='<i>mine</i>')"
    assert "<i>" not in mine._repr_html_()
    assert "the last 28d before the cutoff" in text_of(mine)


# The log ---------------------------------------------------------------------------------------------------------------------------------


class Unreadable:
    """What must not be touched."""

    def __getattr__(self, name):
        raise AssertionError(f"{name} was read")


def test_showing_a_log_reads_nothing(tmp_path):
    log = EventLog(tmp_path / "not there.parquet", customer_id="client", event_at="sold_at", event=pp.lit("purchase"), name="sales")
    assert repr(log) == "EventLog(sales, not read yet, UTC)"
    shown = text_of(log)
    assert "not read yet: check() reads it" in shown
    assert "not there.parquet" in shown
    assert "'purchase' in every row" in shown
    assert "engine" not in vars(log)
    both = EventLog.union(log, EventLog("web/*.csv", name="web"))
    assert repr(both) == "EventLog(sales, web, not read yet, UTC)"
    assert repr(EventLog("SELECT * FROM sales", engine=Unreadable(), name="sales")) == "EventLog(sales, not read yet, UTC)"
    assert "query" in text_of(EventLog("SELECT * FROM sales", engine=Unreadable()))
    assert "table sales" in text_of(EventLog("sales", engine=Unreadable()))


def test_a_log_that_can_t_be_read_is_shown_as_one_that_was_not():
    log = EventLog(pd.DataFrame({"a": [1]}))
    with pytest.raises(pp.PersopredictError):
        log.prepare()
    assert repr(log) == "EventLog(events, not read yet, UTC)"


def test_once_it_was_read_a_log_shows_what_it_holds():
    for ask in (lambda log: log.prepare(), lambda log: log.check(), lambda log: made.predictor(made.CHURN).fit(log, made.NIGHTS[1])):
        log = made.events()
        assert "not read yet" in repr(log)
        ask(log)
        assert repr(log) == "EventLog(18,756 events of 500 customers, 2024-01-01 to 2024-10-27, UTC)"
    log = made.events()
    log.check()
    shown = text_of(log)
    assert "18,756 events of 500 customers" in shown
    assert "customers with it" in shown
    assert "polars DataFrame" in shown
    for event, rows in made.frame()["event"].value_counts().iter_rows():
        assert f"{event} {rows:,}" in shown


def test_showing_a_log_that_was_read_asks_it_nothing(monkeypatch):
    log = made.events().prepare()
    monkeypatch.setattr(type(log.engine), "_execute", None)
    assert "18,756 events" in repr(log)
    assert "18,756 events" in text_of(log)


def test_dates_of_a_log_are_those_of_its_zone():
    frame = pd.DataFrame({"customer_id": [1, 1], "event_at": ["2024-01-01", "2024-03-05 08:00"], "event": ["visit", "visit"]})
    log = EventLog(frame, timezone="Asia/Tokyo").prepare()
    assert repr(log) == "EventLog(2 events of 1 customer, 2024-01-01 to 2024-03-05, Asia/Tokyo)"


def test_a_log_of_many_events_shows_some():
    names = [f"event {number}" for number in range(30)]
    frame = pl.DataFrame({"customer_id": ["a"] * 30, "event_at": ["2024-01-01T00:00:00Z"] * 30, "event": names})
    assert "and 10 more" in text_of(EventLog(frame).prepare())


def test_names_from_the_data_are_escaped():
    frame = pl.DataFrame({"customer_id": ["a"], "event_at": ["2024-01-01T00:00:00Z"], "event": ["<script>alert(1)</script>"]})
    page = EventLog(frame, name="<i>").prepare()._repr_html_()
    assert "<script" not in page
    assert "<i>" not in page
    assert "&lt;script&gt;" in page


# Plans, predictors, models ---------------------------------------------------------------------------------------------------------------


def test_a_plan_of_snapshots_shows_what_it_would_compute_and_computes_nothing(monkeypatch):
    log = made.events()
    plan = snapshots(log, made.NIGHTS, made.FEATURES, [made.CHURN])
    monkeypatch.setattr(type(log.engine), "_execute", None)
    assert repr(plan) == "Snapshots(3 cutoffs, 2024-09-01 to 2024-10-27, 3 features, 1 label; not computed)"
    shown = text_of(plan)
    for words in ("label_churn_purchase_28d", made.CHURN.meaning, made.CHURN.asked_of, made.FEATURES[0].name, made.FEATURES[0].label):
        assert words in shown


def test_a_plan_on_a_spine_names_nobody():
    spine = pd.DataFrame({"customer_id": ["c0000001", "c0000002"], "cutoff": ["2024-05-01", "2024-06-01"]})
    plan = snapshots(made.events(), None, made.FEATURES, spine=spine)
    assert repr(plan) == "Snapshots(Spine(cutoffs from 2024-05-01 to 2024-06-01), 3 features; not computed)"
    assert "c0000001" not in text_of(plan)


def test_a_predictor_shows_what_it_will_do():
    fresh = made.predictor(made.CHURN)
    assert repr(fresh) == "Predictor(churn_purchase_28d, not fitted)"
    shown = text_of(fresh)
    for words in (made.CHURN.meaning, made.CHURN.asked_of, "3 given", "LGBMClassifier", "Not fitted yet"):
        assert words in shown
    assert "the best of base_rate, rule, btyd, logistic, lightgbm" in text_of(Predictor(made.CHURN))
    assert "trees (LightGBM)" in text_of(Predictor(made.TASTE))


def test_a_fitted_predictor_shows_how_well_it_does(churn, tmp_path):
    assert repr(churn) == f"Predictor(churn_purchase_28d, grade {churn.evaluation_.grade}, trained until 2024-09-29)"
    for predictor in (churn, Predictor.load(churn.save(tmp_path))):
        shown = text_of(predictor)
        for words in (churn.evaluation_.grade_reason, "lightgbm, calibration", "2024-09-29", f"{churn.rows_:,} snapshots", "AUC"):
            assert words in shown
        assert not re.search(r"c\d{7}", shown)


@pytest.fixture(scope="module")
def madrid():
    return EventLog(made.frame(), observed=(made.log().start, made.END), timezone="Europe/Madrid")


def test_results_are_told_in_a_line(churn):
    found, log = churn.evaluation_, made.events()
    assert repr(found) == f"Evaluation(churn_purchase_28d, grade {found.grade}, {len(found.folds)} cutoffs, {found.pooled.rows:,} rows)"
    whole = found.pooled
    assert repr(whole) == f"Result(pooled, {whole.rows:,} rows, {whole.positives:,} positives, AUC {whole.model.auc:.3f})"
    assert repr(churn.drivers_) == f"Drivers({len(churn.drivers_)} drivers, {churn.drivers_.rows:,} rows)"
    assert repr(log.check()) == "UsabilityReport(ok, 18,756 rows, 500 customers: no problems)"
    assert repr(log.check([Churn("purchse", "28d")])).startswith("UsabilityReport(not ok, 18,756 rows, 500 customers: unknown_event")
    outcome = Outcome("churn", "published", evaluation=found)
    assert repr(outcome) == f"Outcome(churn, published, grade {found.grade})"
    result = JobResult(made.NIGHTS[1], (outcome, Outcome("taste", "skipped")), log.check())
    assert repr(result) == f"JobResult(as of 2024-09-29, {outcome!r}, Outcome(taste, skipped))"


def test_a_predictor_s_dates_are_those_of_the_log_s_zone(madrid):
    fitted = made.predictor(made.CHURN).fit(madrid, "2024-09-29")
    assert fitted.trained_until_ == made.NIGHTS[1] - timedelta(hours=2)
    assert repr(fitted).endswith("trained until 2024-09-29)")
    cutoffs = [fold.cutoff.astimezone(ZoneInfo("Europe/Madrid")) for fold in fitted.folds_]
    assert list(fitted.evaluation_.to_frame().index) == [*(f"{cutoff:%Y-%m-%d}" for cutoff in cutoffs), "pooled"]
    assert list(fitted.evaluate(madrid, ["2024-09-29"]).to_frame().index) == ["2024-09-29", "pooled"]
    assert Evaluation.from_dict(fitted.evaluation_.to_dict()).to_frame().index.equals(fitted.evaluation_.to_frame().index)


def test_an_affinity_s_dates_are_those_of_the_log_s_zone():
    observed = made.tastes().start, made.tastes().end
    log = EventLog(made.tastes().events, observed=observed, category=("department", "family"), timezone="Asia/Tokyo")
    fitted = made.taste_predictor().fit(log, "2024-06-15")
    tested = [*fitted.evaluation_.to_frame().index, *fitted.evaluate(log, ["2024-06-15"]).to_frame().index]
    assert tested[-2:] == ["2024-06-15", "pooled"]
    assert len(tested) > 3
    assert not [label for label in tested if ":" in label]


def test_an_affinity_s_predictor_shows_itself_too():
    fitted = made.taste_predictor().fit(made.taste_events(), made.TASTE_NIGHTS[1])
    shown = text_of(fitted)
    assert made.TASTE.meaning in shown
    assert "NDCG" in shown
    assert re.fullmatch(r"RankingEvaluation\(\w+, grade [ABC], \d cutoffs, [\d,]+ pairs\)", repr(fitted.evaluation_))


def test_a_model_version_shows_its_tags():
    tags = MappingProxyType({"grade": "B", "trained_until": "2017-12-03T05:00:00+00:00", "recipe": "<b>"})
    version = ModelVersion("churn", 3, "8f2c", "champion", tags)
    assert repr(version) == "ModelVersion(churn, version 3, champion, grade B, trained until 2017-12-03)"
    assert repr(ModelVersion("churn", 3, "8f2c")) == "ModelVersion(churn, version 3)"
    shown = text_of(version)
    for words in ("churn, version 3", "champion", "8f2c", "models:/churn/3", "grade B", "<b>"):
        assert words in shown
    assert "<b>" not in version._repr_html_().split("recipe")[1]


def test_a_warehouse_shows_its_files_without_opening_them(tmp_path):
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    assert repr(warehouse) == f"Warehouse('{tmp_path / 'warehouse.duckdb'}')"
    assert "not there yet" in text_of(warehouse)
    (tmp_path / "warehouse.duckdb").write_bytes(b"no database at all" * 100_000)
    assert "1.8 MB, written 20" in text_of(warehouse)
