"""BG/NBD: the parameters that were planted are found, what it says of customers is what happens to them, and it makes a fair rival."""

import json
import math
from datetime import timedelta

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from persopredict import btyd
from persopredict.btyd import ActiveRule, BgNbd, log_likelihood
from persopredict.datasets import made_log
from persopredict.errors import SpecificationError
from persopredict.events import EventLog
from persopredict.snapshots import rolling_cutoffs, snapshots
from persopredict.targets import Churn, Conversion

SHOP = BgNbd(r=0.8, alpha=20, a=0.8, b=2.4)
LOYAL = BgNbd(r=2, alpha=40, a=0.3, b=6)
HORIZON, GAP = 28, 10


def simulated(truth, customers, seed=0, *, gap=0.0, longest=400.0):
    """Customers lived through event by event: repeats, span, tenure; whether alive at the cutoff; events in the horizon."""
    rng = np.random.default_rng(seed)
    tenure, rate = rng.uniform(longest / 5, longest, customers), rng.gamma(truth.r, 1 / truth.alpha, customers)
    leaving, end = rng.beta(truth.a, truth.b, customers), tenure + gap + HORIZON
    at, repeats, span, later = (np.zeros(customers) for _ in range(4))
    here, alive = np.ones(customers, bool), np.ones(customers, bool)
    while here.any():
        at = at + rng.exponential(1, customers) / np.maximum(rate, 1e-300)
        here &= at < end
        past = here & (at < tenure)
        repeats, span = repeats + past, np.where(past, at, span)
        later += here & (at >= tenure + gap)
        leaves = here & (rng.random(customers) < leaving)
        alive, here = alive & ~(leaves & past), here & ~leaves
    return (repeats, span, tenure), alive, later


def assert_shares(said, happened, bins=10):
    """In each tenth of what was said, what happened lies within four standard errors."""
    for part in np.array_split(np.argsort(said, kind="stable"), bins):
        error = math.sqrt(max(said[part].mean() * (1 - said[part].mean()), 1e-4) / len(part))
        assert happened[part].mean() == pytest.approx(said[part].mean(), abs=4 * error)


def slow_likelihood(model, repeats, span, tenure):
    """Equation (6) of Fader, Hardie and Lee (2005), customer by customer, as it is printed."""

    def beta(a, b):
        return math.gamma(a) * math.gamma(b) / math.gamma(a + b)

    total, (r, alpha, a, b) = 0.0, model.to_dict().values()
    for x, last, until in zip(repeats, span, tenure, strict=True):
        shared = math.gamma(r + x) * alpha**r / math.gamma(r)
        stayed = beta(a, b + x) / beta(a, b) * shared / (alpha + until) ** (r + x)
        left = beta(a + 1, b + x - 1) / beta(a, b) * shared / (alpha + last) ** (r + x) if x > 0 else 0.0
        total += math.log(stayed + left)
    return total


HISTORIES = ([0.0, 1.0, 3.0, 3.0, 12.0], [0.0, 5.0, 40.0, 90.0, 60.0], [50.0, 70.0, 100.0, 90.0, 300.0])


# What it says of customers ----------------------------------------------------------------------------------------------------------------


def test_the_likelihood_is_that_of_the_paper():
    repeats, span, tenure = (np.array(column) for column in HISTORIES)
    for model in (SHOP, LOYAL, BgNbd(0.1, 3, 4, 0.2)):
        value, _ = log_likelihood(list(model.to_dict().values()), repeats, span, tenure, np.ones(5))
        assert value == pytest.approx(slow_likelihood(model, *HISTORIES), rel=1e-12)


def test_a_customer_of_weight_three_is_three_customers():
    columns = [np.array(column) for column in HISTORIES]
    weight = np.array([1, 3, 1, 2, 1])
    once = log_likelihood([1, 10, 1, 5], *columns, weight.astype(float))
    thrice = log_likelihood([1, 10, 1, 5], *(np.repeat(column, weight) for column in columns), np.ones(8))
    assert once[0] == pytest.approx(thrice[0])
    assert once[1] == pytest.approx(thrice[1])


def test_the_gradient_is_the_slope_of_the_likelihood():
    columns = [np.array(column) for column in HISTORIES]
    for theta in np.log([[0.8, 20, 0.8, 2.4], [3, 5, 0.1, 9]]):
        slopes = optimize.approx_fprime(theta, lambda at: log_likelihood(np.exp(at), *columns, np.ones(5))[0], 1e-7)
        assert log_likelihood(np.exp(theta), *columns, np.ones(5))[1] == pytest.approx(slopes, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(("repeats", "span", "tenure"), [(1, 5, 70), (3, 40, 100), (12, 60, 61), (12, 60, 300), (0, 0, 50)])
def test_alive_is_the_posterior_over_every_rate_and_every_dropout(repeats, span, tenure):
    def over_rates(until):
        weigh = stats.gamma(SHOP.r, scale=1 / SHOP.alpha).pdf
        return integrate.quad(lambda rate: rate**repeats * math.exp(-rate * until) * weigh(rate), 0, 5, points=[0.01, 0.1, 1])[0]

    def over_dropout(likelihood):
        return integrate.quad(lambda p: likelihood(p) * stats.beta.pdf(p, SHOP.a, SHOP.b), 0, 1)[0]

    stayed = over_rates(tenure) * over_dropout(lambda p: (1 - p) ** repeats)
    left = over_rates(span) * over_dropout(lambda p: p * (1 - p) ** (repeats - 1)) if repeats else 0.0
    assert SHOP.alive(repeats, span, tenure) == pytest.approx(stayed / (stayed + left), rel=1e-6)


@pytest.mark.parametrize("truth", [SHOP, LOYAL])
def test_customers_are_as_often_alive_and_active_as_it_says(truth):
    seen, alive, later = simulated(truth, 40_000)
    assert_shares(truth.alive(*seen), alive)
    assert_shares(truth.active(*seen, horizon=HORIZON), later > 0)


def test_after_a_gap_they_are_as_often_active_as_it_says():
    seen, _, later = simulated(SHOP, 40_000, gap=GAP)
    said = SHOP.active(*seen, horizon=HORIZON, gap=GAP)
    assert_shares(said, later > 0)
    assert (said < SHOP.active(*seen, horizon=HORIZON)).all()
    assert SHOP.active(*HISTORIES, horizon=28, gap=1e-9) == pytest.approx(SHOP.active(*HISTORIES, horizon=28), rel=1e-6)


def test_as_many_events_come_as_it_expects():
    seen, _, later = simulated(LOYAL, 40_000)
    said = LOYAL.expected(*seen, horizon=HORIZON)
    for part in np.array_split(np.argsort(said), 8):
        assert later[part].mean() == pytest.approx(said[part].mean(), abs=4 * later[part].std() / math.sqrt(len(part)))


def test_the_expected_number_is_equation_10_of_the_paper_and_passes_through_its_pole():
    from scipy.special import hyp2f1

    x, span, tenure = (np.array(column) for column in HISTORIES)
    for a in (0.4, 0.8, 1.3, 5.0):
        model = BgNbd(0.8, 20, a, 2.4)
        series = hyp2f1(0.8 + x, 2.4 + x, a + 2.4 + x - 1, 28 / (20 + tenure + 28))
        lost = ((20 + tenure) / (20 + tenure + 28)) ** (0.8 + x) * series
        printed = (a + 2.4 + x - 1) / (a - 1) * (1 - lost) * model.alive(x, span, tenure)
        assert model.expected(x, span, tenure, horizon=28) == pytest.approx(printed, rel=1e-9)
    beside = [BgNbd(0.8, 20, a, 2.4).expected(*HISTORIES, horizon=28) for a in (1 - 1e-7, 1.0, 1 + 1e-7)]
    assert beside[1] == pytest.approx((beside[0] + beside[2]) / 2, rel=1e-6)


def test_extreme_parameters_and_histories_stay_probabilities():
    rng = np.random.default_rng(0)
    with np.errstate(all="raise", under="ignore"):
        for _ in range(200):
            model = BgNbd(*np.exp(rng.normal(0, 3, 4)))
            repeats, tenure = rng.choice([0.0, 1.0, 20.0, 1000.0], 5), rng.uniform(0, 3000, 5)
            for horizon in (0.1, 28, 3650):
                said = model.active(repeats, tenure * rng.random(5), tenure, horizon=horizon, gap=rng.choice([0, 30]))
                assert ((said >= 0) & (said <= 1)).all()
                assert np.isfinite(model.expected(repeats, tenure * 0.9, tenure, horizon=horizon)).all()


def test_what_is_unknown_of_a_customer_stays_unknown():
    assert np.isnan(SHOP.active([1, np.nan, 0], [np.nan, 3, 0], [9, 9, np.nan], horizon=28)).all()


# Fitting ----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("truth", [SHOP, LOYAL, BgNbd(0.25, 30, 0.8, 2.5)])
def test_planted_parameters_are_found(truth):
    found = BgNbd.fit(*simulated(truth, 20_000, seed=1)[0])
    assert found.r / found.alpha == pytest.approx(truth.r / truth.alpha, rel=0.05)
    assert found.a / (found.a + found.b) == pytest.approx(truth.a / (truth.a + truth.b), rel=0.05)
    assert list(found.to_dict().values()) == pytest.approx(list(truth.to_dict().values()), rel=0.2)


@pytest.mark.parametrize("customers", [40, 2000])
def test_no_parameters_are_likelier_under_the_prior(customers):
    seen = simulated(SHOP, customers)[0]
    centre = np.log([1, seen[2].sum() / seen[0].sum(), 1, 5])

    def posterior(theta):
        return log_likelihood(np.exp(theta), *seen, np.ones(customers))[0] - 0.5 * (((theta - centre) / 2) ** 2).sum()

    found = np.log(list(BgNbd.fit(*seen).to_dict().values()))
    assert optimize.approx_fprime(found, posterior, 1e-6) == pytest.approx(np.zeros(4), abs=0.005)
    assert all(posterior(found + step) < posterior(found) for step in np.vstack([np.eye(4), -np.eye(4)]) / 10)


def test_the_unit_of_time_changes_alpha_alone():
    repeats, span, tenure = simulated(SHOP, 3000)[0]
    days, weeks = BgNbd.fit(repeats, span, tenure), BgNbd.fit(repeats, span / 7, tenure / 7)
    assert [weeks.r, weeks.alpha * 7, weeks.a, weeks.b] == pytest.approx([days.r, days.alpha, days.a, days.b], rel=1e-3)


def test_the_order_of_the_customers_does_not_matter_and_nothing_is_random(monkeypatch):
    monkeypatch.setattr(btyd, "MOST_CUSTOMERS", 500)
    seen = simulated(SHOP, 5000)[0]
    shuffled = np.random.default_rng(1).permutation(5000)
    assert BgNbd.fit(*(column[shuffled] for column in seen)) == BgNbd.fit(*seen) == BgNbd.fit(*seen)


def test_where_few_of_many_repeat_the_drawn_ones_speak_for_all(monkeypatch):
    seen = simulated(BgNbd(0.02, 30, 0.8, 2.5), 200_000)[0]
    assert (seen[0] > 0).mean() < 0.06
    drawn = BgNbd.fit(*seen)
    monkeypatch.setattr(btyd, "MOST_CUSTOMERS", 200_000)
    assert list(drawn.to_dict().values()) == pytest.approx(list(BgNbd.fit(*seen).to_dict().values()), rel=0.03)


def test_twelve_regular_customers_are_enough_and_nine_are_not():
    def regulars(count):
        return BgNbd.fit(np.full(count, 4), np.full(count, 90.0), np.full(count, 100.0))

    assert regulars(9) is None
    assert 0.8 < regulars(12).active(4, 90, 100, horizon=56) < 1


@pytest.mark.parametrize(
    ("repeats", "span", "tenure"),
    [
        (np.zeros(100), np.zeros(100), np.full(100, 50.0)),
        ([3], [20], [50]),
        ([], [], []),
        (np.ones(20), np.zeros(20), np.zeros(20)),
        (np.full(20, np.nan), np.ones(20), np.ones(20)),
        (np.ones(20), np.full(20, -1.0), np.ones(20)),
    ],
    ids=["nobody repeats", "one customer", "no customer", "no time", "nothing known", "impossible"],
)
def test_where_nothing_can_be_learnt_there_is_no_model(repeats, span, tenure):
    assert BgNbd.fit(repeats, span, tenure) is None


@pytest.mark.parametrize(
    ("repeats", "span", "tenure"),
    [
        (np.arange(1, 201), np.arange(1, 201) * 9.9, np.arange(1, 201) * 10.0),
        (np.full(200, 5), np.full(200, 100.0), np.full(200, 120.0)),
        (np.ones(200), np.full(200, 0.01), np.full(200, 900.0)),
        (np.full(200, 10_000), np.full(200, 1000.0), np.full(200, 1000.0)),
        (np.ones(200), np.full(200, 50.0), np.zeros(200) + 1e-9),
    ],
    ids=["nobody leaves", "all alike", "all left at once", "ten events a day", "events after the cutoff"],
)
def test_odd_customers_still_give_finite_parameters(repeats, span, tenure):
    found = BgNbd.fit(repeats, span, tenure)
    assert all(0 < value < 1e6 for value in found.to_dict().values() if value != found.alpha)
    assert 0 <= found.active(2, 20, 30, horizon=28) <= 1


def test_where_nobody_leaves_everybody_is_alive():
    rng = np.random.default_rng(0)
    tenure = rng.uniform(50, 400, 2000)
    repeats = rng.poisson(tenure * rng.gamma(2, 0.03, 2000))
    found = BgNbd.fit(repeats, tenure * np.where(repeats > 0, rng.random(2000) ** (1 / np.maximum(repeats, 1)), 0), tenure)
    assert found.a / (found.a + found.b) < 0.01
    assert found.r / found.alpha == pytest.approx(0.06, rel=0.1)


def test_impossible_parameters_lengths_and_shapes_are_refused():
    with pytest.raises(SpecificationError, match="must be positive and finite"):
        BgNbd(1, math.nan, 1, 1)
    with pytest.raises(SpecificationError, match="horizon is -1"):
        SHOP.active(*HISTORIES, horizon=-1)
    with pytest.raises(SpecificationError, match="gap is inf"):
        SHOP.active(*HISTORIES, horizon=1, gap=math.inf)
    with pytest.raises(SpecificationError, match=r"repeats has shape \(1,\), span has shape \(2,\)"):
        BgNbd.fit([1], [1, 2], [3])


# The baseline -----------------------------------------------------------------------------------------------------------------------------


def snapshots_of(truth=SHOP, customers=4000, seed=0):
    """Rows at one cutoff; a tenth never did the event, and every fifth of these will."""
    (repeats, span, tenure), _, later = simulated(truth, customers, seed)
    days, recency, y = repeats + 1, tenure - span, (later > 0).astype(int)
    never = np.arange(customers) % 10 == 0
    days[never], recency[never], tenure[never] = 0, np.nan, np.nan
    y[never] = np.arange(never.sum()) % 5 == 0
    return {"days": days, "recency": recency, "tenure": tenure, "y": y, "customer": np.arange(customers)}


def asked(rows):
    return rows["days"], rows["recency"], rows["tenure"]


def test_the_rule_says_what_happens():
    rule = ActiveRule.fit(**snapshots_of(), horizon_days=HORIZON)
    fresh = snapshots_of(customers=20_000, seed=1)
    known = fresh["days"] > 0
    said = rule.predict(*asked(fresh))
    assert rule.fallback == ""
    assert rule.calibrator.slope == pytest.approx(1, abs=0.15)
    assert said[known].mean() == pytest.approx(fresh["y"][known].mean(), rel=0.1)
    days, recency, tenure = (column[known] for column in asked(fresh))
    assert said[known] == pytest.approx(SHOP.active(days - 1, tenure - recency, tenure, horizon=HORIZON), abs=0.08)


def test_who_never_did_it_gets_the_shrunk_rate_of_such_rows():
    rows = snapshots_of()
    never = rows["days"] == 0
    base = (rows["y"].sum() + 0.5) / (len(never) + 1)
    said = ActiveRule.fit(**rows, horizon_days=HORIZON).predict(*asked(rows))
    assert said[never] == pytest.approx((rows["y"][never].sum() + 20 * base) / (never.sum() + 20))


def test_churn_is_one_minus_active():
    rows = snapshots_of()
    stays = ActiveRule.fit(**rows, horizon_days=HORIZON, gap_days=GAP)
    leaves = ActiveRule.fit(**{**rows, "y": 1 - rows["y"]}, horizon_days=HORIZON, gap_days=GAP, churn=True)
    assert leaves.model == stays.model
    assert leaves.predict(*asked(rows)) == pytest.approx(1 - stays.predict(*asked(rows)), abs=1e-6)


def test_the_likelihood_takes_each_customer_once_in_the_last_row():
    last = snapshots_of()
    earlier = {name: column[:2000].copy() for name, column in last.items()}
    earlier["tenure"] -= 30
    earlier["recency"] = np.maximum(earlier["recency"] - 30, 0)
    both = {name: np.concatenate([earlier[name], last[name]]) for name in last}
    assert ActiveRule.fit(**both, horizon_days=HORIZON).model == ActiveRule.fit(**last, horizon_days=HORIZON).model


def test_customers_may_be_told_apart_by_text():
    rows = snapshots_of(customers=500)
    named = {**rows, "customer": [f"c{number}" for number in rows["customer"]]}
    assert ActiveRule.fit(**named, horizon_days=HORIZON) == ActiveRule.fit(**rows, horizon_days=HORIZON)


def test_the_order_of_the_rows_does_not_matter_to_the_rule():
    rows, shuffled = snapshots_of(), np.random.default_rng(2).permutation(4000)
    one = ActiveRule.fit(**rows, horizon_days=HORIZON)
    other = ActiveRule.fit(**{name: column[shuffled] for name, column in rows.items()}, horizon_days=HORIZON)
    assert one.model == other.model
    assert one.predict(*asked(rows)) == pytest.approx(other.predict(*asked(rows)), rel=1e-9)


@pytest.mark.parametrize(
    ("customers", "label", "why"),
    [
        (8, None, "customers did it again, of the 10"),
        (0, None, "0 customers did it again"),
        (500, 0, "one label"),
        (500, 1, "one label"),
    ],
)
def test_where_it_can_not_speak_it_falls_back_to_the_base_rate_and_says_why(customers, label, why):
    rows = {name: column[:customers] for name, column in snapshots_of(customers=500).items()}
    if label is not None:
        rows["y"] = np.full(customers, label)
    rule = ActiveRule.fit(**rows, horizon_days=HORIZON)
    assert why in rule.fallback
    assert rule.model is None
    base = (rows["y"].sum() + 0.5) / (customers + 1)
    assert rule.predict([3, 0], [5, np.nan], [50, np.nan]) == pytest.approx([base, base])
    assert 0 < base < 1


def test_logits_are_those_of_the_probabilities_and_always_finite():
    rule = ActiveRule.fit(**snapshots_of(), horizon_days=HORIZON)
    X = np.array([[1, 0, 0], [4, 3, 80], [5, 3000, 3600], [0, np.nan, np.nan], [1000, 0.1, 1000.0]])
    said = rule.predict(*X.T)
    assert ((said > 0) & (said < 1)).all()
    assert 1 / (1 + np.exp(-rule.logits(X))) == pytest.approx(said)
    with pytest.raises(SpecificationError, match="reads the 3 columns"):
        rule.logits(X[:, :2])


def test_rule_and_model_survive_json_exactly():
    rows = snapshots_of(customers=500)
    spoken = ActiveRule.fit(**rows, horizon_days=HORIZON, gap_days=GAP, churn=True)
    silent = ActiveRule.fit(**{name: column[:5] for name, column in rows.items()}, horizon_days=HORIZON)
    for rule in (spoken, silent):
        assert ActiveRule.from_dict(json.loads(json.dumps(rule.to_dict(), allow_nan=False))) == rule
    assert BgNbd.from_dict(json.loads(json.dumps(SHOP.to_dict()))) == SHOP


def test_what_does_not_fit_together_is_refused_by_the_rule():
    rows = snapshots_of(customers=50)
    with pytest.raises(SpecificationError, match="customer has shape"):
        ActiveRule.fit(**{**rows, "customer": [1, 2]}, horizon_days=HORIZON)
    with pytest.raises(SpecificationError, match="labels must be 0 or 1"):
        ActiveRule.fit(**{**rows, "y": rows["y"] + 1}, horizon_days=HORIZON)
    with pytest.raises(SpecificationError, match="horizon_days"):
        ActiveRule.fit(**rows, horizon_days=math.nan)


def test_it_reads_active_days_recency_and_tenure_of_the_targets_own_events():
    for target in (Churn("purchase", "28d"), Conversion(("click", "open"), "7d", where="channel = 'web'")):
        features = ActiveRule.columns_for(target)
        assert [(feature.aggregate, feature.window, feature.where) for feature in features] == [
            (aggregate, None, target.outcome) for aggregate in ("distinct", "recency", "tenure")
        ]


@pytest.mark.parametrize("target", [Churn("purchase", "28d"), Conversion("purchase", "14d", gap="7d")], ids=["churn", "after a gap"])
def test_on_a_made_log_it_is_calibrated_at_the_next_cutoff(target):
    made = made_log(3000, days=300, seed=5)
    events = EventLog(made.events, observed=(made.start, made.end))
    cutoffs = rolling_cutoffs(events, horizon=target.horizon, gap=target.gap, limit=5)
    features = ActiveRule.columns_for(target)
    rows = snapshots(events, cutoffs, features=features, targets=[target]).to_pandas()
    X, y = rows[[feature.name for feature in features]].to_numpy(float), rows[f"label_{target.name}"].to_numpy(float)
    known, last = ~np.isnan(y), (rows["cutoff"] == cutoffs[-1]).to_numpy()
    taught = known & (rows["cutoff"] <= cutoffs[-1] - timedelta(days=28)).to_numpy()
    lengths = {"horizon_days": target.horizon.days, "gap_days": target.gap.days}
    who = rows["customer_id"].to_numpy()[taught]
    rule = ActiveRule.fit(*X[taught].T, y[taught], who, **lengths, churn=target.type == "churn")
    said, happened = rule.predict(*X[known & last].T), y[known & last]
    for part in np.array_split(np.argsort(said, kind="stable"), 5):
        assert happened[part].mean() == pytest.approx(said[part].mean(), abs=0.08)
    assert ((said - happened) ** 2).mean() < 0.85 * happened.var()
