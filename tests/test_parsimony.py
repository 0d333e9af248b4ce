"""The one-standard-error rule: what is only a little better, or better in one month alone, replaces nothing."""

import numpy as np
import pytest
from scipy.stats import t

from persopredict.parsimony import DRIFT, clearly_better


def rate(share, rows=1000):
    return np.arange(rows) % 1000 < 1000 * share


def constant(probability, months, rows=1000):
    return [np.full(rows, probability)] * months


def test_a_candidate_does_not_replace_itself():
    assert not clearly_better([rate(0.3)] * 3, constant(0.2, 3), constant(0.2, 3))


def test_a_gain_below_the_standard_error_between_rows_is_none():
    rng = np.random.default_rng(0)
    simple = [rng.uniform(0.2, 0.4, 400) for _ in range(4)]
    # The same level, so that nothing hangs on drift: noise against noise, a twentieth of a logit apart.
    rich = [np.clip(p + rng.normal(0, 0.01, 400), 0.01, 0.99) for p in simple]
    y = [rng.random(400) < p for p in simple]
    assert not clearly_better(y, simple, rich)


def loss(share, p):
    return -share * np.log(p) - (1 - share) * np.log(1 - p)


@pytest.mark.parametrize("better", [0.31, 0.33, 0.36, 0.4])
def test_one_month_replaces_nothing_that_a_drift_of_a_fifth_would_undo(better):
    # One month of a million rows with a rate of 30%, and a candidate that says so: a closed form, without noise between rows.
    rows = 1_000_000
    gain = loss(better, 0.3) - loss(better, better)
    undone = DRIFT * better * (1 - better) * (np.log(better / (1 - better)) - np.log(0.3 / 0.7))
    assert clearly_better([rate(better, rows)], constant(0.3, 1, rows), constant(better, 1, rows)) == (gain > undone)


def test_more_months_make_the_same_gain_clear():
    few, many = 1, 9
    assert not clearly_better([rate(0.35, 100_000)] * few, constant(0.3, few, 100_000), constant(0.35, few, 100_000))
    assert clearly_better([rate(0.35, 100_000)] * many, constant(0.3, many, 100_000), constant(0.35, many, 100_000))


@pytest.mark.parametrize("shares", [(0.5, 0.45, 0.55), (0.5, 0.3, 0.6), (0.35, 0.5), (0.5, 0.5, 0.5, 0.28)])
def test_months_that_disagree_ask_for_more_the_fewer_they_are(shares):
    rows, now, new = 1_000_000, 0.3, 0.45
    gains = np.array([loss(share, now) - loss(share, new) for share in shares])
    between = t.ppf(0.841344746, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(len(gains))
    undone = DRIFT * new * (1 - new) * (np.log(new / (1 - new)) - np.log(now / (1 - now))) / np.sqrt(len(gains))
    expected = gains.mean() > max(between, undone)
    assert (
        clearly_better([rate(share, rows) for share in shares], constant(now, len(shares), rows), constant(new, len(shares), rows))
        == expected
    )


def test_a_month_without_rows_does_not_matter_to_a_month_with_rows():
    with pytest.raises(ValueError, match="shorter"):
        clearly_better([rate(0.3)] * 2, constant(0.1, 2), constant(0.3, 1))
