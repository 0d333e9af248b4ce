"""What drives scores: planted effects are found, with their direction and shape; nobody's own values are kept."""

from __future__ import annotations

import itertools
import json

import altair as alt
import numpy as np
import pytest

from persopredict import drivers, learner
from persopredict.drivers import Bin, Driver, Drivers
from persopredict.errors import SpecificationError
from persopredict.features.spec import Feature
from persopredict.predictor import Predictor
from persopredict.wording import Wording
from tests import made

FEATURES = (
    Feature("recency", fallback=None),
    Feature("count", window="28d", fallback=0),
    Feature("count", window="91d", fallback=0),
    Feature("sum", "value", window="91d", fallback=0),
    Feature("mean", "hour", fallback=None),
    Feature("share", where="channel = 'web'", window="91d", fallback=None),
)
RECENCY, SHORT, LONG, AMOUNT, HOUR, SHARE = (feature.name for feature in FEATURES)
ROWS = 4_000


class Planted:
    """A model whose contributions are known: days since the last event speak against, twice as much where they are unknown for; events
    speak for, mostly those of 91 days; an hour near noon speaks for, an early or late one against; the amount and the share say nothing.
    """

    kind = "planted"
    names = tuple(feature.name for feature in FEATURES)

    def contributions(self, X):
        found = np.zeros((len(X), len(FEATURES) + 1))
        found[:, 0] = np.where(np.isnan(X[:, 0]), 0.4, 0.3 - 0.02 * X[:, 0])
        found[:, 1], found[:, 2] = 0.02 * (X[:, 1] - 1), 0.1 * (X[:, 2] - 3)
        found[:, 4] = 0.2 - 0.03 * np.abs(X[:, 4] - 12)
        return found


@pytest.fixture(scope="module")
def X():
    rng = np.random.default_rng(0)
    short = rng.poisson(1.0, ROWS)
    rows = [rng.exponential(15.0, ROWS), short, short + rng.poisson(2.0, ROWS), rng.gamma(1.0, 9.0, ROWS), rng.uniform(0, 24, ROWS)]
    found = np.stack([*rows, rng.random(ROWS)], axis=1)
    found[rng.random(ROWS) < 0.1, 0] = np.nan
    return found


@pytest.fixture(scope="module")
def found(X):
    return Drivers.of(Planted(), X, FEATURES)


# What is found ---------------------------------------------------------------------------------------------------------------------


def test_drivers_are_concepts_strongest_first_with_their_mean_effect(found, X):
    values = Planted().contributions(X)
    assert [driver.feature for driver in found] == [RECENCY, LONG, HOUR]
    expected = [np.abs(values[:, 0]).mean(), np.abs(values[:, 1] + values[:, 2]).mean(), np.abs(values[:, 4]).mean()]
    assert [driver.effect for driver in found] == pytest.approx(expected, rel=1e-5)
    assert sum(found.shares) == pytest.approx(1)
    assert found.rows == ROWS


def test_one_aggregate_over_neighbouring_windows_is_one_driver_with_the_strongest_member_s_face(found, X):
    driver = found.of_feature(SHORT)
    assert driver is found.of_feature(LONG)
    assert (driver.feature, driver.members) == (LONG, (SHORT, LONG))
    # Its bins are the face's, what they add is the whole concept's.
    whole = Planted().contributions(X)[:, [1, 2]].sum(axis=1)
    for bin in driver.bins:
        inside = (X[:, 2] >= bin.low) & (X[:, 2] <= bin.high)
        if bin is not driver.bins[-1]:
            assert bin.contribution == pytest.approx(whole[inside].mean(), rel=1e-4)


def test_the_direction_is_where_larger_values_lead(found):
    assert {driver.feature: driver.direction for driver in found} == {RECENCY: "down", LONG: "up", HOUR: "mixed"}


def test_what_moves_nothing_is_no_driver(found):
    assert AMOUNT not in found
    assert SHARE not in found
    assert SHORT in found
    with pytest.raises(SpecificationError, match="drives nothing"):
        found.of_feature(AMOUNT)
    with pytest.raises(SpecificationError, match=r"'' drives nothing; (to_frame\(\) lists what does|there are)"):
        found.of_feature("")


def test_the_shape_tells_what_values_do(found):
    recency, hour = found.of_feature(RECENCY), found.of_feature(HOUR)
    assert len(recency.bins) == drivers.BINS + 1
    assert [bin.known for bin in recency.bins] == [True] * drivers.BINS + [False]
    known = recency.bins[:-1]
    for bin in known[1:-1]:
        assert bin.contribution == pytest.approx(0.3 - 0.02 * bin.value, abs=1e-3)
    assert all(left.high <= right.low for left, right in itertools.pairwise(known))
    assert recency.bins[-1].contribution == pytest.approx(0.4)
    assert recency.bins[-1].share == pytest.approx(0.1, abs=0.02)
    assert sum(bin.share for bin in recency.bins) == pytest.approx(1, abs=1e-4)
    best = max(hour.bins, key=lambda bin: bin.contribution)
    assert best.low < 12.5
    assert best.high > 11.5
    assert recency.shape[0] == "█"
    assert recency.shape[-1] == "▁"


@pytest.mark.parametrize(
    ("contributions", "direction"),
    [
        ([0, 0, 0, 0, 1], "up"),
        ([1, 0, 0, 0, 0], "down"),
        ([0, 1, 2, 3, 4], "up"),
        ([0, 0.01, -0.01, 0.5, 0.49], "up"),
        ([1, 0, -1, 0, 1], "mixed"),
        ([0, 2, 3, 2, 1], "mixed"),
        ([0, 0, 0, 0, 0], "mixed"),
        ([0.3], "mixed"),
        ([], "mixed"),
    ],
)
def test_small_steps_back_don_t_change_a_direction_large_ones_do(contributions, direction):
    bins = [Bin(place, place, place, value, 1 / len(contributions)) for place, value in enumerate(contributions)]
    assert drivers._direction(bins) == direction
    assert drivers._direction([*bins, Bin(None, None, None, 99.0, 0.5)]) == direction


def test_a_rare_value_s_step_is_a_direction(X):
    rare = np.zeros((ROWS, 1))
    rare[:100] = 1.0

    class Step(Planted):
        names = (SHORT,)

        def contributions(self, X):
            return np.stack([np.where(X[:, 0] > 0, 1.0, -0.02), np.zeros(len(X))], axis=1) if len(X) else np.zeros((0, 2))

    (driver,) = Drivers.of(Step(), rare, FEATURES[1:2])
    assert driver.direction == "up"
    assert [(bin.low, bin.high, bin.share) for bin in driver.bins] == [(0, 0, 0.975), (1, 1, 0.025)]


def test_rows_that_stand_for_many_count_as_many(X):
    weight = np.where(X[:, 2] > 3, 10.0, 1.0)
    found = Drivers.of(Planted(), X, FEATURES, weight=weight)
    values = Planted().contributions(X)
    assert found.of_feature(HOUR).effect == pytest.approx(np.average(np.abs(values[:, 4]), weights=weight), rel=1e-5)
    for bin in found.of_feature(LONG).bins:
        inside = X[:, 2] >= bin.low if bin.high > 6 else (X[:, 2] >= bin.low) & (X[:, 2] <= bin.high)
        assert bin.share == pytest.approx(weight[inside].sum() / weight.sum(), rel=1e-4)
    whole = Drivers.of(Planted(), np.repeat(X, weight.astype(int), axis=0), FEATURES)
    assert [(driver.feature, driver.direction) for driver in whole] == [(driver.feature, driver.direction) for driver in found]
    assert [driver.effect for driver in whole] == pytest.approx([driver.effect for driver in found], rel=1e-5)


# What is kept ----------------------------------------------------------------------------------------------------------------------


def test_nobody_s_own_value_is_kept(X):
    X = X.copy()
    X[7, 0], X[8, 2], X[9, 4] = 98_765.0, 4_321.0, -777.0
    kept = json.dumps(Drivers.of(Planted(), X, FEATURES).to_dict())
    assert not any(number in kept for number in ("98765", "4321", "777"))
    recency = Drivers.of(Planted(), X, FEATURES).of_feature(RECENCY)
    known = np.sort(X[~np.isnan(X[:, 0]), 0])
    assert recency.bins[-2].high <= known[-drivers.LEAST]
    assert recency.bins[0].low >= known[drivers.LEAST - 1]


@pytest.mark.parametrize("rows", [1, 19, 20, 39, 40, 100, 250])
def test_a_bin_is_never_of_few_rows(X, rows):
    found = Drivers.of(Planted(), X[:rows], FEATURES)
    for driver in found:
        for bin in driver.bins:
            assert not bin.known or round(bin.share * rows) >= drivers.LEAST
    assert rows >= drivers.LEAST or not any(bin.known for driver in found for bin in driver.bins)


def test_no_rows_have_no_drivers(X):
    assert len(Drivers.of(Planted(), X[:0], FEATURES)) == 0


def test_what_is_always_unknown_has_one_bin(X):
    X = X.copy()
    X[:, 0] = np.nan
    assert [(bin.value, bin.share) for bin in Drivers.of(Planted(), X, FEATURES).of_feature(RECENCY).bins] == [(None, 1.0)]


def test_drivers_survive_json(found):
    again = Drivers.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False)))
    assert again == found
    assert again[0].bins[0] == found[0].bins[0]


def test_a_model_that_can_t_tell_has_none(X):
    assert Drivers.of(learner.EstimatorScorer(object(), Planted.names), X, FEATURES) is None


# What is shown ---------------------------------------------------------------------------------------------------------------------


def test_frames_hold_drivers_and_their_bins(found):
    frame = found.to_frame()
    assert frame["feature"].tolist() == [RECENCY, LONG, HOUR]
    assert frame["members"].tolist()[1] == [SHORT, LONG]
    assert frame["share"].sum() == pytest.approx(1)
    bins = found[0].to_frame()
    assert list(bins.columns) == ["low", "high", "value", "contribution", "share"]
    assert bins["value"].isna().tolist() == [False] * 10 + [True]


def test_text_and_html_name_the_strongest_first(found):
    lines = str(found).splitlines()
    assert lines[0] == "what moves the score (4,000 rows)"
    assert [line.split("  ")[-1] for line in lines[2:]] == [found.of_feature(name).label for name in (RECENCY, LONG, HOUR)]
    assert "down" in lines[2]
    shown = found._repr_html_()
    assert shown.index(found[0].label) < shown.index(found[1].label)
    assert "<script" not in Drivers(1, (Driver("f", "<script>", ("f",), 1.0, "up", ()),))._repr_html_()


def test_without_drivers_the_text_says_so():
    assert "the same for everybody" in str(Drivers(10, ()))
    assert "the same for everybody" in Drivers(10, ())._repr_html_()


def test_more_than_a_dozen_are_counted():
    many = Drivers(10, tuple(Driver(f"f{n}", f"feature {n}", (f"f{n}",), 1.0, "up", ()) for n in range(15)))
    assert str(many).splitlines()[-1] == "  and 3 more"
    assert "and 3 more" in many._repr_html_()
    assert len(many[1:3]) == 2


def test_plots_show_all_drivers_or_the_shape_of_one(found):
    assert isinstance(found.plot(), alt.LayerChart)
    shape = found.plot(SHORT, title={LONG: "purchases"}.get, wording=Wording("es"))
    assert isinstance(shape, alt.LayerChart)
    assert "purchases" in json.dumps(shape.to_dict(), ensure_ascii=False)
    with pytest.raises(SpecificationError, match="drives nothing"):
        found.plot("recency")
    with pytest.raises(SpecificationError, match=r"'es' is no wording; give a Wording, like Wording\('es'\)"):
        found.plot(wording="es")


# With a model ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def churn():
    return made.predictor(made.CHURN).fit(made.events(), made.NIGHTS[1])


def test_a_fitted_predictor_tells_what_drives_it(churn):
    told = churn.drivers_
    assert 0 < told.rows <= churn.rows_
    assert {member for driver in told for member in driver.members} <= set(churn.model_.inputs)
    assert told.of_feature("recency_all").direction == "up"


def test_the_rows_looked_at_are_drawn_and_equal_fits_tell_the_same(churn, monkeypatch):
    monkeypatch.setattr(drivers, "MOST_ROWS", 300)
    few = [made.predictor(made.CHURN).fit(made.events(), made.NIGHTS[1]).drivers_ for _ in range(2)]
    assert few[0] == few[1]
    assert few[0].rows == 300
    assert few[0] != churn.drivers_


def test_saved_predictors_keep_them_and_older_ones_load_without(churn, tmp_path):
    churn.save(tmp_path)
    assert Predictor.load(tmp_path).drivers_ == churn.drivers_
    specs = json.loads((tmp_path / "specs.json").read_text())
    del specs["drivers"]
    (tmp_path / "specs.json").write_text(json.dumps(specs))
    assert Predictor.load(tmp_path).drivers_ is None


def test_pairs_have_drivers_too(tmp_path):
    taste = made.taste_predictor().fit(made.taste_events(), made.TASTE_NIGHTS[1])
    told = taste.drivers_
    assert told.rows == min(drivers.MOST_ROWS, taste.rows_)
    assert {member for driver in told for member in driver.members} <= set(taste.model_.inputs)
    assert sum(bin.share for bin in told[0].bins) == pytest.approx(1, abs=1e-4)
    taste.save(tmp_path)
    assert Predictor.load(tmp_path).drivers_ == told
