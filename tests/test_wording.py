"""Wording: every feature and every value is a sentence that people say, in every language, and the user's words come first."""

from __future__ import annotations

import datetime
import pickle
import re
import string
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import persopredict as pp
from persopredict import conditions
from persopredict.affinity.features import PAIR_FEATURES
from persopredict.errors import SpecificationError
from persopredict.features.builders import default_features
from persopredict.features.spec import AGGREGATES, Feature
from persopredict.times import Duration
from persopredict.wording import Wording, languages, units
from persopredict.wording.languages import TABLES, Words, locale_of
from persopredict.wording.pairs import TELLERS
from tests import made
from tests.said import CONDITIONS, SAID, SAID_OF_PAIRS
from tests.test_public_api import loaded_by

LANGUAGES = tuple(TABLES)
NAN = float("nan")
HARD_SPACE = "\N{NO-BREAK SPACE}"
WHERES = (
    None,
    "event = 'coupon_redemption'",
    "event IN ('purchase', 'order_completed')",
    "channel = 'web'",
    "event = 'purchase' AND channel IN ('web', 'app')",
    "department = 'cheese'",
    "category = 'wine'",
    "hour < 6",
    "hour BETWEEN 6 AND 11",
    "hour >= 18",
    "hour IN (1, 2, 13)",
    "weekday >= 6",
    "weekday <= 5",
    "weekday IN (1, 4)",
    "value >= 10 AND NOT item_id IS NULL AND (channel <> 'web' OR quantity BETWEEN 2 AND 3)",
    "NOT (event = 'view' OR 5 > quantity) AND item_id IS NULL AND value <= 3 AND value > 1",
    "channel = department",
)
WINDOWS = (None, "1h", "36h", "1d", "4w", "91d")
#: Nothing, one, many; fractions and the special values of shares, trends and quotients; below zero; out of all proportion.
VALUES = np.array([NAN, 0.0, 0.004, 0.3, 0.9997, 1.0, 2.0, 3.84, 34.3, 800.0, 12_345.6, -0.5, -1.0, -7.25, 1.5e6, np.inf])


SHAPES = [
    *((where, window) for where in WHERES for window in (None, "4w")),
    *((where, window) for where in WHERES[:2] for window in WINDOWS),
]


def features():
    """Every aggregate of every shape, under every condition, over every window."""
    for aggregate, entry in AGGREGATES.items():
        columns = {
            0: [None],
            1: ["value", "hour", "weekday", "day", "discount"],
            2: [("value", "order_id"), ("value", "quantity"), ("quantity", "day")],
        }
        if aggregate == "distinct":
            columns[1] = [
                "day",
                "order_id",
                "item_id",
                "category",
                "channel",
                "event",
                "hour",
                "weekday",
                "currency",
                "brand_family",
                "opted_in",
            ]
        for column in (column for number in entry.columns for column in columns[number]):
            # Only amounts and days are told differently under conditions; the rest of columns by their names.
            for where, window in SHAPES if column in (None, "value", "day") else SHAPES[::5]:
                if aggregate == "trend" and window in (None, "1h"):
                    continue
                half_life = "7d" if aggregate == "decayed_sum" else None
                yield Feature(aggregate, column, window=window, where=where, fallback=None, half_life=half_life)


def told(feature, value, language="en", usual=None, **more):
    """The sentence of one value."""
    beside = None if usual is None else np.array([usual])
    return Wording(language, **more).reasons(feature, np.array([value]), beside)[0][0].replace(HARD_SPACE, " ")


def text_of(feature, value, language="en", **more):
    return Wording(language, **more).reasons(feature, np.array([value]))[1][0].replace(HARD_SPACE, " ")


# Tables ----------------------------------------------------------------------------------------------------------------------------------


def placeholders(text):
    """What a text is filled with; singular and plural of a noun are the same to a language that has one word for both."""
    templates = [text] if isinstance(text, str) else text.values()
    names = {name for template in templates for _, name, _, _ in string.Formatter().parse(template) if name}
    return {{"events": "event", "columns": "column"}.get(name, name) for name in names}


def resolved(texts, key):
    """The text of a key or, where there is no such variant, of the key without it."""
    while key not in texts:
        key, dot, _ = key.rpartition(".")
        assert dot, f"no text for {key}"
    return texts[key]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_text_with_the_same_placeholders(language):
    mine = TABLES[language].texts
    for other, table in TABLES.items():
        for key, text in table.texts.items():
            # A variant for a column may leave out its name, which it says itself; a single one need not say how many.
            optional = {"n", "quoted"} | ({"column", "values", "names"} if "." in key else set())
            assert placeholders(resolved(mine, key)) - optional == placeholders(text) - optional, f"{key} of {language} and {other}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_is_used_and_every_number_has_a_plural(language, monkeypatch):
    used = set()

    class Watched(dict):
        def __getitem__(self, key):
            used.add(key)
            return super().__getitem__(key)

        def get(self, key, default=None):
            used.add(key)
            return super().get(key, default)

    table = TABLES[language]
    watched = type(table)(Watched(table.texts), table.plural)
    monkeypatch.setitem(languages.TABLES, language, watched)
    wording = Wording(language, currency="EUR")
    for feature in features():
        usual = np.array([9.0, 1.0, NAN, 900.0] * 4) if wording.companion(feature) else None
        wording.title(feature)
        wording.reasons(feature, VALUES, usual)
    for feature in PAIR_FEATURES:
        wording.pair_title(feature, Duration(hours=36))
        usual = np.full(len(VALUES), 0.3) if wording.pair_companion(feature) else None
        wording.pair_reasons(feature, np.abs(VALUES), usual, category=["wine"] * len(VALUES), horizon=Duration(days=28))
        wording.pair_reasons(feature, -VALUES, None, category=["wine"] * len(VALUES), horizon=Duration(hours=1))
    # Only languages that make plurals of names can fail to.
    assert set(table.texts) - used == (set() if table.plural else {"values_of"})
    for key, text in table.texts.items():
        if not isinstance(text, str) and "title" not in text:
            assert {"one", "other"} <= set(text), key


def test_a_third_language_is_a_table_more(monkeypatch):
    texts = {**TABLES["en"].texts, "count": {"one": "{events}: {n} Mal{when}", "few": "", "other": "{events}: {n} Mal{when}"}}
    monkeypatch.setitem(languages.TABLES, "de", type(TABLES["en"])({**texts, "last_days": "den letzten {n} Tagen"}))
    locale_of.cache_clear()
    count = Feature("count", where="event = 'purchase'", window="28d", fallback=0)
    assert Wording("de-AT").reasons(count, np.array([3.0]))[0] == ["“purchase” events: 3 Mal in den letzten 28 Tagen"]
    locale_of.cache_clear()


# Every feature ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_feature_and_value_reads_as_people_write(language):
    wording = Wording(language)
    for feature in features():
        usual = np.where(np.isnan(VALUES), 9.3, 1.0) if wording.companion(feature) else None
        labels, written = wording.reasons(feature, VALUES, usual)
        for text in {wording.title(feature), *labels, *written}:
            assert text == text.strip()
            assert text, feature.name
            assert not re.search(r"[{}_]|  |\bnan\b|\binf\b|None|e\+|\x00", text), (feature.name, text)
            assert feature.where == WHERES[-1] or not re.search(r"[=<>] '|BETWEEN| IN |\bAND\b|\bOR\b|\bNOT\b|IS NULL", text), text


@pytest.mark.parametrize("language", ["en-US", "es"])
def test_titles_of_the_default_features_differ_and_show_no_code(language):
    wording = Wording(language)
    titles = [wording.title(feature) for feature in default_features(made.events())]
    assert len(set(titles)) == len(titles) > 100
    assert not [title for title in titles if re.search(r"_|\d[dh]\b|hour|weekday|order_id|[<>=]", title)]


def made_feature(aggregate, where=None, window=None, column=None):
    return Feature(aggregate, column, where=where, window=window, fallback=None)


@pytest.mark.parametrize(("shape", "value", "usual", "english", "spanish"), SAID, ids=lambda part: part if isinstance(part, str) else "")
def test_what_is_said(shape, value, usual, english, spanish):
    feature = made_feature(*shape)
    assert told(feature, value, "en", usual) == english
    assert told(feature, value, "es", usual) == spanish


@pytest.mark.parametrize(
    ("shape", "value", "english", "spanish"),
    [
        (("recency",), 34.3, "34 days", "34 días"),
        (("recency",), 0.01, "less than an hour", "menos de una hora"),
        (("recency",), NAN, "unknown", "sin dato"),
        (("count",), 3.0, "3", "3"),
        (("overdue",), 3.84, "3.8×", "3,8×"),
        (("share", "channel = 'web'"), 0.99983, ">99.9%", ">99,9 %"),
        (("share", "channel = 'web'"), 0.0002, "<0.1%", "<0,1 %"),
        (("trend", None, "28d"), -0.25, "−40%", "−40 %"),
        (("trend", None, "28d"), 1.0, "from nothing", "desde cero"),
        (("sum", None, None, "value"), 1234.5, "1,234", "1.234"),
        (("mean", None, None, "discount"), 0.012345, "0.0123", "0,0123"),
        (("gap_std",), 0.0, "±0 days", "±0 días"),
    ],
)
def test_values_have_their_units(shape, value, english, spanish):
    feature = made_feature(*shape)
    assert (text_of(feature, value), text_of(feature, value, "es")) == (english, spanish)


@pytest.mark.parametrize(
    ("name", "one", "many"),
    [
        ("purchase", "purchase", "purchases"),
        ("coupon_redemption", "coupon redemption", "coupon redemptions"),
        ("delivery", "delivery", "deliveries"),
        ("search", "search", "searches"),
        ("analysis", "analysis", "analyses"),
        ("approved", "“approved” event", "“approved” events"),
        ("add_to_cart", "“add to cart” event", "“add to cart” events"),
        ("view_item", "“view item” event", "“view item” events"),
        ("email_sent", "“email sent” event", "“email sent” events"),
        ("Order Completed", "“Order Completed” event", "“Order Completed” events"),
        ("devolución", "“devolución” event", "“devolución” events"),
        ("sales", "“sales” event", "“sales” events"),
    ],
)
def test_names_of_events_become_nouns_or_are_quoted(name, one, many):
    count = Feature("count", where=conditions.event_is([name]), window="28d", fallback=0)
    assert told(count, 1.0) == f"1 {one} in the last 28 days"
    assert told(count, 2.0) == f"2 {many} in the last 28 days"
    spanish = told(count, 2.0, "es")
    assert spanish == f"«{name.replace('_', ' ')}»: 2 veces en los últimos 28 días"


@pytest.mark.parametrize(
    ("where", "english", "spanish"),
    CONDITIONS,
)
def test_conditions_are_told(where, english, spanish):
    title = Feature("count", where=where, window="28d", fallback=0)
    for language, said in (("en", english), ("es", spanish)):
        found = Wording(language, currency="EUR").title(title).replace(HARD_SPACE, " ")
        assert said in found, found


# Values, companions, fallbacks -----------------------------------------------------------------------------------------------------------


def test_a_companion_is_the_gap_of_the_same_events():
    wording, purchases = Wording(), "event = 'purchase'"
    assert wording.companion(Feature("recency", where=purchases, window="91d", fallback=None)) == Feature(
        "gap_mean", where=purchases, fallback=None
    )
    assert wording.companion(Feature("overdue", window="91d", fallback=None)) == Feature("gap_mean", window="91d", fallback=None)
    assert wording.companion(Feature("tenure", fallback=None)) is None
    defaults = default_features(made.events())
    with_context = [feature for feature in defaults if wording.companion(feature) in defaults]
    assert {feature.aggregate for feature in with_context} == {"recency", "overdue"}
    assert len(with_context) > 10


def test_a_fallback_that_nobody_ever_had_is_unknown():
    never = Feature("recency", where="event = 'purchase'", fallback=9999)
    assert told(never, 9999.0) == "no purchase yet"
    assert text_of(never, 9999.0) == "unknown"
    assert told(never, 34.0, usual=0.0) == "last purchase 34 days ago; so far only on that day"
    assert told(Feature("count", fallback=0), 0.0) == "no activity yet"


def test_what_is_not_finite_is_unknown():
    assert Wording().reasons(Feature("sum", "value", fallback=None), np.array([np.inf, -np.inf, NAN]))[1] == ["unknown"] * 3


@given(
    st.lists(st.one_of(st.floats(allow_infinity=False), st.sampled_from([0.0, -0.0, 1.0, 0.5, 34.0, -1.0, 9.0])), min_size=1, max_size=8),
    st.lists(st.one_of(st.none(), st.floats(0.5, 900.0)), min_size=8, max_size=8),
    st.sampled_from(
        [
            Feature("recency", fallback=None),
            Feature("overdue", window="91d", fallback=None),
            Feature("count", window="28d", fallback=0),
            Feature("trend", "value", window="28d", fallback=None),
            Feature("share", where="channel = 'web'", fallback=None),
            Feature("sum", "value", fallback=0),
            Feature("std", "day", fallback=None),
        ]
    ),
    st.sampled_from(["en", "es-MX"]),
)
@settings(deadline=None, max_examples=40)
def test_many_at_once_are_told_as_one_at_a_time(values, usual, feature, language):
    wording = Wording(language, currency="USD")
    given_values = np.array(values)
    beside = np.array([NAN if gap is None else gap for gap in usual[: len(values)]]) if wording.companion(feature) else None
    labels, written = wording.reasons(feature, given_values, beside)
    other = Wording(language, currency="USD")
    alone = [other.reasons(feature, given_values[[row]], None if beside is None else beside[[row]]) for row in range(len(values))]
    assert labels == [one[0][0] for one in alone]
    assert written == [one[1][0] for one in alone]
    assert all(isinstance(text, str) and text for text in (*labels, *written))


def test_of_many_customers_only_what_differs_is_written(monkeypatch):
    calls = defaultdict(int)
    plain = units.time_text

    def counted(value, words):
        calls["time"] += 1
        return plain(value, words)

    monkeypatch.setattr(units, "time_text", counted)
    rng = np.random.default_rng(0)
    values, usual = rng.exponential(60, 200_000), rng.integers(1, 20, 200_000).astype(float)
    labels, texts = Wording().reasons(Feature("recency", where="event = 'purchase'", fallback=None), values, usual)
    assert len(labels) == len(texts) == 200_000
    assert labels[7] == f"last purchase {texts[7]} ago; usually every {usual[7]:.0f}"
    assert calls["time"] < 3000


def test_no_customers_no_sentences():
    nothing = np.array([])
    assert Wording().reasons(Feature("recency", fallback=None), nothing, nothing) == ([], [])
    assert Wording().pair_reasons(PAIR_FEATURES[0], nothing, category=[], horizon=Duration(days=28)) == ([], [])


# The user's words ------------------------------------------------------------------------------------------------------------------------

RECENCY = Feature("recency", where="event = 'purchase'", fallback=None)


def test_a_label_of_the_user_s_takes_the_place_of_ours():
    wording = Wording("es", {"recency_purchase_all": "Last order {value} days ago"})
    assert wording.reasons(RECENCY, np.array([34.4, NAN]), np.array([9.0, 9.0])) == (
        ["Last order 34 days ago", "«purchase»: todavía ninguna vez"],
        ["34 días", "sin dato"],
    )
    assert wording.title(RECENCY) == "Last order … days ago"
    assert Wording(labels={"recency_purchase_all": "Days {{since}} order"}).reasons(RECENCY, np.array([34.4, NAN]))[0] == [
        "Days {since} order: 34 days",
        "Days {since} order: unknown",
    ]
    long_ago = Wording(labels={"recency_purchase_all": "{value}"}).reasons(RECENCY, np.array([1000.0, 0.25]))[0]
    assert long_ago == ["1,000", "0.25"], "years and hours are units, and a number without a unit is in days"


def test_a_label_that_the_user_gave_a_feature_is_respected():
    mine = Feature("count", window="28d", fallback=0, label="100% {sure}")
    assert Wording("es").title(mine) == "100% {sure}"
    assert told(mine, 3.0, "es") == "100% {sure}: 3"
    assert told(Feature("count", window="28d", fallback=0), 3.0) == "3 events in the last 28 days"
    assert told(mine, 3.0, labels={mine.name: "{value} taps"}) == "3 taps"


def test_all_that_is_wrong_with_labels_is_told_at_once():
    labels = {"a": "{days} ago", "b": "{value:.2f}", "c": "{", "d": " ", "e": "{value} for {category}", "recency": "{category}: {value}"}
    with pytest.raises(SpecificationError) as caught:
        Wording("xx", labels, names={"web": ""}, currency="EURO")
    codes = [problem.code for problem in caught.value.problems]
    assert codes == [
        *("unknown_placeholder", "unknown_placeholder", "unreadable_label", "empty_label", "unknown_placeholder"),
        *("empty_name", "unknown_language", "unknown_currency"),
    ]
    assert "label of 'a': {days} is unknown. Remedy: write {value} as it stands here" in str(caught.value)
    assert "no language 'xx'; there are: 'en', 'es', and each with a region" in str(caught.value)


def test_whatever_is_no_mapping_language_or_currency_is_told_at_once():
    with pytest.raises(SpecificationError) as caught:
        Wording(["es"], labels="Last seen", names=None, currency=["EUR"])
    assert [problem.code for problem in caught.value.problems] == ["not_a_mapping", "not_a_mapping", "unknown_language", "unknown_currency"]
    assert "labels is 'Last seen'. Remedy: give a mapping like {'recency_all': 'Last seen'}." in str(caught.value)


def test_a_placeholder_that_is_unknown_is_shown_as_it_was_written():
    with pytest.raises(SpecificationError, match=r"label of 'recency_all': \{value!r:>5\} is unknown"):
        Wording(labels={"recency_all": "Seen {value!r:>5}"})


@pytest.mark.parametrize("language", TABLES)
def test_names_of_the_log_stay_on_one_line_and_turn_no_text_round(language):
    for name in ("sale\n(web)", "\x1b[2Jsale", "\u202esale", "sale\u2028"):
        where = f"event = '{name}' AND channel = '{name}' AND family = '{name}'"
        feature = Feature("count", where=where, fallback=0, name="mine")
        labels, _ = Wording(language).reasons(feature, np.array([0.0, 1.0, 3.0]))
        about, _ = Wording(language).pair_reasons(PAIR_FEATURES[2], [4.0], category=[name], horizon=Duration(days=28))
        for sentence in (*labels, *about, Wording(language).title(feature), Wording(language).event(name)):
            assert "sale" in sentence
            assert sentence.isprintable() or sentence.replace("\N{NO-BREAK SPACE}", " ").isprintable()


def test_what_is_slightly_below_nothing_is_not_said_to_be_less():
    feature = Feature("share", "value", where="channel = 'web'", fallback=None)
    assert Wording().reasons(feature, np.array([-0.0004, 0.0004]))[1] == [">-0.1%", "<0.1%"]


@pytest.mark.parametrize("language", ["", "english", "es-XX", "fr", None, 7])
def test_an_unknown_language_is_refused(language):
    with pytest.raises(SpecificationError, match=r"no (language|region)"):
        Wording(language)


def test_labels_for_no_feature_are_found_out():
    problems = Wording(labels={"recency_al": "Seen", "recency_all": "Seen"}).unknown(["recency_all", "count_7d"])
    assert [(problem.code, problem.remedy) for problem in problems] == [("unknown_label", "did you mean 'recency_all'?")]


def test_names_of_the_log_take_the_user_s_words():
    wording = Wording("es", names={"purchase": "compra", "value": "gasto", "web": "tienda online", "cheese": "queso"}, currency="EUR")
    assert wording.reasons(RECENCY, np.array([3.0]))[0] == ["última vez de «compra»: hace 3 días"]
    total = Feature("sum", "value", where="channel = 'web'", window="28d", fallback=0)
    assert wording.title(total) == "total de gasto de eventos por el canal tienda online en los últimos 28 días"
    assert wording.pair_reasons(PAIR_FEATURES[0], np.array([2.0]), category=["cheese"], horizon=Duration(days=28))[0] == [
        "queso: 2 veces hasta ahora"
    ]
    assert Wording(names={"value": "spend"}).title(total) == "total spend of events via web in the last 28 days"


def test_a_wording_is_a_value():
    first, second = (Wording("es", {"recency_purchase_all": "Visto"}, currency="EUR") for _ in range(2))
    first.reasons(RECENCY, np.array([3.0]))
    assert first == second != Wording("es")
    assert hash(first) == hash(second)
    copied = pickle.loads(pickle.dumps(first))
    assert copied == first
    assert copied.reasons(RECENCY, np.array([3.0])) == first.reasons(RECENCY, np.array([3.0]))
    with pytest.raises(AttributeError):
        first.language = "en"
    assert pp.Wording is Wording


# Numbers ---------------------------------------------------------------------------------------------------------------------------------


def test_numbers_and_dates_are_the_region_s():
    day, us, spain, mexico = datetime.date(2026, 3, 4), Wording("en"), Wording("es"), Wording("es-MX")
    assert [each.number(12345.6) for each in (us, spain, mexico)] == ["12,346", "12.346", "12,346"]
    assert [us.number(x) for x in (0.0, -0.0, 7.0, 0.012345, 34.56, NAN)] == ["0", "0", "7", "0.0123", "34.6", "unknown"]
    assert [us.number(2.0, 2), us.number(1234.567, 1)] == ["2.00", "1,234.6"]
    assert [us.percent(x) for x in (0.0, 0.0004, 0.0234, 0.234, 0.9951, 0.99999, 1.0, 1.5, -0.4)] == [
        *("0%", "<0.1%", "2.3%", "23%", "99.5%", ">99.9%", "100%", "150%", "-40%"),
    ]
    assert [us.percent(0.5, 1), spain.percent(0.0712)] == ["50.0%", f"7,1{HARD_SPACE}%"]
    assert [each.date(day) for each in (us, Wording("en-GB"), spain)] == ["Mar 4, 2026", "4 Mar 2026", "4 mar 2026"]
    assert [us.money(12.5, "EUR"), us.money(1234.4, "EUR"), spain.money(12.5, "EUR")] == ["€12.50", "€1,234", f"12,50{HARD_SPACE}€"]
    assert mexico.money(12.5, "EUR") == f"EUR{HARD_SPACE}12.50"
    assert [us.money(12.5), Wording(currency="JPY").money(12.4)] == ["12.5", "¥12"]


def test_amounts_have_the_currency_that_is_given():
    spent = Feature("sum", "value", window="28d", fallback=0)
    assert told(spent, 1234.4, currency="EUR") == "total value in the last 28 days: €1,234"
    assert told(spent, 9.5, "es", currency="EUR") == "importe total en los últimos 28 días: 9,50 €"
    assert told(Feature("sum", "quantity", fallback=0), 9.5, currency="EUR") == "total quantity so far: 9.5"
    assert told(Feature("std", "value", fallback=None), 9.5, currency="EUR") == "variation in value: ±€9.50"


# Pairs -----------------------------------------------------------------------------------------------------------------------------------

MONTH = Duration(days=28)
PAIRS = {feature.name: feature for feature in PAIR_FEATURES}


def said_of_pair(name, value, language="en", usual=None, by=None, category="cheese", **more):
    beside = None if usual is None else np.array([usual], np.float32)
    labels, _ = Wording(language, **more).pair_reasons(
        PAIRS[name], np.array([value], np.float32), beside, category=[category], horizon=MONTH, by=by
    )
    return labels[0].replace(HARD_SPACE, " ")


@pytest.mark.parametrize("horizon", ["28d", "1d", "36h"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_feature_of_pairs_is_told(language, horizon):
    assert set(TELLERS) == set(PAIRS)
    wording, length = Wording(language), Duration.parse(horizon)
    titles = [wording.pair_title(feature, length) for feature in PAIR_FEATURES]
    # Half-lives of a short horizon may come out alike.
    assert len(set(titles)) == len(titles) or horizon != "28d"
    for feature in PAIR_FEATURES:
        usual = np.full(len(VALUES), 7.0) if wording.pair_companion(feature) else None
        labels, written = wording.pair_reasons(feature, VALUES, usual, category=["cheese"] * len(VALUES), horizon=length)
        assert all(label.startswith("cheese: ") == (feature.about != "customer") for label in labels)
        for text in {*titles, *labels, *written}:
            assert text == text.strip()
            assert not re.search(r"[{}_]|  |\bnan\b|horizon|\x00", text), (feature.name, text)


@pytest.mark.parametrize(
    ("name", "value", "usual", "english", "spanish"),
    SAID_OF_PAIRS,
)
def test_what_is_said_of_pairs(name, value, usual, english, spanish):
    assert said_of_pair(name, value, "en", usual) == english
    assert said_of_pair(name, value, "es", usual) == spanish


def test_hours_and_weekdays_are_categories_too():
    assert said_of_pair("occasions_1", 2.0, by="hour", category="18") == "6:00 PM: chosen 2 times in the last 28 days"
    assert said_of_pair("occasions_1", 2.0, "es", by="weekday", category="7") == "domingo: 2 veces en los últimos 28 días"
    assert said_of_pair("categories", 2.0, by="item_id") == "2 different items chosen so far"
    assert said_of_pair("occasions_1", 2.0, by="department", category="18") == "18: chosen 2 times in the last 28 days"


def test_labels_of_pairs_may_hold_the_category():
    labels = {"recency": "{category} bought {value} days ago", "popularity": "Popular", "trips": "{value} baskets"}
    assert said_of_pair("recency", 6.2, labels=labels) == "cheese bought 6 days ago"
    assert said_of_pair("recency", NAN, labels=labels) == "cheese: never chosen so far"
    assert said_of_pair("popularity", 0.5, labels=labels) == "cheese: Popular: 50%"
    assert said_of_pair("trips", 3.0, labels=labels) == "3 baskets"
    assert Wording(labels=labels).pair_title(PAIRS["recency"], MONTH) == "… bought … days ago"


def test_each_row_has_its_category():
    rows = {"category": ["b", "a", "b"], "horizon": MONTH}
    assert Wording().pair_reasons(PAIRS["occasions_1"], np.array([1.0, 1.0, 0.0]), **rows)[0] == [
        "b: chosen once in the last 28 days",
        "a: chosen once in the last 28 days",
        "b: not chosen in the last 28 days",
    ]
    with pytest.raises(ValueError, match="zip"):
        Wording().pair_reasons(PAIRS["occasions_1"], np.array([1.0]), **rows)


# What it needs ---------------------------------------------------------------------------------------------------------------------------


def test_words_need_no_database_and_no_frames():
    program = """
import numpy as np
from persopredict import Feature, Wording
Wording("es").reasons(Feature("recency", where="event = 'purchase'", fallback=None), np.array([3.0]))
"""
    assert loaded_by(program) <= {"babel", "numpy", "sqlglot"}


def test_words_of_a_language_say_what_is_asked():
    words = Words.of("en", {}, None)
    assert words.things("order_id", 0) == "no orders"
    assert words.things("opted_in", 2) == "2 different values of “opted in”"
    assert words.things("opted_in", None) == "different values of “opted in”"
