"""A share of the customers: the same ones whatever else the log holds, with the features that they have among all."""

import numpy as np
import pandas as pd
import pytest

from persopredict import budget
from persopredict.budget import share_of
from persopredict.datasets import made_log
from persopredict.errors import SpecificationError
from persopredict.events import EventLog
from persopredict.features.builders import default_features
from persopredict.features.spec import Feature
from persopredict.lookups import Lookup
from persopredict.predictor import Predictor
from persopredict.snapshots import snapshots
from persopredict.targets import Churn, Conversion
from persopredict.times import instant

CHURN = Churn("purchase", "28d")
CUTOFFS = ["2024-06-02", "2024-08-01"]


@pytest.fixture(scope="module")
def made():
    return made_log(400, days=250, seed=3)


@pytest.fixture(scope="module")
def log(made):
    return EventLog(made.events, observed=(made.start, made.end))


def test_who_is_drawn_has_the_rows_that_everybody_has(log):
    features = default_features(log)
    everybody = snapshots(log, CUTOFFS, features, [CHURN]).to_pandas()
    some = snapshots(log, CUTOFFS, features, [CHURN], share=0.25).to_pandas()
    ids = set(some["customer_id"])
    assert 60 < len(ids) < 140
    expected = everybody[everybody["customer_id"].isin(ids)].reset_index(drop=True)
    pd.testing.assert_frame_equal(some, expected)


def test_a_larger_share_holds_a_smaller_one_and_others_change_nothing(made, log):
    def ids(events, share):
        return set(snapshots(events, CUTOFFS, [Feature("recency", fallback=None)], share=share).to_pandas()["customer_id"])

    frame = made.events.to_pandas()
    without = EventLog(frame[frame["customer_id"] != min(ids(log, 0.2))], observed=(made.start, made.end))
    assert ids(log, 0.2) < ids(log, 0.5) < ids(log, 1.0)
    assert ids(without, 0.2) == ids(log, 0.2) - {min(ids(log, 0.2))}


def test_facts_and_late_rows_are_those_of_the_log(made):
    frame = made.events.to_pandas()
    frame["known"] = frame["event_at"] + pd.Timedelta(days=3)
    tiers = pd.DataFrame({"customer_id": sorted(set(frame["customer_id"])), "tier": "gold"})
    events = EventLog(frame, known_at="known", observed=(made.start, made.end)).join(Lookup(tiers, key="customer_id", columns=["tier"]))
    features = [Feature("count", where="tier = 'gold'", window="28d", fallback=0), Feature("recency", fallback=None)]
    everybody = snapshots(events, CUTOFFS, features, [CHURN]).to_pandas()
    some = snapshots(events, CUTOFFS, features, [CHURN], share=0.3).to_pandas()
    expected = everybody[everybody["customer_id"].isin(set(some["customer_id"]))].reset_index(drop=True)
    assert len(some)
    pd.testing.assert_frame_equal(some, expected)


def test_a_share_that_draws_nobody_gives_no_rows(log):
    assert not len(snapshots(log, CUTOFFS, [Feature("recency", fallback=None)], share=1e-9).to_pandas())


@pytest.mark.parametrize("share", [0, -0.1, 1.5, float("nan")])
def test_an_impossible_share_is_refused(log, share):
    with pytest.raises(SpecificationError, match="share is"):
        snapshots(log, CUTOFFS, share=share)


def test_a_spine_has_no_share(log):
    spine = pd.DataFrame({"customer_id": ["c1"], "cutoff": ["2024-06-02"]})
    with pytest.raises(SpecificationError, match="leave share out"):
        snapshots(log, spine=spine, share=0.5)


# How many are enough -------------------------------------------------------------------------------------------------------------------


def budgeted(monkeypatch, **values):
    for name, value in values.items():
        monkeypatch.setattr(budget, name, value)


def test_a_small_log_is_taken_whole(log):
    assert share_of(log, CHURN, [instant(text) for text in CUTOFFS], instant("2024-09-06")) == 1.0


def test_of_a_large_log_as_many_are_drawn_as_make_the_snapshots_wanted(log, monkeypatch):
    budgeted(monkeypatch, MOST_SNAPSHOTS=200, RARER=0)
    moments, until = [instant(text) for text in CUTOFFS], instant("2024-09-06")
    share = share_of(log, CHURN, moments, until)
    rows = len(snapshots(log, moments, (), [CHURN], until=until, share=share).to_pandas())
    assert 0.2 < share < 0.5
    assert 160 < rows < 240


def test_a_rare_outcome_takes_more_customers_up_to_a_limit(log, monkeypatch):
    moments, until = [instant(text) for text in CUTOFFS], instant("2024-09-06")
    rare = Conversion("conversion", "3d")
    budgeted(monkeypatch, MOST_SNAPSHOTS=100, RARER=0, MOST_FOR_RARE=400)
    few = share_of(log, rare, moments, until)
    budgeted(monkeypatch, RARER=1_000_000)
    assert share_of(log, rare, moments, until) == pytest.approx(4 * few)


def test_the_probe_tells_the_same_as_everybody(log, monkeypatch):
    budgeted(monkeypatch, MOST_SNAPSHOTS=200, RARER=0)
    moments, until = [instant(text) for text in CUTOFFS], instant("2024-09-06")
    whole = share_of(log, CHURN, moments, until)
    budgeted(monkeypatch, _PROBED=200)
    assert share_of(log, CHURN, moments, until) == pytest.approx(whole, rel=0.15)


def test_a_predictor_of_a_share_says_so_and_counts_audiences_among_everybody(log, monkeypatch):
    whole = Predictor(CHURN).fit(log)
    budgeted(monkeypatch, MOST_SNAPSHOTS=whole.rows_ // 2, RARER=0)
    some = Predictor(CHURN).fit(log)
    share = some.evaluation_.share
    assert whole.evaluation_.share == 1.0
    assert share == pytest.approx(0.5, abs=0.1)
    assert some.rows_ < 0.65 * whole.rows_
    assert "% of the customers were looked at, drawn by md5" in str(some.evaluation_)
    assert "drawn" not in str(whole.evaluation_)
    asked = whole.evaluation_.folds[-1].rows
    assert some.evaluation_.audience(share=0.1).of == pytest.approx(asked, rel=0.2)
    # Who is scored is not drawn.
    assert len(some.predict(log)) == len(whole.predict(log))


def test_a_later_test_looks_at_a_share_too_and_says_so(log, monkeypatch):
    fitted, later = Predictor(CHURN).fit(log, until="2024-07-15"), ["2024-07-20", "2024-08-03"]
    whole = fitted.test(log, [instant(text) for text in later])
    budgeted(monkeypatch, MOST_SNAPSHOTS=sum(len(fold.y) for fold in whole) // 2, RARER=0)
    some = fitted.test(log, [instant(text) for text in later])
    assert [fold.share for fold in whole] == [1.0, 1.0]
    assert some[0].share == some[1].share == pytest.approx(0.5, abs=0.1)
    for fewer, all_ in zip(some, whole, strict=True):
        kept = np.isin(all_.customer_id, fewer.customer_id)
        assert 0.3 < kept.mean() < 0.7
        np.testing.assert_array_equal(fewer.probability, all_.probability[kept])
        np.testing.assert_array_equal(fewer.y, all_.y[kept])
    assert fitted.evaluate(log, later).share == some[0].share
    # Two models are compared on the customers that both were asked about.
    assert fitted.compare(some, whole).rows == sum(len(fold.y) for fold in some)
