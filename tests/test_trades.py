"""Logs of any trade, from the first check to the published rows: nothing may assume a shop.

Every shape has its question, and an oracle in plain pandas for whom it is asked and what came out.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache

import numpy as np
import pandas as pd
import pytest

from persopredict.datasets.trades import (
    gym_visits,
    insurance_quotes,
    loan_applications,
    news_site,
    subscriptions,
    travel_bookings,
    wholesale,
)
from persopredict.errors import DataError, SpecificationError, TooLittleDataError
from persopredict.events import EventLog
from persopredict.features.builders import default_features
from persopredict.features.spec import Feature
from persopredict.job import Job
from persopredict.predictor import Predictor
from persopredict.snapshots import snapshots
from persopredict.sources import constant
from persopredict.targets import Affinity, Cancellation, Churn, Conversion, Target
from persopredict.warehouse import Warehouse
from tests.made import learner

KINDS = ("base_rate", "rule", "btyd", "logistic", "lightgbm")
RECENCY = Feature("recency", fallback=None)
Customers = set[str]


# The shapes -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Shape:
    """A log, its question, and the oracle.

    `rows`: customer_id (text), at (aware), event, as the oracle reads them. `asked`: who, given the rows before a cutoff and the
    rows of the activity window. `happened`: who has the label 1, given the rows of the horizon and who was asked.
    """

    events: EventLog
    rows: pd.DataFrame
    target: Target
    as_of: str
    asked: Callable[[pd.DataFrame, pd.DataFrame], Customers]
    happened: Callable[[pd.DataFrame, Customers], Customers]

    def moment(self, when: object, days: int = 0) -> pd.Timestamp:
        """Days on the wall of the log's time zone."""
        found = pd.Timestamp(when)
        local = found.tz_localize(self.events.timezone) if found.tzinfo is None else found.tz_convert(self.events.timezone)
        return local + pd.DateOffset(days=days)

    def between(self, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        return self.rows[(self.rows["at"] >= start) & (self.rows["at"] < end)]

    def answers(self, cutoff: object) -> dict[str, int]:
        """Label by customer asked; those whose contract ended within the gap are left out."""
        target, moment = self.target, self.moment(cutoff)
        who = self.who(cutoff)
        start = self.moment(moment, target.gap.days)
        if isinstance(target, Cancellation):
            ends = self.between(moment, start)
            who = who - set(ends.loc[ends["event"].isin([*target.event_names, *target.competing]), "customer_id"])
        happened = self.happened(self.between(start, self.moment(start, target.horizon.days)), who)
        return {customer: int(customer in happened) for customer in who}

    def who(self, cutoff: object) -> Customers:
        moment, window = self.moment(cutoff), self.target.active_within
        before = self.rows[self.rows["at"] < moment]
        return self.asked(before, before if window is None else self.between(self.moment(moment, -window.days), moment))

    def reasons(self, cutoff: object) -> dict[str, str]:
        """Why the others are not asked."""
        before = self.rows[self.rows["at"] < self.moment(cutoff)]
        had = doers(before, *self.target.event_names) if getattr(self.target, "once", False) else set()
        others = set(before["customer_id"]) - self.who(cutoff)
        return {customer: "already_converted" if customer in had else "not_active" for customer in others}

    def known(self, cutoff: object) -> Customers:
        return set(self.rows.loc[self.rows["at"] < self.moment(cutoff), "customer_id"])


def plain(table, timezone="UTC"):
    """The rows as the oracle reads them; dates are midnights of the log's time zone."""
    frame = table if isinstance(table, pd.DataFrame) else table.to_pandas()
    at = pd.to_datetime(frame["event_at"])
    at = at.dt.tz_localize(timezone) if at.dt.tz is None else at.dt.tz_convert("UTC")
    return pd.DataFrame({"customer_id": frame["customer_id"].astype(str), "at": at, "event": frame["event"]})


def doers(rows, *events):
    return set(rows.loc[rows["event"].isin(events), "customer_id"])


def running(start, *ends):
    """Started, and no end after the last start."""

    def asked(before, _):
        started = before[before["event"] == start].groupby("customer_id")["at"].max()
        ended = before[before["event"].isin(ends)].groupby("customer_id")["at"].max().reindex(started.index)
        return set(started.index[~(ended > started)])

    return asked


def first_end_is(event, *competing):
    def happened(rows, who):
        ends = rows[rows["event"].isin([event, *competing]) & rows["customer_id"].isin(who)].sort_values("at", kind="stable")
        firsts = ends.drop_duplicates("customer_id")
        return set(firsts.loc[firsts["event"] == event, "customer_id"])

    return happened


@cache
def subscribers():
    """Contracts with two ways to end, integer ids; who gives notice this week is no news."""
    table = subscriptions(400, days=400, ids="integer")
    target = Cancellation("cancel", "28d", start="subscription_start", competing=("move_away",), gap="7d")
    events = EventLog(table, observed=("2023-01-01", "2024-02-05"))
    asked, happened = running("subscription_start", "cancel", "move_away"), first_end_is("cancel", "move_away")
    return Shape(events, plain(table), target, "2024-02-05", asked, happened)


@cache
def applicants():
    """Applications that are approved, cancelled or declined, UUIDs."""
    table = loan_applications(900, days=300, ids="uuid")
    target = Cancellation("approved", "14d", start="applied", competing=("cancelled", "declined"))
    events = EventLog(table, observed=("2023-01-01", "2023-10-28"))
    others = ("cancelled", "declined")
    return Shape(
        events, plain(table), target, "2023-10-28", running("applied", "approved", *others), first_end_is("approved", *others)
    )  # fmt: skip


@cache
def borrowers():
    """The same trade in dates without hours: who has no loan yet, and gets one."""
    table = loan_applications(500, days=300, dates_only=True)
    return Shape(
        EventLog(table, observed=("2023-01-01", "2023-10-28")),
        plain(table),
        Conversion("approved", "28d", once=True),
        "2023-10-28",
        lambda before, _: set(before["customer_id"]) - doers(before, "approved"),
        lambda rows, who: doers(rows, "approved") & who,
    )


@cache
def readers():
    """A news site: sessions of clicks without value, order or any other event."""
    table = news_site(300)
    return Shape(
        EventLog(table, observed=("2024-01-01", "2024-03-01")),
        plain(table),
        Conversion("click", "3d", active_within="14d"),
        "2024-03-01",
        lambda _, active: set(active["customer_id"]),
        lambda rows, who: doers(rows, "click") & who,
    )


@cache
def leads():
    """One event per customer; the policies that some of them buy are in another source."""
    frame = insurance_quotes(1200).to_pandas()
    quotes, policies = (frame[frame["event"] == name].reset_index(drop=True) for name in ("quote", "policy"))
    span = ("2023-01-01", "2024-01-01")
    events = EventLog.union(
        EventLog(quotes.drop(columns=["event", "order_id"]), event=constant("quote"), observed=span, name="web"),
        EventLog(policies[["customer_id", "event_at", "event", "order_id"]], observed=span, name="contracts"),
    )
    return Shape(
        events,
        plain(frame),
        Conversion("policy", "28d", once=True, active_within="56d"),
        "2024-01-01",
        lambda before, active: set(active["customer_id"]) - doers(before, "policy"),
        lambda rows, who: doers(rows, "policy") & who,
    )


@cache
def members():
    """Customer, date and event: nothing else; neighbouring ids beyond what a float can tell apart; a zone with daylight saving."""
    frame = gym_visits(250, days=300, dates_only=True, ids="integer").to_pandas()[["customer_id", "event_at", "event"]]
    frame["customer_id"] += 2**62
    return Shape(
        EventLog(frame, timezone="Europe/Berlin", observed=("2024-01-01", "2024-10-27")),
        plain(frame, "Europe/Berlin"),
        Churn("check_in", "14d", active_within="28d"),
        "2024-10-27",
        lambda _, active: set(active["customer_id"]),
        lambda rows, who: who - doers(rows, "check_in"),
    )


@cache
def companies():
    """60 customers; many rows at one instant; ids with leading zeros."""
    frame = wholesale(60).to_pandas()
    frame["customer_id"] = frame["customer_id"].str[1:]
    return Shape(
        EventLog(frame, observed=("2023-01-01", "2024-12-31")),
        plain(frame),
        Churn("order", "28d"),
        "2024-12-31",
        lambda _, active: doers(active, "order"),
        lambda rows, who: who - doers(rows, "order"),
    )


@cache
def travellers():
    """Bursts of searches; departures that were planned, months after the end of what was observed."""
    table = travel_bookings(300)
    return Shape(
        EventLog(table, observed=("2024-01-01", "2024-12-31")),
        plain(table),
        Conversion("booking", "28d", gap="1d"),
        "2024-12-31",
        lambda before, _: set(before["customer_id"]),
        lambda rows, who: doers(rows, "booking") & who,
    )


SHAPES = (subscribers, applicants, borrowers, readers, leads, members, companies, travellers)


@pytest.fixture(scope="module", params=SHAPES, ids=lambda make: make.__name__)
def shape(request) -> Shape:
    return request.param()


@pytest.fixture(scope="module")
def fitted(shape) -> Predictor:
    return Predictor(shape.target).fit(shape.events, until=shape.as_of)


@pytest.fixture(scope="module")
def scored(shape, fitted) -> pd.DataFrame:
    found = fitted.predict(shape.events, as_of=shape.as_of)
    return found if isinstance(found, pd.DataFrame) else found.to_pandas()


# What holds for each of them ------------------------------------------------------------------------------------------------


def test_a_log_of_any_trade_passes_the_check(shape):
    report = shape.events.check([shape.target], as_of=shape.as_of)
    assert report.ok
    assert not [str(problem) for problem in report.problems if problem.severity != "note"]
    assert (report.usable, report.customers) == (len(shape.rows), shape.rows["customer_id"].nunique())


def test_whom_the_model_learns_from_and_what_came_out_is_what_pandas_says(shape, fitted):
    expected = [shape.answers(cutoff) for cutoff in fitted.cutoffs_]
    assert fitted.rows_ == sum(len(answers) for answers in expected)
    assert fitted.positives_ == sum(sum(answers.values()) for answers in expected)
    assert fitted.positives_ >= 25


def test_every_fold_is_tested_on_whom_pandas_asks(shape, fitted):
    assert len(fitted.folds_) >= 3
    for fold in fitted.folds_:
        assert dict(zip(fold.customer_id, fold.y.tolist(), strict=True)) == shape.answers(fold.cutoff)


def test_every_fold_has_probabilities_and_baselines_inside_0_and_1(fitted):
    for fold in fitted.folds_:
        assert {"base_rate", "best_rule"} <= set(fold.baselines)
        for values in (fold.probability, *fold.baselines.values()):
            assert np.all((values > 0) & (values < 1))


def test_bg_nbd_is_a_baseline_wherever_the_event_can_come_again_and_nowhere_else(shape, fitted):
    target = shape.target
    repeats = not isinstance(target, Cancellation) and not getattr(target, "once", False)
    assert {"bg_nbd" in fold.baselines for fold in fitted.folds_} == {repeats}


def test_the_evaluation_says_how_good_it_is(fitted):
    assert fitted.evaluation_.grade in ("A", "B", "C")
    assert fitted.target.name in str(fitted.evaluation_)


def test_every_customer_of_the_log_has_one_row(shape, scored):
    assert scored["customer_id"].is_unique
    assert set(scored["customer_id"]) == shape.known(shape.as_of)
    assert (scored["target"] == shape.target.name).all()


def test_who_is_asked_has_a_probability_and_everybody_else_a_reason(shape, scored):
    asked = scored["customer_id"].isin(shape.who(shape.as_of))
    assert (scored.loc[asked, "status"] == "scored").all()
    assert scored[~asked].set_index("customer_id")["not_scored_reason"].to_dict() == shape.reasons(shape.as_of)
    assert scored.loc[asked, "not_scored_reason"].isna().all()
    assert scored.loc[~asked, ["probability", "percentile", "band"]].isna().all(axis=None)
    found = scored.loc[asked]
    assert found["probability"].between(0, 1, inclusive="neither").all()
    assert found["percentile"].between(1, 100).all()
    assert found["band"].isin(["low", "medium", "high"]).all()
    assert scored["model_kind"].dropna().isin(KINDS).all()


def test_an_answer_is_valid_until_the_horizon_ends(shape, scored):
    target = shape.target
    assert (scored["as_of"] == shape.moment(shape.as_of)).all()
    assert (scored["valid_until"] == shape.moment(shape.as_of, target.gap.days + target.horizon.days)).all()


# What a data scientist of the trade would look at --------------------------------------------------------------------------


def labels_at(events, cutoff, *targets):
    frame = snapshots(events, [cutoff], [RECENCY], targets).to_pandas().set_index("customer_id")
    return [frame[f"label_{target.name}"].dropna() for target in targets]


def test_an_application_has_one_outcome():
    table = loan_applications(600, days=200)
    ends = ("approved", "cancelled", "declined")
    events = EventLog(table, observed=("2023-01-01", "2023-07-20"))
    targets = [Cancellation(end, "7d", start="applied", competing=tuple(other for other in ends if other != end)) for end in ends]
    labels = labels_at(events, "2023-05-01", *targets)
    assert all(each.index.equals(labels[0].index) for each in labels)
    rows = plain(table)
    cutoff = pd.Timestamp("2023-05-01", tz="UTC")
    window = rows[(rows["at"] >= cutoff) & (rows["at"] < cutoff + pd.Timedelta(days=7)) & rows["customer_id"].isin(labels[0].index)]
    decided = window[window["event"].isin(ends)].sort_values("at").drop_duplicates("customer_id")["event"].value_counts()
    assert [each.sum() for each in labels] == [decided.get(end, 0) for end in ends]
    assert sum(labels).max() == 1
    assert 0 < sum(labels).sum() < len(labels[0])


def test_a_move_is_no_cancellation_unless_nobody_says_so():
    """Without `competing` a customer who moved away still counts as a subscriber, who never cancels."""
    table = subscriptions(600, days=400)
    events = EventLog(table, observed=("2023-01-01", "2024-02-05"))
    told = Cancellation("cancel", "56d", start="subscription_start", competing=("move_away",), name="told")
    untold = Cancellation("cancel", "56d", start="subscription_start", name="untold")
    with_, without = labels_at(events, "2023-11-01", told, untold)
    rows = plain(table)
    gone = doers(rows[rows["at"] < pd.Timestamp("2023-11-01", tz="UTC")], "move_away")
    assert set(without.index) - set(with_.index) == gone != set()
    assert without[list(gone)].sum() == 0
    assert with_.sum() == without.sum() > 0


def test_without_a_start_every_end_is_final():
    table = subscriptions(400, days=400)
    events = EventLog(table, observed=("2023-01-01", "2024-02-05"))
    (labels,) = labels_at(events, "2023-11-01", Cancellation("cancel", "28d", competing="move_away"))
    rows = plain(table)
    before = rows[rows["at"] < pd.Timestamp("2023-11-01", tz="UTC")]
    assert set(labels.index) == set(before["customer_id"]) - doers(before, "cancel", "move_away")


def test_the_lines_of_an_order_are_many_events_of_one_order_and_one_day():
    frame = wholesale(20, days=200).to_pandas()
    asked = [
        Feature("count", where="event = 'order'", fallback=0, name="lines"),
        Feature("distinct", "order_id", where="event = 'order'", fallback=0, name="orders"),
        Feature("distinct", "day", where="event = 'order'", fallback=0, name="days"),
        Feature("sum", "value", fallback=0, name="money"),
    ]
    found = snapshots(EventLog(frame), ["2023-06-01"], asked).to_pandas().set_index("customer_id")
    before = frame[frame["event_at"] < pd.Timestamp("2023-06-01", tz="UTC")]
    orders = before[before["event"] == "order"].groupby("customer_id")
    expected = pd.DataFrame(
        {
            "lines": orders.size(),
            "orders": orders["order_id"].nunique(),
            "days": orders["event_at"].agg(lambda at: at.dt.date.nunique()),
            "money": before.groupby("customer_id")["value"].sum(),
        }
    )
    pd.testing.assert_frame_equal(found[expected.columns], expected, check_dtype=False, check_names=False)
    assert (expected["lines"] > 2 * expected["orders"]).any()
    assert EventLog(frame).check().codes() == ["negative_value"]


def test_default_features_of_a_bare_log_read_nothing_but_times_and_events():
    frame = gym_visits(50, days=100).to_pandas()[["customer_id", "event_at", "event"]]
    read = {column for feature in default_features(EventLog(frame)) for column in feature.columns}
    assert read == {"day", "hour"}


def test_planned_departures_are_history_but_no_label_counts_on_what_nobody_observed():
    table = travel_bookings(300, days=200)
    target, cutoffs = Conversion("booking", "28d"), ["2024-06-01", "2024-07-01"]
    events = EventLog(table, observed=("2024-01-01", "2024-07-19"))
    frame = snapshots(events, cutoffs, [RECENCY], [target]).to_pandas()
    by_cutoff = frame.groupby("cutoff")[f"label_{target.name}"]
    assert by_cutoff.count().tolist() == [(frame["cutoff"] == frame["cutoff"].min()).sum(), 0]
    report = events.check([target])
    outside = (table.to_pandas()["event_at"] >= pd.Timestamp("2024-07-19", tz="UTC")).sum()
    assert [(problem.code, problem.count) for problem in report.problems if problem.code == "outside_observed"] == [
        ("outside_observed", outside)
    ]


# Time ----------------------------------------------------------------------------------------------------------------------


def test_rows_from_the_future_change_nothing_but_the_report():
    now = datetime.now(UTC)
    frame = gym_visits(80, days=100, start=(now - timedelta(days=101)).date(), timezone="UTC").to_pandas()
    frame = frame[["customer_id", "event_at", "event"]]
    ahead = frame.head(30).assign(event_at=frame["event_at"].head(30) + pd.Timedelta(days=200))
    clean, booked = EventLog(frame), EventLog(pd.concat([ahead, frame], ignore_index=True))
    report = booked.check()
    assert [(problem.code, problem.count) for problem in report.problems] == [("future_event_at", 30)]
    assert report.ok
    assert booked.observed == clean.observed
    assert booked.fingerprint() == clean.fingerprint()


DATES = gym_visits(80, days=150, start="2024-03-01", dates_only=True).to_pandas()[["customer_id", "event_at", "event"]]


@pytest.mark.parametrize("timezone", ["UTC", "Africa/Cairo", "America/Santiago", "Asia/Kolkata", "Pacific/Apia", "America/New_York"])
@pytest.mark.parametrize("cutoff", [date(2024, 3, 12), date(2024, 4, 27), date(2024, 5, 1)])
def test_dates_without_hours_are_the_same_days_in_every_time_zone(timezone, cutoff):
    """Also where a midnight is skipped, as in Cairo on 2024-04-26, or a date lasts 25 hours."""
    target = Churn("check_in", "14d", active_within="28d")
    features = [
        Feature("count", window="1d", fallback=0, name="yesterday"),
        Feature("distinct", "day", window="14d", fallback=0, name="days"),
        Feature("share", where="weekday >= 6", fallback=None, name="weekends"),
    ]
    events = EventLog(DATES, timezone=timezone)
    found = snapshots(events, [str(cutoff)], features, [target]).to_pandas().set_index("customer_id").sort_index()
    day = pd.to_datetime(DATES["event_at"]).dt.date
    before = DATES[day < cutoff]
    active = sorted(set(DATES.loc[(day < cutoff) & (day >= cutoff - timedelta(days=28)), "customer_id"]))
    assert found.index.tolist() == active
    back = set(DATES.loc[(day >= cutoff) & (day < cutoff + timedelta(days=14)), "customer_id"])
    assert found[f"label_{target.name}"].tolist() == [float(customer not in back) for customer in active]
    of = {customer: pd.to_datetime(rows["event_at"]).dt.date for customer, rows in before.groupby("customer_id")}
    assert found["yesterday"].tolist() == [(of[c] == cutoff - timedelta(days=1)).sum() for c in active]
    assert found["days"].tolist() == [of[c][of[c] >= cutoff - timedelta(days=14)].nunique() for c in active]
    assert found["weekends"].tolist() == pytest.approx([np.mean([d.isoweekday() >= 6 for d in of[c]]) for c in active])


def test_the_hours_of_a_habit_are_those_of_the_wall_in_summer_and_in_winter():
    frame = gym_visits(60, days=60, start="2024-03-01", timezone="America/Los_Angeles").to_pandas()
    features = [
        Feature("mean", "hour", window="28d", fallback=None, name="hour"),
        Feature("last", "weekday", fallback=None, name="weekday"),
    ]
    events = EventLog(frame, timezone="America/Los_Angeles")
    cutoff = pd.Timestamp("2024-03-24", tz="America/Los_Angeles")  # The window begins in winter: 28 days are an hour less than 672.
    found = snapshots(events, [cutoff], features).to_pandas().set_index("customer_id")
    frame["wall"] = frame["event_at"].dt.tz_convert("America/Los_Angeles")
    before = frame[frame["wall"] < cutoff].sort_values("wall")
    window = before[before["wall"] >= cutoff - pd.DateOffset(days=28)]
    hour = window.groupby("customer_id")["wall"].agg(lambda wall: wall.dt.hour.mean())
    pd.testing.assert_series_equal(found["hour"].dropna(), hour, check_names=False)
    weekday = before.groupby("customer_id")["wall"].last().dt.day_of_week + 1
    pd.testing.assert_series_equal(found["weekday"], weekday.astype(float), check_names=False, check_index_type=False)
    utc = before.groupby("customer_id")["event_at"].last().dt.day_of_week + 1
    assert (utc != weekday).any()


# Ids and names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "texts"),
    [
        (["7", "07", "007"], ["007", "07", "7"]),
        ([2**62, 2**62 + 1, 2**62 + 2], [str(2**62 + n) for n in range(3)]),
        (np.array([2**64 - 2, 2**64 - 1, 2**63], np.uint64), [str(2**64 - 2), str(2**64 - 1), str(2**63)]),
        ([-1, 0, 1], ["-1", "0", "1"]),
        ([1.0, 2.0, 30.0], ["1", "2", "30"]),
        ([uuid.UUID(int=n) for n in (1, 2, 3)], [str(uuid.UUID(int=n)) for n in (1, 2, 3)]),
        (["O'Hara; --", "Ünal", "張"], ["O'Hara; --", "Ünal", "張"]),
    ],
    ids=["leading zeros", "huge", "unsigned", "negative", "whole floats", "uuid objects", "hostile text"],
)
def test_ids_of_any_kind_stay_apart(ids, texts):
    frame = pd.DataFrame({"customer_id": ids, "event_at": ["2024-01-01", "2024-01-02", "2024-01-03"], "event": "visit"})
    found = snapshots(EventLog(frame), ["2024-02-01"], [Feature("count", fallback=0, name="visits")]).to_pandas()
    assert found["customer_id"].tolist() == texts
    assert found["visits"].tolist() == [1, 1, 1]


def test_events_may_be_named_in_any_language():
    names = ["Заявка №1", 'it\'s "done"', "承認"]
    frame = pd.DataFrame({"customer_id": ["a"] * 3, "event_at": ["2024-01-01", "2024-01-10", "2024-01-20"], "event": names})
    targets = [Conversion(name, "7d", name=f"target_{number}") for number, name in enumerate(names)]
    events = EventLog(frame, observed=("2024-01-01", "2024-03-01"))
    assert events.check(targets).ok
    assert [each.tolist() for each in labels_at(events, "2024-01-08", *targets)] == [[0.0], [1.0], [0.0]]


# Affinities where there is no shop ------------------------------------------------------------------------------------------


def local_weekdays(frame):
    return frame.assign(by=(frame["event_at"].dt.tz_convert("America/Los_Angeles").dt.day_of_week + 1).astype(str))


AFFINITIES = {
    "weekday": (
        lambda: gym_visits(80, days=120, timezone="America/Los_Angeles").to_pandas()[["customer_id", "event_at", "event"]],
        "America/Los_Angeles",
        Affinity("check_in", "14d", by="weekday", active_within="28d", top=7),
        local_weekdays,
    ),
    "category": (
        lambda: news_site(100, days=50).to_pandas(),
        "UTC",
        Affinity("click", "7d", by="category", active_within="28d", top=6),
        lambda frame: frame.assign(by=frame["category"]),
    ),
    "channel": (
        lambda: loan_applications(400, days=300, ids="integer").to_pandas(),
        "UTC",
        Affinity("applied", "56d", by="channel", active_within=None, top=3),
        lambda frame: frame.assign(by=frame["channel"]),
    ),
}


@pytest.fixture(scope="module", params=AFFINITIES)
def drawn(request):
    make, timezone, target, with_by = AFFINITIES[request.param]
    frame = make()
    as_of = frame["event_at"].max().tz_convert(timezone).normalize()
    events = EventLog(frame, timezone=timezone)
    predictor = Predictor(target).fit(events, until=as_of)
    frame = with_by(frame).assign(customer_id=lambda rows: rows["customer_id"].astype(str))
    return frame, target, predictor, predictor.predict(events, as_of=as_of), as_of


def test_every_active_customer_gets_each_of_few_categories_once(drawn):
    frame, target, _, scored, as_of = drawn
    before = frame[frame["event_at"] < as_of]
    window = target.active_within
    active = before if window is None else before[before["event_at"] >= as_of - pd.DateOffset(days=window.days)]
    found = scored[scored["status"] == "scored"]
    assert set(found["customer_id"]) == set(active["customer_id"])
    assert set(scored["customer_id"]) == set(before["customer_id"])
    values = set(before.loc[before["event"] == target.event, "by"])
    assert found.groupby("customer_id")["category"].agg(set).map(lambda held: held == values).all()
    assert not found.duplicated(["customer_id", "category"]).any()
    assert found["probability"].between(0, 1, inclusive="neither").all()
    ranks = found.sort_values(["customer_id", "rank"]).groupby("customer_id")["rank"].agg(list)
    assert ranks.map(lambda rank: rank == list(range(1, len(values) + 1))).all()


def test_every_fold_of_an_affinity_has_the_pairs_that_pandas_saw(drawn):
    frame, target, predictor, _, _ = drawn
    for fold in predictor.folds_:
        begin = pd.Timestamp(fold.cutoff).tz_convert(predictor.timezone_)
        end = begin + pd.DateOffset(days=target.horizon.days)
        taken = frame[(frame["event_at"] >= begin) & (frame["event_at"] < end) & (frame["event"] == target.event)]
        expected = set(zip(taken["customer_id"], taken["by"], strict=True))
        pairs = [(fold.customer_id[who], fold.categories[what]) for who, what in zip(fold.customer, fold.category, strict=True)]
        assert {pair for pair, y in zip(pairs, fold.y, strict=True) if y} == expected & set(pairs)
        assert [pair in expected for pair in pairs] == fold.y.astype(bool).tolist()


# What can't be answered ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quotes() -> EventLog:
    """One event per customer, and nothing ever after."""
    frame = insurance_quotes(300).to_pandas()
    return EventLog(frame[frame["event"] == "quote"].reset_index(drop=True))


@pytest.mark.parametrize(
    ("target", "code", "count"),
    [
        (Churn("quote", "28d"), "too_few_negatives", 0),
        (Conversion("quote", "28d"), "too_few_positives", 0),
        (Conversion("quote", "28d", once=True), "no_eligible_customers", 1),
        (Cancellation("quote", "28d"), "no_eligible_customers", 1),
        (Affinity("quote", "28d", by="category"), "too_few_positives", 0),
    ],
    ids=lambda value: value.type if isinstance(value, Target) else str(value),
)
def test_what_never_comes_twice_can_be_neither_left_nor_expected_again(quotes, target, code, count):
    with pytest.raises(TooLittleDataError) as caught:
        Predictor(target).fit(quotes)
    (problem,) = caught.value.problems
    assert problem.code == code
    assert problem.remedy
    assert target.name in str(caught.value)
    if count == 0:
        assert " 0 of " in str(problem) or " 0 pairs of " in str(problem)


def test_a_single_customer_is_no_ground_for_a_model():
    frame = gym_visits(1, days=300, seed=1).to_pandas()
    with pytest.raises(TooLittleDataError) as caught:
        Predictor(Churn("check_in", "7d")).fit(EventLog(frame))
    assert {problem.code for problem in caught.value.problems} <= {"too_few_positives", "too_few_negatives"}


def test_a_log_of_days_is_too_short_for_a_month():
    with pytest.raises(TooLittleDataError) as caught:
        Predictor(Conversion("click", "28d")).fit(EventLog(news_site(100, days=20)))
    assert [problem.code for problem in caught.value.problems] == ["log_too_short"]


@pytest.mark.parametrize("by", ["category", "item_id", "channel"])
def test_a_bare_log_has_no_affinity_but_that_of_the_calendar(by):
    frame = DATES
    with pytest.raises(SpecificationError, match=f"the log has no {by}"):
        Predictor(Affinity("check_in", "14d", by=by)).fit(EventLog(frame))


def test_money_can_t_be_summed_where_there_is_none():
    with pytest.raises(SpecificationError, match="value"):
        snapshots(EventLog(DATES), ["2024-05-01"], [Feature("sum", "value", fallback=0)])


def test_the_outcome_of_another_trade_is_named_with_what_the_log_has():
    events = EventLog(loan_applications(100, days=200))
    assert "unknown_event" in events.check([Conversion("aproved", "28d")]).codes()
    with pytest.raises(SpecificationError, match="did you mean 'approved'"):
        Predictor(Conversion("aproved", "28d")).fit(events)


def test_ids_of_two_kinds_in_one_column_are_refused_with_a_remedy():
    frame = pd.DataFrame({"customer_id": pd.Series([1, "1"], dtype=object), "event_at": "2024-01-01", "event": "visit"})
    with pytest.raises(DataError, match="astype"):
        EventLog(frame).prepare()


# The nightly job -----------------------------------------------------------------------------------------------------------


def predictor(target):
    return Predictor(target, features=[RECENCY, Feature("count", window="28d", fallback=0)], estimator=learner())


def night(folder, shape, *predictors):
    result = Job(shape.events, predictors, warehouse=folder / "warehouse.duckdb", min_grade="C").run(shape.as_of)
    return result, Warehouse(folder / "warehouse.duckdb")


def test_a_night_of_contracts_publishes_a_row_of_every_customer(tmp_path):
    shape = subscribers()
    result, warehouse = night(tmp_path, shape, predictor(shape.target))
    assert result.exit_code == 0
    asked = shape.who(shape.as_of)
    assert result.outcomes[0].counts == {"scored": len(asked), "not_active": len(shape.known(shape.as_of)) - len(asked)}
    wide = warehouse.sql("SELECT * FROM customer_attributes").set_index("customer_id")
    assert set(wide.index) == shape.known(shape.as_of)
    assert set(wide.index[wide[f"{shape.target.name}_probability"].notna()]) == asked


def test_a_night_skips_what_one_event_per_customer_can_t_answer_and_publishes_the_rest(tmp_path):
    shape = leads()
    result, warehouse = night(tmp_path, shape, predictor(shape.target), predictor(Churn("quote", "28d")))
    assert result.exit_code == 4
    assert [(outcome.state, outcome.code) for outcome in result.outcomes] == [("published", ""), ("skipped", "too_few_negatives")]
    rows = warehouse.attributes(shape.target.name, shape.as_of)
    assert set(rows.loc[rows["status"] == "scored", "customer_id"]) == shape.who(shape.as_of)


def test_a_night_of_sixty_companies_keeps_the_zeros_of_their_ids(tmp_path):
    shape = companies()
    result, warehouse = night(tmp_path, shape, predictor(shape.target))
    assert result.exit_code == 0
    rows = warehouse.attributes(shape.target.name)
    assert sorted(rows["customer_id"]) == sorted(shape.known(shape.as_of))
    assert rows["customer_id"].str.startswith("0").all()
