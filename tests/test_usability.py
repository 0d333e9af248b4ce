"""The data-usability report: every problem at once, each with code, count, first example and remedy."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from persopredict.errors import DataError, EngineError, PersopredictError, Problem, did_you_mean
from persopredict.events import EventLog
from persopredict.sources import UNUSABLE, constant
from persopredict.targets import Cancellation, Churn, Conversion
from persopredict.times import Duration, instant
from persopredict.usability import LogFacts, SourceFacts, assess, stale_sources

VISIT = constant("visit")


def log_of(customer_id, event_at="2024-01-01T00:00:00Z", event="visit", *, observed=None, name="shop", max_lag="0d", **columns):
    """A log of as many rows as there are ids; single values are repeated."""
    data = {"customer_id": customer_id, "event_at": event_at, "event": event, **columns}
    frame = pd.DataFrame({key: value if isinstance(value, list) else [value] * len(customer_id) for key, value in data.items()})
    return EventLog(frame, observed=observed, name=name, max_lag=max_lag)


def problem_of(report, code):
    (problem,) = [problem for problem in report.problems if problem.code == code]
    return problem


def steady(customers=30, days=400, every=10, event="visit"):
    """A log of customers who come every few days, from 2023-01-01 on."""
    start = datetime(2023, 1, 1, tzinfo=UTC)
    rows = [(f"c{number}", (start + timedelta(days=day)).isoformat()) for day in range(0, days, every) for number in range(customers)]
    return log_of([row[0] for row in rows], [row[1] for row in rows], event)


# Rows ---------------------------------------------------------------------------------------------------------------------------------


def test_a_sound_log_has_no_problems():
    report = log_of(["a", "b"]).check()
    assert (report.problems, report.ok, report.rows, report.usable, report.customers) == ((), True, 2, 2, 2)
    assert "no problems found" in str(report)


def test_every_problem_of_the_rows_is_listed_at_once_with_count_example_and_remedy():
    good = "2024-01-01T00:00:00Z"
    rows = [
        (None, good, "visit", "1", "2"),
        (" \t\u00a0", good, "visit", "1", "2"),
        ("a", None, "visit", "1", "2"),
        ("a", "soon", "visit", "1", "2"),
        ("a", "later", "visit", "1", "2"),
        ("a", "9999-01-01", "visit", "1", "2"),
        ("a", "0001-01-01", "visit", "1", "2"),
        ("a", good, "  ", "1", "2"),
        ("a", good, None, "1", "2"),
        ("a", good, "visit", "lots", "2"),
        ("a", good, "visit", "1", "free"),
        ("a", good, "visit", "-1", "-2"),
        ("a", "2024-01-01 00:00", "visit", "1", "2"),
        ("b", good, "visit", "1", "2"),
        ("b", good, "visit", "1", "2"),
    ]
    report = log_of(*(list(column) for column in zip(*[row[:3] for row in rows], strict=True)),
                    quantity=[row[3] for row in rows], value=[row[4] for row in rows]).check()  # fmt: skip
    assert {problem.code: problem.count for problem in report.problems} == {
        "null_customer_id": 1, "blank_customer_id": 1, "null_event_at": 1, "unparsable_event_at": 2, "ancient_event_at": 1,
        "future_event_at": 1, "null_event": 2, "unparsable_quantity": 1, "unparsable_value": 1, "identical_rows": 1, "naive_times": 1,
        "negative_quantity": 1, "negative_value": 1,
    }  # fmt: skip
    assert (report.rows, report.usable, report.quarantined, report.ok) == (15, 4, 11, True)
    assert all(problem.remedy and problem.source in ("shop", "") for problem in report.problems)
    assert all(problem.example for problem in report.problems if problem.code in UNUSABLE)
    assert problem_of(report, "unparsable_event_at").example.startswith('{"customer_id":"a","event_at":"later"')


def test_the_quarantine_holds_each_unusable_row_with_its_first_reason():
    table = log_of(["a", None, None], ["2024-01-01", "soon", "2024-01-02"]).quarantine()
    assert table.column_names == ["source", "code", "reason", "row"]
    assert table.column("code").to_pylist() == ["null_customer_id"] * 2
    assert set(table.column("source").to_pylist()) == {"shop"}
    assert set(table.column("reason").to_pylist()) == {"customer_id is null"}
    assert table.column("row").to_pylist()[0] == '{"customer_id":null,"event_at":"2024-01-02","event":"visit"}'


def test_a_log_without_bad_rows_has_an_empty_quarantine():
    assert log_of(["a"]).quarantine().num_rows == 0


def test_quarantine_and_duplicates_are_told_apart():
    report = log_of(["a", "a", None, "a", "a"], event_id=["1", "1", "1", "2", None]).check()
    assert (report.rows, report.usable, report.quarantined) == (5, 3, 1)
    assert problem_of(report, "duplicate_event_id").count == 1
    assert problem_of(report, "duplicate_event_id").severity == "warning"


def test_identical_rows_are_kept_and_counted():
    report = log_of(["a"] * 3 + ["b"], value=[1.0, 1.0, 1.0, 1.0]).check()
    assert (report.usable, problem_of(report, "identical_rows").count) == (4, 2)


def test_returns_are_kept_and_counted():
    log = log_of(["a", "a"], value=[10.0, -4.0])
    assert (log.check().usable, problem_of(log.check(), "negative_value").count, problem_of(log.check(), "negative_value").severity) == (
        2,
        1,
        "note",
    )


def test_several_currencies_are_said_as_an_example_only():
    problem = problem_of(log_of(["a", "b"], currency=["EUR", "USD"]).check(), "mixed_currencies")
    assert (problem.count, problem.example) == (2, "EUR, USD")
    assert "EUR" not in problem.message


def test_nothing_usable_is_an_error_that_still_lists_the_reasons():
    log = log_of([None, "a"], ["2024-01-01", "soon"])
    report = log.check()
    assert (report.codes(), report.ok, report.usable) == (
        ["null_customer_id", "unparsable_event_at", "empty_log"],
        False,
        0,
    )
    with pytest.raises(DataError, match=r"(?s)null_customer_id.*unparsable_event_at.*empty_log"):
        log.prepare()


def test_a_sound_source_is_reported_on_beside_one_that_can_t_be_read():
    broken = EventLog(pd.DataFrame({"customer_id": ["a"], "event_at": [5]}), event=VISIT, name="broken")
    report = EventLog.union(broken, log_of([None, "b"])).check([Churn("visit", "28d")])
    assert [(problem.code, problem.source) for problem in report.problems] == [("mistyped_column", "broken"), ("null_customer_id", "shop")]
    assert not report.ok


@pytest.mark.parametrize(
    ("columns", "name"), [({"event_at": [1704067200]}, "event_at"), ({"value": [True], "quantity": [pd.Timestamp(0)]}, "quantity")]
)
def test_columns_of_the_wrong_type_are_named(columns, name):
    problem = problem_of(log_of(["a"], **columns).check(), "mistyped_column")
    assert problem.message.startswith(f"{name} is mapped to")


def test_one_customer_with_one_kind_of_event_in_constant_columns_is_a_log():
    log = log_of(["a"] * 3, [f"2024-01-0{day}T00:00:00Z" for day in (1, 2, 3)], value=1.0, channel="web", item_id="x")
    assert str(log.check()).splitlines()[:2] == [
        "3 rows, 3 usable, 1 customers, 2024-01-01 to 2024-01-03",
        "  visit: 3 events of 1 customers",
    ]


def test_customers_of_an_event_in_two_sources_are_counted_once():
    report = EventLog.union(log_of(["a", "b"]), log_of(["b", "c"], name="web")).check()
    assert report.events == {"visit": (4, 3)}


# Targets ------------------------------------------------------------------------------------------------------------------------------


def test_an_event_that_the_log_never_holds_is_named_with_the_nearest_one():
    report = steady().check([Conversion("vist", "7d"), Cancellation("visit", "7d", start="begin", competing=("expire",))])
    found = [(problem.code, problem.message, problem.source) for problem in report.problems if problem.severity == "error"]
    assert found == [
        ("unknown_event", "the log never holds 'vist' (event)", "conversion_vist_7d"),
        ("unknown_event", "the log never holds 'begin' (start)", "cancellation_visit_7d"),
        ("unknown_event", "the log never holds 'expire' (competing)", "cancellation_visit_7d"),
    ]
    assert report.problems[0].remedy == "did you mean 'visit'?"


def test_a_condition_on_a_column_that_is_not_there_is_an_error():
    problem = problem_of(steady().check([Churn("visit", "7d", where="chanel = 'web'")]), "unknown_column")
    assert (problem.severity, problem.source) == ("error", "churn_visit_7d")


@pytest.mark.parametrize(("days", "short"), [(57, False), (55, True)])
def test_a_log_is_too_short_below_twice_gap_and_horizon(days, short):
    report = steady(days=days, every=1).check([Churn("visit", "21d", gap="7d")])
    assert ("log_too_short" in report.codes(), report.ok) == (short, True)


def test_an_event_that_stopped_long_before_the_end_of_what_was_observed_is_warned_of():
    planned = log_of(["z"], ["2024-04-01T00:00:00Z"], "trip", name="plans")
    report = EventLog.union(steady(days=400), planned).check([Churn("visit", "28d")])
    assert "event_stopped" not in report.codes()  # Plans lie in a source of their own: what was observed of visits ended with them.
    rows = [(f"c{number}", day) for day in range(0, 400, 10) for number in range(30)]
    when = [(datetime(2023, 1, 1, tzinfo=UTC) + timedelta(days=day)).isoformat() for _, day in rows]
    mixed = log_of([*(who for who, _ in rows), "c0"], [*when, "2024-04-01T00:00:00Z"], [*["visit"] * len(rows), "trip"])
    stopped = problem_of(mixed.check([Churn("visit", "28d")]), "event_stopped")
    assert (stopped.severity, stopped.count) == ("warning", 66)
    assert "observed=" in stopped.remedy
    quiet = log_of(["a", "a", "b"], ["2023-01-01", "2023-06-01", "2024-01-01"], ["buy", "buy", "visit"])
    assert "event_stopped" not in quiet.check([Conversion("buy", "28d")]).codes()  # Two in half a year: silence says nothing.


@pytest.mark.parametrize(("days", "codes"), [(300, ["window_longer_than_history"]), (400, [])])
def test_windows_longer_than_the_history_are_a_note(days, codes):
    report = steady(days=days, every=1).check([Churn("visit", "28d")])
    assert report.codes() == codes
    assert report.ok


@pytest.mark.parametrize("target", [Conversion("visit", "7d"), Churn("visit", "7d")])
def test_fewer_customers_than_can_be_validated_are_a_warning(target):
    few = problem_of(steady(customers=24).check([target]), "too_few_positives")
    assert (few.count, few.severity) == (24, "warning")
    assert "too_few_positives" not in steady(customers=25).check([target]).codes()


def facts_of(*spans):
    """Facts of sources `s0`, `s1`, … that hold the events `e0`, `e1`, … of many customers over these days of 2024."""
    start = instant("2024-01-01")
    sources = tuple(
        SourceFacts(f"s{number}", 9, 9, observed=(start + timedelta(days=first), start + timedelta(days=last)))
        for number, (first, last) in enumerate(spans)
    )
    events = {f"e{number}": (9, 900) for number in range(len(spans))}
    return LogFacts("UTC", (), sources, events, sources_of={f"e{number}": frozenset({f"s{number}"}) for number in range(len(spans))})


def test_a_target_is_as_long_observed_as_all_the_sources_it_reads_together():
    report = assess(facts_of((0, 500), (450, 900)), 900, [Conversion(("e0", "e1"), "28d"), Conversion("e0", "28d")])
    assert [(problem.code, problem.source) for problem in report.problems] == [("log_too_short", "conversion_e0_e1_28d")]


# Freshness ----------------------------------------------------------------------------------------------------------------------------


def test_a_source_that_stopped_before_as_of_is_a_warning():
    log = EventLog.union(log_of(["a"], "2024-01-01T00:00:00Z"), log_of(["a"], "2024-01-09T12:00:00Z", name="web"))
    problem = problem_of(log.check(as_of="2024-01-10"), "source_stopped")
    assert (problem.source, problem.severity) == ("shop", "warning")
    assert "source_stopped" not in log.check(as_of="2024-01-02").codes()


def test_a_source_s_own_lag_and_declared_span_are_respected():
    assert log_of(["a"], max_lag="10d").check(as_of="2024-01-10").ok
    assert "source_stopped" not in log_of(["a"], max_lag="10d").check(as_of="2024-01-10").codes()
    assert "source_stopped" not in log_of(["a"], observed=("2024-01-01", "2024-01-10")).check(as_of="2024-01-10").codes()


def test_staleness_counts_from_the_end_of_what_was_observed():
    source = SourceFacts("s", 1, 1, observed=(instant("2024-01-01"), instant("2024-01-02")), max_lag=Duration.parse("2d"))
    assert stale_sources([source], instant("2024-01-04")) == []
    assert [problem.code for problem in stale_sources([source], instant("2024-01-04T00:00:01"))] == ["source_stopped"]
    assert stale_sources([source], instant("2024-01-05"), timedelta(days=3)) == []


def test_events_outside_the_declared_span_are_counted():
    log = log_of(["a"] * 3, [f"2024-01-0{day}T00:00:00Z" for day in (1, 2, 3)], observed=("2024-01-02", "2024-01-03"))
    assert problem_of(log.check(), "outside_observed").count == 2
    assert log.check().usable == 3


def test_a_declared_span_that_ends_in_the_future_is_a_warning():
    problem = problem_of(log_of(["a"], observed=("2024-01-01", "2999-01-01")).check(), "observed_in_future")
    assert problem.severity == "warning"


# How problems and reports look --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("remedy", "ending"),
    [("try again", "Remedy: try again."), ("again.", "Remedy: again."), ("did you mean 'a'?", "Remedy: did you mean 'a'?")],
)
def test_a_problem_ends_with_one_stop(remedy, ending):
    assert str(Problem("code", "message", remedy=remedy)) == f"error code: message. {ending}"


def test_a_report_is_also_a_table_with_the_worst_first_in_its_text():
    report = log_of([None, "a"], ["2024-01-01", "2024-01-02"]).check([Churn("vist", "7d")])
    assert report.to_frame()["code"].tolist() == ["null_customer_id", "naive_times", "unknown_event"]
    assert [line.split()[1] for line in str(report).splitlines() if line.startswith("- ")] == ["error", "warning", "note"]
    assert "unknown_event" in report._repr_html_()


def test_did_you_mean_ignores_case_and_stays_silent_where_nothing_helps():
    assert did_you_mean("CLIENT", ["client", "day"]) == "did you mean 'client'?"
    assert did_you_mean("x", [str(number) * 9 for number in range(13)]) == ""


def test_what_an_engine_says_is_an_example_for_the_user_s_screen():
    error = EngineError("labels", "SELECT 1", "Conversion Error: 'maria'")
    assert isinstance(error, PersopredictError)
    assert error.problems[0].example == "Conversion Error: 'maria'"
    assert str(error).endswith("--- SQL of labels ---\nSELECT 1")
