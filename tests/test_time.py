"""Law 1: what a feature may see, what a label counts, and when. Law 5: which cutoffs may train for which test."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persopredict import Cancellation, Churn, Conversion, EventLog, Feature, ForwardSplit
from persopredict.errors import SpecificationError
from persopredict.snapshots import rolling_cutoffs, snapshots
from persopredict.times import Duration, instant, local_midnight, offsets, zone

T = datetime(2024, 3, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)
DAY = timedelta(days=1)
SPAN = (T - 400 * DAY, T + 400 * DAY)
NEW_YORK, HAVANA = ZoneInfo("America/New_York"), ZoneInfo("America/Havana")


def log_of(*rows, timezone="UTC", observed=SPAN):
    """A log of (customer, event, at) or (customer, event, at, known at)."""
    filled = [(*row, None)[:4] for row in rows]
    frame = pd.DataFrame({"customer_id": [row[0] for row in filled], "event": [row[1] for row in filled]})
    for name, place in (("event_at", 2), ("known_at", 3)):
        frame[name] = pd.Series([row[place] for row in filled], dtype="datetime64[us, UTC]")
    return EventLog(frame, timezone=timezone, observed=observed)


def value_of(feature, *rows, cutoff=T, timezone="UTC"):
    """The feature of the customer "c", who always has an old event besides `rows`."""
    log = log_of(("c", "old", T - 300 * DAY), *(("c", *row) for row in rows), timezone=timezone)
    (found,) = snapshots(log, [cutoff], [feature]).to_arrow().to_pylist()
    return found[feature.name]


def outcomes_of(target, *rows, cutoff=T, until=None, observed=SPAN):
    """(why the customer "c" is not asked, label): None for asked, and for no label. Others do what the target reads, so that it exists."""
    others = [("other", name, T - 399 * DAY) for name in sorted(target.reads)]
    snap = snapshots(log_of(*others, *(("c", *row) for row in rows), observed=observed), [cutoff], [], [target], until=until)
    reasons = {row["customer_id"]: row for row in snap.population().to_pylist()}
    labels = {row["customer_id"]: row for row in snap.to_arrow().to_pylist()}
    label = labels["c"][f"label_{target.name}"] if "c" in labels else None
    return reasons["c"][f"reason_{target.name}"] if "c" in reasons else "no_history", label


def label_of(target, *rows, **options):
    reason, label = outcomes_of(target, *rows, **options)
    assert reason is None
    return label


# Features --------------------------------------------------------------------------------------------------------------------------

COUNT = Feature("count", window="7d", where="event = 'visit'", fallback=0)


def test_an_event_at_the_cutoff_is_not_a_feature():
    assert value_of(COUNT, ("visit", T)) == 0
    assert value_of(COUNT, ("visit", T - TICK)) == 1


def test_a_window_is_half_open():
    assert value_of(COUNT, ("visit", T - 7 * DAY)) == 1
    assert value_of(COUNT, ("visit", T - 7 * DAY - TICK)) == 0


def test_an_event_known_at_the_cutoff_is_not_a_feature():
    assert value_of(COUNT, ("visit", T - DAY, T)) == 0
    assert value_of(COUNT, ("visit", T - DAY, T - TICK)) == 1


def test_an_event_known_before_it_happens_counts_only_once_it_has_happened():
    assert value_of(COUNT, ("visit", T, T - DAY)) == 0
    assert value_of(COUNT, ("visit", T - TICK, T - DAY)) == 1


def test_a_window_of_days_follows_the_clock_on_the_wall_and_one_of_hours_does_not():
    """New York, 10 March 2024: the day has 23 hours."""
    cutoff = datetime(2024, 3, 11, tzinfo=NEW_YORK).astimezone(UTC)
    day, hours = (Feature("count", window=window, where="event = 'visit'", fallback=0) for window in ("1d", "24h"))
    assert value_of(day, ("visit", cutoff - timedelta(hours=24)), cutoff=cutoff, timezone="America/New_York") == 0
    assert value_of(day, ("visit", cutoff - timedelta(hours=23)), cutoff=cutoff, timezone="America/New_York") == 1
    assert value_of(hours, ("visit", cutoff - timedelta(hours=24)), cutoff=cutoff, timezone="America/New_York") == 1


def test_active_days_are_those_of_the_log_s_zone():
    visits = [("visit", datetime(2024, 2, 20, 4, 59, tzinfo=UTC)), ("visit", datetime(2024, 2, 20, 5, 1, tzinfo=UTC))]
    days = Feature("distinct", "day", window="28d", fallback=0)
    assert value_of(days, *visits) == 1
    assert value_of(days, *visits, timezone="America/New_York") == 2


def test_a_customer_without_events_before_the_cutoff_is_not_in_its_snapshot():
    log = log_of(("early", "visit", T - TICK), ("late", "visit", T), ("unknown", "visit", T - DAY, T))
    assert snapshots(log, [T], [COUNT]).to_pandas()["customer_id"].tolist() == ["early"]


# Labels ----------------------------------------------------------------------------------------------------------------------------

BUY = Conversion("buy", "7d")
PAST_VISIT = ("visit", T - DAY)


@pytest.mark.parametrize(
    ("at", "label"), [(T - TICK, 0), (T, 1), (T + 7 * DAY - TICK, 1), (T + 7 * DAY, 0)], ids=["before", "start", "last", "end"]
)
def test_a_label_is_half_open_from_the_cutoff(at, label):
    assert label_of(BUY, PAST_VISIT, ("buy", at)) == label


@pytest.mark.parametrize(("at", "label"), [(T, 0), (T + 2 * DAY - TICK, 0), (T + 2 * DAY, 1), (T + 9 * DAY - TICK, 1), (T + 9 * DAY, 0)])
def test_a_gap_moves_the_label(at, label):
    assert label_of(Conversion("buy", "7d", gap="2d"), PAST_VISIT, ("buy", at)) == label


def test_a_label_counts_only_what_was_known_before_until():
    until = T + 10 * DAY
    assert label_of(BUY, PAST_VISIT, ("buy", T + DAY, until - TICK), until=until) == 1
    assert label_of(BUY, PAST_VISIT, ("buy", T + DAY, until), until=until) == 0
    assert label_of(BUY, PAST_VISIT, ("buy", T + DAY, until)) == 1


def test_a_label_that_has_not_ended_by_until_is_null():
    assert label_of(BUY, PAST_VISIT, ("buy", T + DAY), until=T + 7 * DAY) == 1
    assert label_of(BUY, PAST_VISIT, ("buy", T + DAY), until=T + 7 * DAY - TICK) is None


def test_a_label_that_ends_after_what_was_observed_is_null():
    assert label_of(BUY, PAST_VISIT, ("buy", T + DAY), observed=(SPAN[0], T + 7 * DAY)) == 1
    assert label_of(BUY, PAST_VISIT, ("buy", T + DAY), observed=(SPAN[0], T + 7 * DAY - TICK)) is None
    assert label_of(Conversion("buy", "7d", gap="1d"), PAST_VISIT, ("buy", T + DAY), observed=(SPAN[0], T + 7 * DAY)) is None


def test_a_label_waits_for_the_source_that_holds_its_event_and_for_no_other():
    visits = log_of(("c", "visit", T - 9 * DAY), ("c", "visit", T + 90 * DAY), observed=(T - 9 * DAY, T + 90 * DAY))
    buys = log_of(("c", "buy", T - 8 * DAY), ("c", "buy", T + DAY), observed=(T - 8 * DAY, T + 2 * DAY))
    late_start = log_of(("c", "buy", T + DAY), observed=(T + TICK, T + 90 * DAY))
    week, day = Conversion("buy", "7d"), Conversion("buy", "1d", gap="1d")
    assert snapshots(EventLog.union(visits, buys), [T], [], [week, day]).to_arrow().to_pylist()[0] | {"cutoff": 0} == {
        "customer_id": "c",
        "cutoff": 0,
        "label_conversion_buy_7d": None,
        "label_conversion_buy_1d": 1,
    }
    assert snapshots(EventLog.union(visits, late_start), [T], [], [week]).to_pandas()["label_conversion_buy_7d"].isna().all()


def test_conversion_once_leaves_out_those_who_did():
    once = Conversion("buy", "7d", once=True)
    assert outcomes_of(once, ("buy", T - 300 * DAY), ("buy", T + DAY)) == ("already_converted", None)
    assert outcomes_of(once, PAST_VISIT, ("buy", T)) == (None, 1)
    assert outcomes_of(once, PAST_VISIT, ("buy", T - DAY, T)) == (None, 0)


def test_a_cohort_is_entered_by_the_first_event_that_satisfies_it():
    member = Conversion("buy", "7d", cohort="event = 'join'")
    assert outcomes_of(member, PAST_VISIT, ("join", T)) == ("not_in_cohort", None)
    assert outcomes_of(member, ("join", T - TICK), ("leave", T - TICK)) == (None, 0)
    assert outcomes_of(member, PAST_VISIT, ("join", T - DAY, T)) == ("not_in_cohort", None)


def test_active_within_asks_for_any_event_but_churn_for_its_own():
    assert outcomes_of(Conversion("buy", "7d", active_within="7d"), ("visit", T - 7 * DAY)) == (None, 0)
    assert outcomes_of(Conversion("buy", "7d", active_within="7d"), ("visit", T - 7 * DAY - TICK)) == ("not_active", None)
    churn = Churn("buy", "7d", active_within="7d")
    assert outcomes_of(churn, ("buy", T - 7 * DAY)) == (None, 1)
    assert outcomes_of(churn, ("buy", T - 7 * DAY - TICK), PAST_VISIT) == ("not_active", None)


def test_churn_is_staying_away():
    assert outcomes_of(Churn("buy", "7d"), ("buy", T - DAY), ("visit", T + DAY)) == (None, 1)
    assert outcomes_of(Churn("buy", "7d"), ("buy", T - DAY), ("buy", T + 7 * DAY - TICK)) == (None, 0)
    assert outcomes_of(Churn("buy", "7d", gap="1d"), ("buy", T - DAY), ("buy", T + 23 * timedelta(hours=1))) == (None, 1)


def test_nobody_leaves_before_having_come():
    """Without `active_within`, churn still asks for one event ever."""
    ever = Churn("buy", "7d", active_within=None)
    assert outcomes_of(ever, PAST_VISIT) == ("not_active", None)
    assert outcomes_of(ever, ("buy", T - 399 * DAY)) == (None, 1)


CONTRACT = Cancellation("cancel", "7d", gap="1d", start="subscribe", competing=("expire",))
STARTED = ("subscribe", T - 9 * DAY)


@pytest.mark.parametrize(
    ("rows", "expected"),
    {
        "never started": ([PAST_VISIT], ("not_active", None)),
        "running": ([STARTED], (None, 0)),
        "ended": ([STARTED, ("cancel", T - DAY)], ("not_active", None)),
        "ended otherwise": ([STARTED, ("expire", T - DAY)], ("not_active", None)),
        "started again": ([STARTED, ("cancel", T - 3 * DAY), ("subscribe", T - DAY)], (None, 0)),
        "renewed at the same instant": ([STARTED, ("expire", T - DAY), ("subscribe", T - DAY)], (None, 0)),
        "ended on the date it began": ([("subscribe", T - DAY), ("cancel", T - DAY)], ("not_active", None)),
        "ended again on the date it began again": (
            [STARTED, ("cancel", T - DAY), ("subscribe", T - DAY), ("cancel", T - 2 * DAY)],
            (None, 0),
        ),
        "end known too late": ([STARTED, ("cancel", T - DAY, T + 20 * DAY)], (None, 0)),
        "cancels": ([STARTED, ("cancel", T + DAY)], (None, 1)),
        "cancels on the last tick": ([STARTED, ("cancel", T + 8 * DAY - TICK)], (None, 1)),
        "cancels after the horizon": ([STARTED, ("cancel", T + 8 * DAY)], (None, 0)),
        "expires": ([STARTED, ("expire", T + 2 * DAY)], (None, 0)),
        "expires first": ([STARTED, ("expire", T + 2 * DAY), ("cancel", T + 3 * DAY)], (None, 0)),
        "cancels first": ([STARTED, ("cancel", T + 2 * DAY), ("expire", T + 3 * DAY)], (None, 1)),
        "both at once": ([STARTED, ("cancel", T + 2 * DAY), ("expire", T + 2 * DAY)], (None, 1)),
        "cancels within the gap": ([STARTED, ("cancel", T), ("cancel", T + 2 * DAY)], (None, None)),
        "expires within the gap": ([STARTED, ("expire", T + DAY - TICK)], (None, None)),
    }.values(),
)
def test_a_contract(rows, expected):
    assert outcomes_of(CONTRACT, *rows) == expected


def test_a_contract_without_a_starting_event_runs_until_its_first_end():
    any_start = Cancellation("cancel", "7d")
    assert outcomes_of(any_start, PAST_VISIT, ("cancel", T + DAY)) == (None, 1)
    assert outcomes_of(any_start, ("cancel", T - 2 * DAY), PAST_VISIT) == ("not_active", None)


def test_a_row_eligible_for_one_target_has_no_label_for_the_others():
    log = log_of(("buyer", "buy", T - DAY), ("visitor", "visit", T - DAY), ("nobody", "end", T - 300 * DAY))
    frame = snapshots(log, [T], [], [Churn("buy", "7d"), Churn("visit", "7d")]).to_pandas().set_index("customer_id")
    assert frame["label_churn_buy_7d"].to_dict() == {"buyer": 1.0, "visitor": pytest.approx(np.nan, nan_ok=True)}
    assert frame["label_churn_visit_7d"].to_dict() == {"buyer": pytest.approx(np.nan, nan_ok=True), "visitor": 1.0}


# Durations and instants ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["2024-11-03T05:30:00+00:00", "2024-11-03T06:30:00+00:00", "2024-11-03T06:00:00+00:00"])
def test_hours_are_elapsed_hours_in_both_passes_of_a_repeated_hour(moment):
    start = instant(moment)
    assert Duration(hours=1).after(start, NEW_YORK) - start == timedelta(hours=1)
    assert start - Duration(hours=1).before(start, NEW_YORK) == timedelta(hours=1)
    assert Duration().after(start, NEW_YORK) == Duration().before(start, NEW_YORK) == start


def test_a_label_in_a_repeated_hour_does_not_start_before_its_cutoff():
    second_pass = instant("2024-11-03T06:30:00+00:00")
    rows = [("c", "visit", second_pass - DAY), ("c", "buy", second_pass - timedelta(minutes=30)), ("o", "buy", second_pass + 300 * DAY)]
    log = log_of(*rows, timezone="America/New_York", observed=(second_pass - 9 * DAY, second_pass + 300 * DAY))
    snap = snapshots(log, [second_pass], [], [Conversion("buy", "1h"), Conversion("buy", "7d")])
    assert snap.to_pandas()[list(snap.label_names)].to_numpy().tolist() == [[0, 0]]


def test_a_day_that_starts_without_midnight_starts_at_its_first_instant():
    """Havana, 10 March 2024: clocks jump from 00:00 to 01:00. Weeks before and after it still run from midnight to midnight."""
    first = instant("2024-03-10", HAVANA)
    assert first == local_midnight(first + timedelta(hours=5), HAVANA) == instant("2024-03-10T05:00:00Z")
    assert Duration(days=7).after(first, HAVANA) == instant("2024-03-17", HAVANA)
    assert Duration(days=7).before(instant("2024-03-17", HAVANA), HAVANA) == first
    assert Duration(days=7).before(first, HAVANA) == instant("2024-03-03", HAVANA)


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1)), st.integers(0, 800), st.sampled_from(["Australia/Lord_Howe", "Europe/Madrid"])
)
@settings(deadline=None, derandomize=True, database=None, max_examples=100)
def test_days_move_the_wall_clock_and_back(moment, days, name):
    local, start = zone(name), moment.replace(tzinfo=UTC)
    end = Duration(days=days).after(start, local)
    wall = start.astimezone(local).replace(tzinfo=None, fold=0) + timedelta(days=days)
    if wall.replace(tzinfo=local).astimezone(UTC).astimezone(local).replace(tzinfo=None, fold=0) == wall:
        assert end.astimezone(local).replace(tzinfo=None, fold=0) == wall
    assert abs(end - start - timedelta(days=days)) <= timedelta(hours=1)


@pytest.mark.parametrize("name", ["UTC", "America/New_York", "Europe/Madrid", "Australia/Lord_Howe", "America/Havana", "Asia/Kathmandu"])
def test_offsets_are_those_of_the_zone_to_the_microsecond(name):
    local, start, end = zone(name), datetime(2022, 1, 5, tzinfo=UTC), datetime(2024, 12, 30, tzinfo=UTC)
    found = offsets(local, start, end)
    changes = [until for until, _ in found if until is not None]
    for moment in [start, end, *(change + shift for change in changes for shift in (-TICK, timedelta(0), TICK))]:
        offset = next(offset for until, offset in found if until is None or moment < until)
        assert moment.astimezone(local).utcoffset() == timedelta(microseconds=offset)
    assert len(changes) == (6 if name not in ("UTC", "Asia/Kathmandu") else 0)


# Cutoffs ---------------------------------------------------------------------------------------------------------------------------


def test_cutoffs_stay_on_midnight_across_daylight_saving():
    log = log_of(("c", "visit", T), timezone="America/New_York", observed=("2023-09-01T05:00:00Z", "2024-05-01T12:00:00Z"))
    found = rolling_cutoffs(log, every="7d", horizon="28d", gap="7d")
    local = [cutoff.astimezone(NEW_YORK) for cutoff in found]
    assert {(moment.hour, moment.minute) for moment in local} == {(0, 0)}
    assert {moment.weekday() for moment in local} == {2}
    assert local[-1].date().isoformat() == "2024-03-27"
    assert found[0] > log.observed[0] >= found[0] - timedelta(days=7, hours=1)


def test_every_rolling_cutoff_has_a_label_even_where_midnight_is_skipped():
    log = log_of(("c", "visit", T - 99 * DAY), ("c", "visit", T), timezone="America/Havana", observed=(T - 99 * DAY, T + 99 * DAY))
    until = instant("2024-03-17", HAVANA)
    found = rolling_cutoffs(log, every="7d", horizon="7d", until=until)
    assert found[-1] == instant("2024-03-10", HAVANA)
    snap = snapshots(log, found, [], [Conversion("visit", "7d")], until=until)
    assert snap.to_pandas()["label_conversion_visit_7d"].notna().all()
    assert len(ForwardSplit(99, embargo="7d", timezone="America/Havana").test_cutoffs(found)) == len(found) - 1


def test_until_is_the_last_observed_midnight_by_default():
    log = log_of(("c", "visit", T), observed=(T, T + 60 * DAY + timedelta(hours=23)))
    assert rolling_cutoffs(log, horizon="28d") == [T + 4 * DAY, T + 32 * DAY]
    assert rolling_cutoffs(log, horizon="28d", until=T + 60 * DAY) == [T + 4 * DAY, T + 32 * DAY]


def test_cutoffs_come_after_since_and_keep_the_latest():
    log = log_of(("c", "visit", T), observed=(T, T + 100 * DAY))
    whole = rolling_cutoffs(log, every="10d", horizon="10d")
    assert whole == [T + number * DAY for number in range(10, 100, 10)]
    assert rolling_cutoffs(log, every="10d", horizon="10d", since=T + 70 * DAY) == whole[-2:]
    assert rolling_cutoffs(log, every="10d", horizon="10d", since=T + 70 * DAY - TICK) == whole[-3:]
    assert rolling_cutoffs(log, every="10d", horizon="10d", limit=3) == whole[-3:]
    assert rolling_cutoffs(log, every="10d", horizon="200d") == []


def test_cutoffs_of_hours():
    log = log_of(("c", "visit", T), observed=(T, T + 3 * DAY))
    assert rolling_cutoffs(log, every="12h", horizon="36h") == [T + timedelta(hours=hours) for hours in (12, 24, 36)]
    assert rolling_cutoffs(log, every="12h", horizon="36h", gap="12h")[-1] == T + DAY


def test_too_many_cutoffs_are_refused():
    log = log_of(("c", "visit", T), observed=(T, T + 365 * DAY))
    with pytest.raises(SpecificationError, match="more than 2,000 cutoffs"):
        rolling_cutoffs(log, every="1h", horizon="1h")
    assert len(rolling_cutoffs(log, every="1h", horizon="1h", limit=5)) == 5
    with pytest.raises(SpecificationError, match="longer than nothing"):
        rolling_cutoffs(log, every="0d")


# ForwardSplit ----------------------------------------------------------------------------------------------------------------------


def test_the_embargo_is_exact():
    """A label that ends at the test cutoff had ended by it; one that ends a microsecond later had not."""
    splitter = ForwardSplit(1, embargo="7d")
    for shift, trained in ((timedelta(0), [[0]]), (TICK, [])):
        cutoffs = [T + shift, T + 7 * DAY]
        assert [train.tolist() for train, _ in splitter.split(cutoffs, groups=cutoffs)] == trained


def test_the_embargo_counts_days_of_its_zone():
    march = [datetime(2024, 3, day, tzinfo=NEW_YORK) for day in (4, 11)]
    november = [datetime(2024, 10, 28, tzinfo=NEW_YORK), datetime(2024, 11, 4, tzinfo=NEW_YORK)]
    assert ForwardSplit(1, embargo="7d", timezone="America/New_York").get_n_splits(groups=march) == 1
    assert ForwardSplit(1, embargo="7d").get_n_splits(groups=march) == 0
    assert ForwardSplit(1, embargo="168h", timezone="America/New_York").get_n_splits(groups=march) == 0
    assert ForwardSplit(1, embargo="7d", timezone="America/New_York").get_n_splits(groups=november) == 1


def test_each_test_cutoff_comes_after_everything_it_trains_on():
    cutoffs = pd.Series(pd.date_range("2024-01-01", periods=8, freq="14D", tz="UTC")).sample(60, replace=True, random_state=1)
    folds = list(ForwardSplit(3, embargo="28d").split(np.zeros(60), groups=cutoffs))
    assert len(folds) == 3
    for train, test in folds:
        (moment,) = set(cutoffs.iloc[test])
        assert sorted(np.flatnonzero(cutoffs <= moment - timedelta(days=28))) == train.tolist()
        assert sorted(np.flatnonzero(cutoffs == moment)) == test.tolist()
    assert [cutoffs.iloc[test[0]] for _, test in folds] == sorted(set(cutoffs))[-3:]


@pytest.mark.parametrize(
    "spelled",
    [
        lambda moments: moments,
        lambda moments: moments.tz_localize(None),
        lambda moments: moments.tz_localize(None).to_numpy(dtype="datetime64[ns]"),
        lambda moments: moments.tz_localize(None).to_numpy(dtype="datetime64[D]"),
        lambda moments: pd.Series(moments),
        lambda moments: [moment.isoformat() for moment in moments],
        lambda moments: [moment.date() for moment in moments],
    ],
    ids=["aware", "naive", "nanoseconds", "days", "series", "text", "dates"],
)
def test_groups_may_be_spelled_in_many_ways(spelled):
    moments = pd.date_range("2024-01-01", periods=4, freq="7D", tz="UTC")
    folds = ForwardSplit(2, embargo="7d").split(moments, groups=spelled(moments))
    assert [(train.tolist(), test.tolist()) for train, test in folds] == [([0, 1], [2]), ([0, 1, 2], [3])]


def test_it_splits_for_scikit_learn():
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    groups = pd.Series(np.repeat(pd.date_range("2024-01-01", periods=6, freq="28D", tz="UTC"), 40))
    features = np.random.default_rng(0).normal(size=(240, 2))
    splitter = ForwardSplit(3, embargo="28d")
    scores = cross_val_score(LogisticRegression(), features, features[:, 0] > 0, groups=groups, cv=splitter, scoring="roc_auc")
    assert scores.shape == (3,)
    assert scores.min() > 0.95
    assert splitter.get_n_splits() == splitter.get_n_splits(groups=groups) == 3


def test_a_split_without_groups_or_splits_is_refused():
    with pytest.raises(SpecificationError, match="needs groups"):
        next(ForwardSplit(1, embargo="7d").split([1, 2]))
    with pytest.raises(SpecificationError, match="at least 1"):
        ForwardSplit(0, embargo="7d")
