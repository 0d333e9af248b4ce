"""Events that only follow the outcome, and columns of customers filled in afterwards, are named in a log that holds them; a clean log is
silent.
"""

import functools
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from persopredict.aftermath import filled_afterwards, only_after
from persopredict.datasets import loan_applications, made_log, news_site, subscriptions
from persopredict.errors import SpecificationError
from persopredict.events import EventLog
from persopredict.lookups import Lookup
from persopredict.targets import Cancellation, Churn, Conversion

DAY = timedelta(days=1)
CHURN, CONVERSION = Churn("purchase", "28d"), Conversion("conversion", "28d")
ONCE = Conversion("conversion", "28d", once=True)
CANCEL = Cancellation("cancel", "30d", start="subscription_start", competing=("move_away",))
COLUMNS = ["customer_id", "event_at", "event"]


@functools.cache
def made():
    return made_log(600, days=400, seed=5)


@functools.cache
def shop():
    """The made log as pandas."""
    return made().events.to_pandas()[COLUMNS]


END = made().end


def planted(*parts, **mapping):
    """The made log with more events."""
    return EventLog(pd.concat([shop(), *parts], ignore_index=True), observed=(made().start, END), **mapping)


def each(event, after, *, of="conversion", share=1.0):
    """An event of another name after each event of a kind, for a share of the customers."""
    rows = shop()[shop()["event"] == of]
    rows = rows[rows["customer_id"].isin(customers(share))].copy()
    rows["event"], rows["event_at"] = event, rows["event_at"] + after
    return rows[rows["event_at"] < END]


def customers(share=1.0):
    ids = np.sort(shop()["customer_id"].unique())
    return ids[np.random.default_rng(3).random(len(ids)) < share]


def last(event):
    """When each customer last did it."""
    return shop()[shop()["event"] == event].groupby("customer_id")["event_at"].max()


def ever(event):
    return set(shop().loc[shop()["event"] == event, "customer_id"])


def facts(values, **settings):
    """A lookup of one column, `fact`, by customer."""
    frame = pd.DataFrame({"customer_id": list(values), "fact": list(values.values())})
    return Lookup(frame, key="customer_id", columns=["fact"], name="clients", **settings)


def with_facts(values, **settings):
    return planted().join(facts(values, **settings))


def named(problems, code):
    assert all((problem.code, problem.severity) == (code, "warning") for problem in problems)
    assert all(problem.remedy and problem.message and problem.count for problem in problems)
    return [problem.source for problem in problems]


def after(events, target, until=END):
    return named(only_after(events, target, until), "event_only_after_outcome")


def filled(events, target, until=END):
    return named(filled_afterwards(events, target, until), "column_filled_afterwards")


# Clean logs ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [CHURN, CONVERSION, ONCE, Conversion("purchase", "28d"), Conversion("view", "1d"), Churn("view", "7d")])
def test_a_clean_log_is_silent(target):
    """Facts about all, some, the active ones, the old ones; none of them knows the outcome."""
    rng, ids = np.random.default_rng(1), customers()
    active = shop().groupby("customer_id").size()
    first = shop().groupby("customer_id")["event_at"].min()
    frame = pd.DataFrame({"customer_id": ids})
    frame["region"] = rng.choice(["north", "south", "west"], len(ids))
    frame["member"] = np.where(active[ids] > active.quantile(0.7), "yes", None)
    frame["since"] = first[ids].dt.strftime("%Y-%m-%d").to_numpy()
    frame["age"] = np.where(rng.random(len(ids)) < 0.3, np.nan, rng.integers(18, 90, len(ids)))
    frame["nothing"] = None
    names = ["region", "member", "since", "age", "nothing"]
    events = planted(each("survey", 3 * DAY, of="purchase")).join(Lookup(frame, key="customer_id", columns=names))
    assert after(events, target) == []
    assert filled(events, target) == []


@pytest.mark.parametrize("dates_only", [False, True])
@pytest.mark.parametrize("ids", ["text", "integer"])
def test_clean_logs_of_other_trades_are_silent(ids, dates_only):
    settings = {"ids": ids, "dates_only": dates_only}
    asked = [
        (
            subscriptions(800, **settings),
            (CANCEL, Churn("payment", "31d"), Conversion("payment", "30d"), Conversion("support_call", "30d")),
        ),
        (loan_applications(800, **settings), (Conversion("approved", "30d"), Conversion("applied", "91d"), Churn("applied", "91d"))),
        (news_site(800, **settings), (Conversion("click", "3d"), Churn("click", "3d", active_within="14d"))),
    ]
    for table, targets in asked:
        events = EventLog(table, dimensions={"plan": "category", "how": "channel"})
        for target in targets:
            assert after(events, target, events.observed[1]) == []
            assert filled(events, target, events.observed[1]) == []


# Events -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [CONVERSION, ONCE])
def test_an_event_that_follows_the_outcome_is_named_with_its_customers(target):
    thanks = each("thanks", timedelta(hours=1))
    events = planted(thanks)
    (problem,) = only_after(events, target, END)
    assert after(events, target) == ["thanks"]
    assert problem.count == thanks["customer_id"].nunique()
    assert f"of {problem.count:,} customers who have it 0 had it before their first conversion or without one" in problem.message


def test_what_chance_would_lead_to_expect_is_the_share_of_each_life_before_the_outcome():
    thanks = each("thanks", timedelta(hours=1), share=0.5)
    (problem,) = only_after(planted(thanks), CONVERSION, END)
    events, expected = pd.concat([shop(), thanks]), 0.0
    for customer in thanks["customer_id"].unique():
        rows = events[events["customer_id"] == customer]
        born, done = rows["event_at"].min(), rows.loc[rows["event"] == "conversion", "event_at"].min()
        expected += (done - born) / (rows["event_at"].max() - born)
    assert abs(expected - float(problem.message.split("for ")[-1])) < 1


def test_an_event_that_comes_with_the_outcome_is_never_seen_before_it():
    assert after(planted(each("receipt", timedelta(0))), CONVERSION) == ["receipt"]


def test_an_event_that_some_have_before_the_outcome_is_not_named():
    ordinary = each("call", timedelta(hours=1), share=0.9)
    early = each("call", -20 * DAY, share=0.2)
    assert after(planted(ordinary, early), CONVERSION) == []


def test_an_event_of_customers_without_the_outcome_is_not_named():
    thanks = each("thanks", timedelta(hours=1))
    never = sorted(set(customers()) - ever("conversion"))[:60]
    others = pd.DataFrame({"customer_id": never, "event_at": END - 3 * DAY, "event": "thanks"})
    assert after(planted(thanks, others), CONVERSION) == []


def test_an_event_of_24_customers_is_not_named_but_one_of_60_is():
    thanks = each("thanks", timedelta(hours=1))
    ids = thanks["customer_id"].unique()
    assert [after(planted(thanks[thanks["customer_id"].isin(ids[:number])]), CONVERSION) for number in (24, 60)] == [[], ["thanks"]]


def test_where_customers_begin_with_the_outcome_nothing_could_come_before():
    first = shop().sort_values("event_at", kind="stable").groupby("customer_id")["event"].first()
    assert (first == "purchase").mean() > 0.95
    assert after(planted(each("refund", 5 * DAY, of="purchase")), Conversion("purchase", "28d")) == []


def test_only_what_was_known_before_until_counts():
    thanks = each("thanks", timedelta(hours=1))
    late = planted(thanks[thanks["event_at"] >= END - 60 * DAY])
    assert after(late, CONVERSION) == ["thanks"]
    assert after(late, CONVERSION, END - 60 * DAY) == []


def test_an_event_known_after_until_does_not_count():
    rows = pd.concat([shop(), each("thanks", timedelta(hours=1))])
    rows["known_at"] = rows["event_at"].where(rows["event"] != "thanks", END - DAY)
    events = EventLog(rows, observed=(made().start, END))
    assert after(events, CONVERSION, END - 2 * DAY) == []
    assert after(events, CONVERSION, END) == ["thanks"]


@pytest.mark.parametrize("dates_only", [False, True])
def test_a_date_without_hours_is_not_taken_for_the_midnight_before(dates_only):
    """Thanks are booked by date: the midnight before the conversion of the same day."""
    thanks = each("thanks", timedelta(0))
    rows = shop().assign(event_at=shop()["event_at"].dt.normalize()) if dates_only else shop()
    thanks["event_at"] = thanks["event_at"].dt.normalize()
    assert after(EventLog(pd.concat([rows, thanks]), observed=(made().start, END)), CONVERSION) == ["thanks"]


def test_a_farewell_of_those_who_stayed_away_is_named_for_churn_and_a_reminder_is_not():
    times = last("purchase")
    gone = times[times < END - 60 * DAY]
    farewell = pd.DataFrame({"customer_id": gone.index, "event_at": gone + 40 * DAY, "event": "farewell"})
    bought = shop()[shop()["event"] == "purchase"].drop_duplicates(["customer_id", "event_at"]).sort_values(["customer_id", "event_at"])
    following = bought.groupby("customer_id")["event_at"].shift(-1).fillna(END)
    reminded = bought[following - bought["event_at"] > 35 * DAY]
    reminder = reminded.assign(event="reminder", event_at=reminded["event_at"] + 35 * DAY)
    events = planted(farewell, reminder)
    (problem,) = only_after(events, CHURN, END)
    assert problem.source == "farewell"
    assert "had it before their first 28d without purchase" in problem.message


def test_ends_that_compete_are_part_of_the_outcome():
    table = subscriptions(1500).to_pandas()[COLUMNS]
    ends = table[table["event"].isin(["cancel", "move_away"])]
    letter = ends[ends["event"] == "cancel"].assign(event="letter", event_at=lambda rows: rows["event_at"] + DAY)
    events = EventLog(pd.concat([table, letter]))
    assert after(events, CANCEL, events.observed[1]) == ["letter"]


def test_a_condition_on_a_fact_decides_what_the_outcome_is():
    half = {customer: "a" if place % 2 else "b" for place, customer in enumerate(customers())}
    thanks = each("thanks", timedelta(hours=1))
    of_half = thanks[thanks["customer_id"].map(half) == "a"]
    target = Conversion("conversion", "28d", where="fact = 'a'")
    assert after(planted(of_half).join(facts(half)), target) == ["thanks"]
    assert after(planted(thanks).join(facts(half)), target) == []


# Columns ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("otherwise", [None, "none", "  "])
@pytest.mark.parametrize("target", [CONVERSION, ONCE])
def test_a_fact_that_only_those_with_the_outcome_have_is_named(target, otherwise):
    done = ever("conversion")
    values = {customer: f"won by {place % 3}" if customer in done else otherwise for place, customer in enumerate(customers())}
    events = with_facts(values)
    (problem,) = filled_afterwards(events, target, END)
    assert filled(events, target) == ["fact"]
    assert "fact of the lookup clients looks filled in afterwards" in problem.message
    assert "won by" not in str(problem)


def test_a_fact_given_by_some_of_those_with_the_outcome_is_named():
    done = sorted(ever("conversion"))[::3]
    assert filled(with_facts(dict.fromkeys(done, "price")), CONVERSION) == ["fact"]


def test_the_customers_counted_are_those_whose_first_outcome_came_in_the_last_third():
    first = shop()[shop()["event"] == "conversion"].groupby("customer_id")["event_at"].min()
    new = first[first >= END - (END - made().start) / 3]
    assert len(new) >= 50
    never = shop()["customer_id"].nunique() - len(first)
    (problem,) = filled_afterwards(with_facts(dict.fromkeys(first.index, 1)), CONVERSION, END)
    assert f"{len(new)} of {len(new)} customers whose outcome (conversion) came later" in problem.message
    assert f"0 of {never} without it do" in problem.message
    assert problem.count == len(new)


def test_a_fact_that_says_since_when_it_holds_is_not_suspected():
    done = sorted(ever("conversion"))
    since = facts(dict.fromkeys(done, "won"))
    frame = since.source.assign(since=END - 5 * DAY)
    for times in ({"valid_from": "since"}, {"known_at": "since"}):
        events = planted().join(Lookup(frame, key="customer_id", columns=["fact"], **times))
        assert filled(events, CONVERSION) == []


def test_a_fact_of_the_most_active_is_not_taken_for_one_of_those_with_the_outcome():
    """Most of them have converted at some time, but not anew."""
    active = shop().groupby("customer_id").size().sort_values().index[-150:]
    assert len(set(active) & ever("conversion")) > 0.7 * len(active)
    assert filled(with_facts(dict.fromkeys(active, "platinum")), CONVERSION) == []


@pytest.mark.parametrize("null_is_high", [False, True])
def test_numbers_that_separate_are_named_with_their_auc(null_is_high):
    rng, ids, done = np.random.default_rng(4), customers(), ever("conversion")
    values = {customer: round(float(rng.normal(4 if customer in done else 0)), 3) for customer in ids}
    for customer in ids[::4]:
        if (customer in done) == null_is_high:
            values[customer] = None
    (problem,) = filled_afterwards(with_facts(values), CONVERSION, END)
    first = shop()[shop()["event"] == "conversion"].groupby("customer_id")["event_at"].min()
    old = set(first.index[first < END - (END - made().start) / 3])
    asked = [customer for customer in ids if customer not in old]
    edge = 99 if null_is_high else -99
    reached = roc_auc_score([customer in done for customer in asked], [edge if values[c] is None else values[c] for c in asked])
    assert 0.98 < reached < 1
    assert f"an AUC of {reached:.3f}" in problem.message


def test_texts_that_separate_are_named_though_everybody_has_one():
    done = ever("conversion")
    kinds = {True: ["hot", "warm"], False: ["cold", "cool", "mild"]}
    values = {customer: kinds[customer in done][place % 2 if customer in done else place % 3] for place, customer in enumerate(customers())}
    (problem,) = filled_afterwards(with_facts(values), CONVERSION, END)
    assert "its values alone reach an AUC of 1.000" in problem.message


def test_names_of_customers_separate_nobody():
    assert filled(with_facts({customer: f"name {customer}" for customer in customers()}), CONVERSION) == []


def test_a_reason_for_leaving_is_named_for_churn():
    times = last("purchase")
    gone = times.index[times < END - 28 * DAY]
    (problem,) = filled_afterwards(with_facts(dict.fromkeys(gone, "moved")), CHURN, END)
    assert "whose outcome (no purchase) came later" in problem.message
    assert filled(with_facts(dict.fromkeys(gone[::3], "moved")), CHURN) == ["fact"]


def test_a_column_emptied_when_the_customer_left_is_named():
    times = last("purchase")
    stayed = times.index[times >= END - 28 * DAY]
    assert filled(with_facts({customer: f"{place:04}" for place, customer in enumerate(stayed)}), CHURN) == ["fact"]


def test_a_reason_given_for_either_end_is_named():
    table = subscriptions(1500).to_pandas()[COLUMNS]
    ended = table[table["event"].isin(["cancel", "move_away"])]
    events = EventLog(table).join(facts(dict.fromkeys(ended["customer_id"], "gave notice")))
    assert filled(events, CANCEL, events.observed[1]) == ["fact"]


def test_a_column_filled_for_outcomes_after_until_too_is_still_named():
    done = sorted(ever("conversion"))
    assert filled(with_facts(dict.fromkeys(done, "won")), CONVERSION, END - 28 * DAY) == ["fact"]


def test_a_dimension_that_knows_the_outcome_beforehand_is_named():
    done = ever("conversion")
    rows = shop().assign(status=[("won" if customer in done else None) for customer in shop()["customer_id"]])
    events = EventLog(rows, dimensions=["status"], observed=(made().start, END))
    (problem,) = filled_afterwards(events, CONVERSION, END)
    assert (problem.source, filled(events, CONVERSION)) == ("status", ["status"])
    assert "status in events before the outcome" in problem.message


def test_a_dimension_of_the_outcome_itself_is_natural():
    rows = shop().assign(coupon=np.where(shop()["event"] == "conversion", "c7", None))
    assert filled(EventLog(rows, dimensions=["coupon"], observed=(made().start, END)), CONVERSION) == []


def test_a_dimension_that_changes_within_customers_is_none_of_theirs():
    done = ever("conversion")
    rng = np.random.default_rng(6)
    rows = shop().assign(page=[f"p{rng.integers(3)}" if customer in done else None for customer in shop()["customer_id"]])
    assert filled(EventLog(rows, dimensions=["page"], observed=(made().start, END)), CONVERSION) == []


# Whatever else comes ------------------------------------------------------------------------------------------------------------------


def test_a_log_of_one_customer_is_silent():
    rows = pd.DataFrame(
        {"customer_id": [7] * 3, "event_at": ["2024-01-01", "2024-02-01", "2024-03-01"], "event": ["view", "buy", "thanks"]}
    )
    events = EventLog(rows.assign(status=None), dimensions=["status"]).join(facts({7: "won"}))
    for target in (Conversion("buy", "7d"), Churn("buy", "7d")):
        assert after(events, target, events.observed[1]) == []
        assert filled(events, target, events.observed[1]) == []


def test_integer_ids_and_dates_without_hours_are_read_like_any():
    numbers = {customer: place for place, customer in enumerate(customers())}
    rows = pd.concat([shop(), each("thanks", 2 * DAY)])
    rows = rows.assign(customer_id=rows["customer_id"].map(numbers), event_at=rows["event_at"].dt.date)
    won = {float(numbers[customer]): "won" for customer in ever("conversion")}
    events = EventLog(rows, observed=(made().start, END)).join(facts(won))
    assert after(events, CONVERSION) == ["thanks"]
    assert filled(events, CONVERSION) == ["fact"]


def test_before_anything_was_known_nothing_is_said():
    events = with_facts(dict.fromkeys(ever("conversion"), "won"))
    assert after(events, CONVERSION, made().start) == []
    assert filled(events, CONVERSION, made().start) == []
    assert filled(events, CHURN, made().start) == []


@pytest.mark.parametrize("ask", [only_after, filled_afterwards])
def test_an_event_that_the_log_never_holds_is_refused(ask):
    with pytest.raises(SpecificationError, match="did you mean 'conversion'"):
        ask(planted(), Conversion("conversions", "28d"), END)


def test_the_engine_keeps_nothing_behind_and_answers_alike_twice():
    events = planted(each("thanks", timedelta(hours=1))).join(facts(dict.fromkeys(ever("conversion"), "won")))
    before = tables(events)
    found = [(only_after(events, target, END), filled_afterwards(events, target, END)) for target in (CONVERSION, CHURN) * 2]
    assert found[:2] == found[2:]
    assert tables(events) == before


def tables(events):
    events.prepare()
    return sorted(row[0] for row in events.engine._connection.execute("SELECT table_name FROM duckdb_tables()").fetchall())
