"""The configuration file: what is read, what is refused, and that every problem is told at once without secrets."""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from persopredict import sections
from persopredict.config import Config, load
from persopredict.errors import ConfigurationError, Problem, SpecificationError
from persopredict.learner import PAIR_DEFAULTS
from persopredict.sources import Constant
from persopredict.starter import propose_mapping, starter_toml
from persopredict.targets import Affinity, Cancellation, Churn, Conversion
from persopredict.times import Duration
from persopredict.wording import Wording

EVENTS = """
[[events]]
path = "sales.csv"
event = "purchase"
[events.columns]
customer_id = "client"
event_at = "sold_at"
"""
TARGET = """
[targets.stays_away]
type = "churn"
event = "purchase"
horizon = "28d"
"""
WAREHOUSE = """
[warehouse]
url = "warehouse.duckdb"
"""
SMALLEST = EVENTS + TARGET + WAREHOUSE


def write(folder: Path, text: str) -> Path:
    file = folder / "persopredict.toml"
    file.write_text(text, encoding="utf-8")
    return file


def refused(folder: Path, text: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load(write(folder, text))
    assert caught.value.exit_code == 2
    return caught.value


def found(folder: Path, text: str) -> dict[str, Problem]:
    """The problems by key, without the file's name."""
    return {problem.source.removeprefix("persopredict.toml: "): problem for problem in refused(folder, text).problems}


def only(folder: Path, text: str) -> tuple[str, Problem]:
    problems = found(folder, text)
    assert len(problems) == 1, problems
    return next(iter(problems.items()))


# What is read -------------------------------------------------------------------------------------------------------


def test_the_smallest_file_has_events_a_target_and_a_warehouse(tmp_path):
    config = load(write(tmp_path, SMALLEST))
    assert config.targets == {"stays_away": Churn("purchase", "28d", name="stays_away")}
    assert config.project.name == "persopredict"
    assert config.project.timezone == "UTC"
    assert config.source.engine == "duckdb"
    assert config.tracking.uri == "sqlite:///mlflow.db"
    assert (config.job.retrain_every, config.job.max_staleness, config.job.keep, config.job.min_grade) == ("28d", "3d", None, "B")


def test_the_example_is_read_as_it_says():
    config = load(Path(__file__).parents[1] / "examples" / "persopredict.toml")
    sales, newsletter = config.events
    assert sales.columns.category == ("department", "family")
    assert sales.columns.currency == Constant("EUR")
    assert sales.columns.dimensions == {"store": "store_code"}
    assert newsletter.columns.event == "action"
    assert config.lightgbm == {"conversion_web_7d": {"num_leaves": 15, "n_estimators": 200}}
    assert list(config.targets.values()) == [
        Churn("purchase", "28d", active_within="91d", name="churn_purchase_28d"),
        Conversion("purchase", "7d", gap="1d", where="channel = 'web'", active_within="182d", name="conversion_web_7d"),
        Cancellation("unsubscribed", "28d", start="sent", competing=("bounced",), name="cancellation_newsletter_28d"),
        Affinity("purchase", "28d", by="family", top=10, top_new=3),
    ]


def test_a_target_is_named_by_its_table_unless_it_says_otherwise(tmp_path):
    config = load(write(tmp_path, SMALLEST + '[targets.b]\ntype="conversion"\nevent="x"\nhorizon="7d"\nname="other"'))
    assert list(config.targets) == ["stays_away", "other"]
    assert [target.name for target in config.targets.values()] == ["stays_away", "other"]


def test_weeks_are_read_as_days(tmp_path):
    config = load(write(tmp_path, SMALLEST + '[job]\nretrain_every = "4w"'))
    assert config.job.retrain_every == "28d"


def test_the_least_grade_that_may_serve_reaches_the_job(tmp_path):
    assert load(write(tmp_path, SMALLEST + '[job]\nmin_grade = "A"')).build().min_grade == "A"


def test_the_report_has_a_language_a_place_and_words(tmp_path):
    plain = load(write(tmp_path, SMALLEST)).build()
    assert (plain.wording, plain.report_path) == (Wording(), tmp_path / "report.html")
    report = '[report]\nlanguage = "es-MX"\npath = "told/today.html"\ncurrency = "MXN"\n'
    words = '[report.labels]\nrecency_all = "Hace {value} días"\n[report.names]\npurchase = "compra"\n'
    job = load(write(tmp_path, SMALLEST + report + words)).build()
    assert job.wording == Wording("es-MX", {"recency_all": "Hace {value} días"}, names={"purchase": "compra"}, currency="MXN")
    assert job.report_path == tmp_path / "told" / "today.html"


@pytest.mark.parametrize(
    ("line", "key", "words"),
    [
        ('language = "spanish"', "report.language", "no language 'spanish'"),
        ("language = 1", "report.language", "1 is not allowed"),
        ('path = "report.pdf"', "report.path", "an HTML file"),
        ('currency = "euros"', "report.currency", "no currency 'euros'"),
        ('labels = { recency_all = "Seen {days} ago" }', "report.labels", "{days} is unknown"),
        ("labels = { recency_all = 3 }", "report.labels", "sentences for features"),
        ('names = ["purchase"]', "report.names", "words for events"),
        ('names = { purchase = " " }', "report.names", "the name of 'purchase'"),
        ('lang = "es"', "report.lang", "language"),
    ],
)
def test_what_is_wrong_with_the_report_is_told_by_key(tmp_path, line, key, words):
    where, problem = only(tmp_path, SMALLEST + f"[report]\n{line}\n")
    assert where == key
    assert words in str(problem)


def test_dimensions_are_a_table_or_a_list(tmp_path):
    as_list = SMALLEST.replace('sold_at"', "sold_at\"\ndimensions = ['store']")
    as_table = SMALLEST.replace('sold_at"', "sold_at\"\ndimensions = { shop = 'Store No' }")
    as_section = SMALLEST.replace('sold_at"', "sold_at\"\n[events.columns.dimensions]\nshop = 'Store No'")
    assert load(write(tmp_path, as_list)).events[0].columns.dimensions == {"store": "store"}
    assert load(write(tmp_path, as_table)).events[0].columns.dimensions == {"shop": "Store No"}
    assert load(write(tmp_path, as_section)).events[0].columns.dimensions == {"shop": "Store No"}


def test_a_byte_order_mark_does_no_harm(tmp_path):
    file = tmp_path / "persopredict.toml"
    file.write_bytes(b"\xef\xbb\xbf" + SMALLEST.encode())
    assert list(load(file).targets) == ["stays_away"]


# Files that can't be read -------------------------------------------------------------------------------------------


def test_a_missing_file_points_to_init(tmp_path):
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml.*(\n.*)*persopredict init"):
        load(tmp_path / "nowhere.toml")


def test_a_folder_is_not_a_configuration(tmp_path):
    with pytest.raises(ConfigurationError, match="directory"):
        load(tmp_path)


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing but a comment\n"])
def test_an_empty_file_says_so(tmp_path, text):
    assert refused(tmp_path, text).problems[0].code == "empty_file"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[project]\nname = shop\n", 2),
        ('[project]\nname = "a"\nname = "b"', 3),
        ("[project\n", 1),
        ('[project]\n\n\nname = "a', 4),
    ],
)
def test_a_syntax_error_names_its_line(tmp_path, text, line):
    problem = refused(tmp_path, text).problems[0]
    assert problem.code == "toml_syntax"
    assert re.search(rf"line {line}\b", problem.message), problem.message


def test_a_file_that_is_not_utf8_names_the_line(tmp_path):
    file = tmp_path / "persopredict.toml"
    file.write_bytes(b"[project]\nname = 'caf\xe9'\n")
    with pytest.raises(ConfigurationError, match="line 2 is not UTF-8"):
        load(file)


# Keys and values ----------------------------------------------------------------------------------------------------


def test_all_problems_are_told_at_once(tmp_path):
    problems = found(
        tmp_path,
        """
        [project]
        timezone = "Europe/Madrd"
        [[events]]
        path = "sales.csv"
        table = "sales"
        event = "purchase"
        [events.columns]
        custmer_id = "client"
        event_at = 3
        [targets.churn]
        type = "churn"
        event = "purchase"
        horizon = "1 month"
        lightgbm = { num_leafs = 15 }
        [trackng]
        """,
    )
    assert {key: problem.code for key, problem in problems.items()} == {
        "project.timezone": "bad_value",
        "events[0]": "contradiction",
        "source.url": "missing_key",
        "events[0].columns.custmer_id": "unknown_key",
        "events[0].columns.event_at": "bad_value",
        "targets.churn.horizon": "bad_value",
        "targets.churn.lightgbm.num_leafs": "unknown_key",
        "trackng": "unknown_key",
        "warehouse": "missing_key",
    }


def test_a_wrong_value_names_file_key_value_and_what_is_allowed(tmp_path):
    text = str(refused(tmp_path, SMALLEST.replace("28d", "1 month")))
    assert "[persopredict.toml: targets.stays_away.horizon]" in text
    assert "'1 month' is not allowed" in text
    assert "<int>h, <int>d or <int>w" in text


@pytest.mark.parametrize(
    ("section", "key", "nearest"),
    [
        ("[projct]\nname = 'a'", "projct", "project"),
        ("[project]\ntimezon = 'UTC'", "project.timezon", "timezone"),
        ("[job]\nretrain = '7d'", "job.retrain", "retrain_every"),
        ("[tracking]\nexperimnt = 'x'", "tracking.experimnt", "experiment"),
    ],
)
def test_an_unknown_key_is_an_error_with_the_nearest_one(tmp_path, section, key, nearest):
    at, problem = only(tmp_path, f"{section}\n{SMALLEST}")
    assert (at, problem.code) == (key, "unknown_key")
    assert nearest in problem.remedy


def test_a_column_above_its_table_is_sent_there(tmp_path):
    key, problem = only(tmp_path, SMALLEST.replace('event = "purchase"\n[', 'value = "amount"\nevent = "purchase"\n['))
    assert key == "events[0].value"
    assert "[events.columns]" in problem.remedy


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("[project]\nname = 3", "project.name"),
        ("[project]\nname = 'a/b'", "project.name"),
        ("project = 'shop'", "project"),
        ("[source]\nengine = 'snowflake'", "source.engine"),
        ("[tracking]\nuri = 'mlruns'", "tracking.uri"),
        ("[job]\nkeep = 30", "job.keep"),
        ("[job]\nmax_staleness = '-1d'", "job.max_staleness"),
        ("[[job]]\nkeep = '30d'", "job"),
        ("[job]\nmin_grade = 'D'", "job.min_grade"),
        ("[job]\nmin_grade = 'b'", "job.min_grade"),
        ("[targets.b]\ntype='churn'\nevent=''\nhorizon='7d'", "targets.b.event"),
        ("[targets.b]\ntype='churn'\nevent='x'\nhorizon='0d'", "targets.b.horizon"),
        ("[targets.b]\ntype='churn'\nevent='x'\nhorizon='7d'\nwhere='lower(channel)'", "targets.b.where"),
        ("[targets.b]\ntype='conversion'\nevent='x'\nhorizon='7d'\nonce='yes'", "targets.b.once"),
        ("[targets.b]\ntype='churn'\nevent='x'\nhorizon='7d'\nname='B b'", "targets.b.name"),
        ("[targets.'B b']\ntype='churn'\nevent='x'\nhorizon='7d'", "targets.B b"),
        ("[targets.b]\ntype='chrun'\nevent='x'\nhorizon='7d'", "targets.b.type"),
        ("[targets.b]\ntype='cancellation'\nevent='x'\nhorizon='7d'\ncompeting=['x']", "targets.b.competing"),
        (
            "[targets.b]\ntype='churn'\nevent='x'\nhorizon='7d'\nlightgbm={learning_rate=2}",
            "targets.b.lightgbm.learning_rate",
        ),
    ],
)
def test_wrong_values_are_refused_by_key(tmp_path, section, key):
    text = f"{section}\n{SMALLEST}" if section.startswith("project =") else f"{SMALLEST}\n{section}"
    at, problem = only(tmp_path, text)
    assert (at, problem.code) == (key, "bad_value")
    assert problem.remedy


def test_a_problem_is_told_in_words_of_the_file(tmp_path):
    text = str(refused(tmp_path, "[project]\nname=[]\ntimezone=1\n[job]\nkeep={}\n[[events]]\npath=3\nobserved='x'"))
    for word in ("pydantic", "Input should", "validation error", "type=", "Value error", "Traceback"):
        assert word not in text


@pytest.mark.parametrize("missing", ["type", "event", "horizon"])
def test_a_target_needs_type_event_and_horizon(tmp_path, missing):
    target = "\n".join(line for line in TARGET.splitlines() if not line.startswith(missing))
    key, problem = only(tmp_path, EVENTS + target + WAREHOUSE)
    assert (key, problem.code) == (f"targets.stays_away.{missing}", "missing_key")


@pytest.mark.parametrize(
    ("text", "key"),
    [(TARGET + WAREHOUSE, "events"), (EVENTS + WAREHOUSE, "targets"), (EVENTS + TARGET, "warehouse")],
)
def test_events_targets_and_warehouse_are_needed(tmp_path, text, key):
    at, problem = only(tmp_path, text)
    assert (at, problem.code) == (key, "missing_key")


@pytest.mark.parametrize("places", ["", "table = 'a'\nquery = 'select 1'", "path = 'a.csv'\nquery = 'select 1'"])
def test_a_source_is_exactly_one_of_path_table_and_query(tmp_path, places):
    text = SMALLEST.replace('path = "sales.csv"', places) + "[source]\nurl = 'events.duckdb'"
    key, problem = only(tmp_path, text)
    assert (key, problem.code) == ("events[0]", "contradiction")


def test_an_event_is_a_name_or_a_column_not_both(tmp_path):
    key, problem = only(tmp_path, SMALLEST.replace('sold_at"', "sold_at\"\nevent = 'action'"))
    assert (key, problem.code) == ("events[0]", "contradiction")


def test_events_in_single_brackets_are_explained(tmp_path):
    key, problem = only(tmp_path, SMALLEST.replace("[[events]]", "[events]"))
    assert key == "events"
    assert "[[events]]" in problem.remedy


def test_there_is_exactly_one_warehouse(tmp_path):
    text = SMALLEST.replace("[warehouse]", "[[warehouse]]") + '[[warehouse]]\nurl = "second.duckdb"'
    key, problem = only(tmp_path, text)
    assert key == "warehouse"
    assert "exactly one" in problem.message


def test_two_targets_of_one_name_are_refused(tmp_path):
    text = SMALLEST + '[targets.b]\ntype="churn"\nevent="x"\nhorizon="7d"\nname="stays_away"'
    key, problem = only(tmp_path, text)
    assert (key, problem.code) == ("targets.b", "contradiction")


@pytest.mark.parametrize("observed", ["['2018-01-01', '2017-01-01']", "['2017-01-01']", "'2017'", "[2017, 2018]", "['soon', 'later']"])
def test_observed_is_a_start_before_an_end(tmp_path, observed):
    key, _ = only(tmp_path, SMALLEST.replace("[events.columns]", f"observed = {observed}\n[events.columns]"))
    assert key == "events[0].observed"


@pytest.mark.parametrize("dimensions", ["['value']", "['hour']", "['Store No']", "{ Shop = 'shop' }", "3"])
def test_a_dimension_has_a_name_of_its_own(tmp_path, dimensions):
    key, _ = only(tmp_path, SMALLEST.replace('sold_at"', f'sold_at"\ndimensions = {dimensions}'))
    assert key == "events[0].columns.dimensions"


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("[[sinks]]\ntype = 'webhook'", "sinks"),
        ("[[audiences]]\nname = 'loyal'", "audiences"),
        ("[serving]\nport = 8000", "serving"),
        ("[source]\nengine = 'spark'", "source.engine"),
        ("[source]\nengine = 'postgres'", "source.engine"),
        ("[targets.worth]\ntype = 'value'\nevent = 'purchase'\nhorizon = '365d'", "targets.worth.type"),
    ],
)
def test_what_this_version_lacks_is_refused_not_ignored(tmp_path, section, key):
    at, problem = only(tmp_path, SMALLEST + section)
    assert (at, problem.code) == (key, "not_available")
    assert "not available in this version" in problem.message


def test_a_warehouse_other_than_duckdb_is_not_available_yet(tmp_path):
    key, problem = only(tmp_path, SMALLEST.replace("warehouse.duckdb", "postgresql://user:hunter2@db/prod"))
    assert (key, problem.code) == ("warehouse.url", "not_available")
    assert "hunter2" not in str(problem)


# Affinity -----------------------------------------------------------------------------------------------------------

TASTE = """
[targets.taste]
type = "affinity"
event = "purchase"
horizon = "28d"
by = "department"
"""
LEVELS = EVENTS + 'category = ["Department", "family"]\n'


def test_an_affinity_is_about_a_level_of_category(tmp_path):
    config = load(write(tmp_path, LEVELS + TASTE + WAREHOUSE))
    assert config.targets == {"taste": Affinity("purchase", "28d", by="department", name="taste")}


def test_an_affinity_says_how_much_is_published_and_whom_it_asks(tmp_path):
    more = "top = 5\ntop_new = 0\ngap = '1d'\nwhere = 'value > 0'\nactive_within = '26w'\ncohort = \"event = 'purchase'\"\nname = 'likes'\n"
    config = load(write(tmp_path, LEVELS + TASTE + more + WAREHOUSE))
    assert list(config.targets.values()) == [
        Affinity(
            "purchase", "28d", by="department", top=5, top_new=0, gap="1d", where="value > 0", active_within="182d",
            cohort="event = 'purchase'", name="likes",
        )
    ]  # fmt: skip


@pytest.mark.parametrize("by", ["category", "item_id", "channel", "hour", "weekday"])
def test_an_affinity_may_be_about_what_any_log_can_have(tmp_path, by):
    assert load(write(tmp_path, EVENTS + TASTE.replace("department", by) + WAREHOUSE)).targets["taste"].by == by


def test_an_affinity_needs_what_it_is_about(tmp_path):
    key, problem = only(tmp_path, LEVELS + TASTE.replace('by = "department"', "") + WAREHOUSE)
    assert (key, problem.code) == ("targets.taste.by", "missing_key")
    assert "level of category" in problem.remedy


@pytest.mark.parametrize(
    ("by", "nearest"),
    [("departmnt", "department"), ("Family", "family"), ("weekdays", "weekday"), ("item", "item_id"), ("zzz", "category")],
)
def test_an_affinity_about_something_that_no_source_has_is_told_the_nearest(tmp_path, by, nearest):
    key, problem = only(tmp_path, LEVELS + TASTE.replace("department", by) + WAREHOUSE)
    assert (key, problem.code) == ("targets.taste.by", "bad_value")
    assert repr(by) in problem.message
    assert repr(nearest) in problem.remedy


def test_a_single_column_of_categories_is_called_category(tmp_path):
    one = EVENTS + 'category = "department"\n'
    key, problem = only(tmp_path, one + TASTE + WAREHOUSE)
    assert key == "targets.taste.by"
    assert "'category'" in problem.remedy
    assert load(write(tmp_path, one + TASTE.replace("department", "category") + WAREHOUSE)).targets["taste"].by == "category"


def test_the_level_may_be_of_another_source_and_one_that_is_broken_may_have_it(tmp_path):
    assert load(write(tmp_path, EVENTS + LEVELS + TASTE + WAREHOUSE)).targets["taste"].by == "department"
    assert set(found(tmp_path, EVENTS + LEVELS.replace("sold_at", 'sold_at"\nvalu = "x') + TASTE + WAREHOUSE)) == {"events[1].columns.valu"}


@pytest.mark.parametrize(
    ("line", "key", "code"),
    [
        ("top = 0", "top", "bad_value"),
        ("top = 2.5", "top", "bad_value"),
        ("top_new = -1", "top_new", "bad_value"),
        ("top_news = 1", "top_news", "unknown_key"),
        ("start = 'x'", "start", "unknown_key"),
    ],
)
def test_what_is_wrong_with_an_affinity_is_told_by_key(tmp_path, line, key, code):
    at, problem = only(tmp_path, LEVELS + TASTE + line + WAREHOUSE)
    assert (at, problem.code) == (f"targets.taste.{key}", code)
    assert problem.remedy


def test_by_belongs_to_an_affinity_alone(tmp_path):
    key, problem = only(tmp_path, LEVELS + TASTE.replace('"affinity"', '"conversion"') + WAREHOUSE)
    assert (key, problem.code) == ("targets.taste.by", "unknown_key")


def test_the_parameters_of_an_affinity_are_put_over_those_of_pairs(tmp_path):
    config = load(write(tmp_path, LEVELS + TARGET + TASTE + "lightgbm = { num_leaves = 9 }" + WAREHOUSE))
    by_name = {predictor.target.name: predictor.estimator for predictor in config.predictors()}
    assert by_name["stays_away"] is None
    assert {name: by_name["taste"].get_params()[name] for name in PAIR_DEFAULTS} == PAIR_DEFAULTS | {"num_leaves": 9}


# Lookups ------------------------------------------------------------------------------------------------------------

LOOKUP = """
[[lookups]]
path = "clients.csv"
key = { customer_id = "client" }
columns = ["tier"]
valid_from = "since"
"""


def test_a_lookup_has_a_place_a_key_facts_and_the_times_of_its_rows(tmp_path):
    as_table = LOOKUP.replace('["tier"]', "{ tier = 'Tier Code', member = { lit = 'yes' } }").replace("clients.csv", "c.csv")
    config = load(write(tmp_path, SMALLEST + LOOKUP + as_table.replace("tier =", "class =") + 'known_at = "loaded"\nname = "loyalty"'))
    clients, loyalty = config.lookups
    assert (clients.key, clients.columns, clients.valid_from, clients.known_at) == (
        {"customer_id": "client"},
        {"tier": "tier"},
        "since",
        None,
    )
    assert loyalty.columns == {"class": "Tier Code", "member": Constant("yes")}
    assert (clients.source_name, loyalty.source_name, loyalty.known_at) == ("clients.csv", "loyalty", "loaded")


@pytest.mark.parametrize("missing", ["key", "columns"])
def test_a_lookup_needs_a_key_and_facts(tmp_path, missing):
    lines = "\n".join(line for line in LOOKUP.splitlines() if not line.startswith(missing))
    key, problem = only(tmp_path, SMALLEST + lines)
    assert (key, problem.code) == (f"lookups[0].{missing}", "missing_key")


@pytest.mark.parametrize(
    ("before", "after", "key"),
    [
        ('{ customer_id = "client" }', "3", "key"),
        ('{ customer_id = "client" }', '{ customer_id = "a", item_id = "b" }', "key"),
        ('{ customer_id = "client" }', "{}", "key"),
        ('{ customer_id = "client" }', '{ custmer_id = "client" }', "key"),
        ('{ customer_id = "client" }', '"event_at"', "key"),
        ('{ customer_id = "client" }', '"tier"', "key"),
        ('["tier"]', "[]", "columns"),
        ('["tier"]', "{}", "columns"),
        ('["tier"]', '["Tier Code"]', "columns"),
        ('["tier"]', '["value"]', "columns"),
        ('["tier"]', '["until_us"]', "columns"),
        ('["tier"]', '["source"]', "columns"),
        ('"since"', "3", "valid_from"),
    ],
)
def test_what_is_wrong_with_a_lookup_is_told_by_key(tmp_path, before, after, key):
    at, problem = only(tmp_path, SMALLEST + LOOKUP.replace(before, after))
    assert (at, problem.code) == (f"lookups[0].{key}", "bad_value")
    assert problem.remedy


def test_a_fact_s_name_is_taken_by_a_dimension_a_category_or_another_lookup(tmp_path):
    events = EVENTS + 'dimensions = ["tier"]\ncategory = ["Group", "family"]\n'
    text = events + TARGET + WAREHOUSE + LOOKUP + LOOKUP.replace('"tier"', '"family", "band"') + LOOKUP.replace('"tier"', '"band"')
    problems = found(tmp_path, text)
    assert {key: problem.message for key, problem in problems.items()} == {
        "lookups[0].columns": "'tier' is a dimension of the log already",
        "lookups[1].columns": "'family' is a category level of the log",
        "lookups[2].columns": "'band' is a fact of lookups[1] already",
    }


def test_the_key_may_be_a_dimension_or_a_level_that_some_source_has(tmp_path):
    events = EVENTS + 'dimensions = { store = "shop" }\ncategory = ["Group", "family"]\n'
    text = (
        events
        + EVENTS
        + TARGET
        + WAREHOUSE
        + LOOKUP.replace("customer_id", "store")
        + LOOKUP.replace("customer_id", "group").replace('"tier"', '"band"')
    )
    assert [lookup.key for lookup in load(write(tmp_path, text)).lookups] == [{"store": "client"}, {"group": "client"}]


def test_a_broken_source_of_events_hides_no_problem_of_lookups_and_invents_none(tmp_path):
    text = SMALLEST.replace("sold_at", 'sold_at"\nvalu = "x') + LOOKUP.replace("customer_id", "store") + LOOKUP.replace('["tier"]', "[]")
    assert set(found(tmp_path, text)) == {"events[0].columns.valu", "lookups[1].columns"}


def test_lookups_in_single_brackets_are_explained(tmp_path):
    key, problem = only(tmp_path, SMALLEST + LOOKUP.replace("[[lookups]]", "[lookups]"))
    assert key == "lookups"
    assert "[[lookups]]" in problem.remedy


@pytest.mark.parametrize("places", ["", "table = 'a'\nquery = 'select 1'"])
def test_a_lookup_is_exactly_one_of_path_table_and_query(tmp_path, places):
    key, problem = only(tmp_path, SMALLEST + LOOKUP.replace('path = "clients.csv"', places) + "[source]\nurl = 'events.duckdb'")
    assert (key, problem.code) == ("lookups[0]", "contradiction")


def test_the_table_of_a_lookup_needs_a_database(tmp_path):
    key, problem = only(tmp_path, SMALLEST + LOOKUP.replace('path = "clients.csv"', "table = 'clients'"))
    assert (key, problem.code) == ("source.url", "missing_key")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{ customer_id = "client" }', '"${SECRET}"'),
        ('{ customer_id = "client" }', '{ "${SECRET}" = "client" }'),
        ('customer_id = "client"', 'customer_id = "${SECRET}", item_id = "x"'),
        ('["tier"]', '["${SECRET}"]'),
        ('["tier"]', '["tier", "${SECRET}"]\nname = 3'),
    ],
)
def test_what_a_lookup_took_from_the_environment_is_never_shown(tmp_path, monkeypatch, before, after):
    monkeypatch.setenv("SECRET", "hunter2-x")
    error = refused(tmp_path, SMALLEST + LOOKUP.replace(before, after))
    assert "hunter2" not in f"{error!s}{error!r}{error.problems!r}".lower()


def test_the_page_on_configuration_lists_the_keys_of_a_lookup():
    page = (Path(__file__).parents[1] / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
    lines = page.split("## `[[lookups]]`", 1)[1].split("```", 1)[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| `")]
    fields = sections.Lookup.model_fields.items()
    assert rows == [[f"`{key}`", "required" if field.is_required() else "–", field.description] for key, field in fields]


# The environment ----------------------------------------------------------------------------------------------------


def test_variables_are_taken_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SALES", "north")
    monkeypatch.setenv("CLIENT", "household")
    config = load(write(tmp_path, SMALLEST.replace("sales.csv", "${SALES}/x.csv").replace("client", "${CLIENT}")))
    assert config.events[0].events.path == "north/x.csv"
    assert config.events[0].columns.customer_id == "household"


def test_every_unset_variable_is_named_once(tmp_path, monkeypatch):
    monkeypatch.delenv("NO_SUCH_PATH", raising=False)
    monkeypatch.delenv("NO_SUCH_HORIZON", raising=False)
    text = SMALLEST.replace("sales.csv", "${NO_SUCH_PATH}").replace("28d", "${NO_SUCH_HORIZON}")
    problems = found(tmp_path, text)
    assert {key: problem.code for key, problem in problems.items()} == {
        "events[0].path": "missing_variable",
        "targets.stays_away.horizon": "missing_variable",
    }
    assert "NO_SUCH_PATH" in problems["events[0].path"].message


@pytest.mark.parametrize("broken", ["${}", "${MY-VAR}", "${OPEN", "a${ b }"])
def test_a_malformed_variable_is_refused(tmp_path, broken):
    _, problem = only(tmp_path, SMALLEST.replace('"warehouse.duckdb"', f'"{broken}"'))
    assert problem.code == "bad_variable"


@pytest.mark.parametrize(
    ("before", "section"),
    [
        ("28d", ""),
        ("sales.csv", ""),
        ("warehouse.duckdb", "[tracking]\nuri = '${SECRET}'"),
        ("stays_away", "[targets.b]\ntype='churn'\nevent='x'\nhorizon='7d'\nwhere='${SECRET}'"),
        ("stays_away", "[project]\ntimezone='${SECRET}'"),
        ("stays_away", "[targets.b]\ntype='${SECRET}'"),
        ("stays_away", "[source]\nengine='${SECRET}'"),
        ("stays_away", "[targets.b]\ntype='churn'\nevent='x'\nhorizon='7d'\nname='${SECRET}'"),
        ("stays_away", "[targets.b]\ntype='affinity'\nevent='x'\nhorizon='7d'\nby='${SECRET}'"),
    ],
)
def test_what_came_from_the_environment_is_never_shown(tmp_path, monkeypatch, before, section):
    monkeypatch.setenv("SECRET", "Hunter2(x)")
    text = SMALLEST + section if section else SMALLEST.replace(before, "${SECRET}")
    error = refused(tmp_path, text)
    assert "hunter2" not in f"{error!s}{error!r}{error.problems!r}".lower()
    assert "${SECRET}" in str(error)


def test_a_config_does_not_show_its_values(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    config = load(write(tmp_path, SMALLEST.replace("sales", "${SECRET}").replace("warehouse.duckdb", "${SECRET}")))
    assert config.path(config.warehouse.url).endswith("hunter2")
    assert "hunter2" not in repr(config)


# Paths and times ----------------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path) -> Config:
    return load(write(tmp_path, SMALLEST + '[project]\ntimezone = "America/New_York"'))


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("sales-*.parquet", "{folder}/sales-*.parquet"),
        ("/data/sales.csv", "/data/sales.csv"),
        ("s3://bucket/sales.parquet", "s3://bucket/sales.parquet"),
        ("sqlite:///mlflow.db", "sqlite:///{folder}/mlflow.db"),
        ("sqlite:////srv/mlflow.db", "sqlite:////srv/mlflow.db"),
        ("duckdb:///w.duckdb", "duckdb:///{folder}/w.duckdb"),
        ("https://mlflow.example.com", "https://mlflow.example.com"),
    ],
)
def test_relative_paths_start_at_the_folder_of_the_file(config, tmp_path, monkeypatch, text, there):
    monkeypatch.chdir("/")
    assert config.path(text) == there.format(folder=tmp_path)


def test_paths_hold_even_if_the_file_was_given_relative(tmp_path, monkeypatch):
    (tmp_path / "conf").mkdir()
    write(tmp_path / "conf", SMALLEST)
    monkeypatch.chdir(tmp_path)
    config = load("conf/persopredict.toml")
    monkeypatch.chdir("/")
    assert config.path("a.csv") == str(tmp_path / "conf" / "a.csv")


def test_a_date_is_midnight_in_the_projects_zone(config):
    assert config.instant("2017-12-03") == datetime(2017, 12, 3, 5, tzinfo=UTC)
    assert config.instant(None) is None
    with pytest.raises(SpecificationError, match="'soon' is not a date"):
        config.instant("soon")


# The log ------------------------------------------------------------------------------------------------------------


def sales(folder: Path) -> None:
    frame = pd.DataFrame({"client": [1, 2, 2], "sold_at": ["2024-01-01", "2024-01-02", "2024-02-01"]})
    frame.to_csv(folder / "sales.csv", index=False)
    frame.assign(action=["open", "click", "open"]).to_parquet(folder / "mail.parquet")


def test_the_sources_become_one_log(tmp_path):
    sales(tmp_path)
    mail = EVENTS.replace("sales.csv", "mail.parquet").replace('event = "purchase"', "max_lag = '1d'")
    text = SMALLEST + mail + "event = 'action'\nchannel = { lit = 'email' }\n"
    log = load(write(tmp_path, text)).event_log()
    assert {(source, event): rows for source, event, rows, *_ in log.catalog} == {
        ("sales.csv", "purchase"): 3,
        ("mail.parquet", "open"): 2,
        ("mail.parquet", "click"): 1,
    }
    assert "channel" in log.columns


def test_observed_is_read_in_the_projects_zone(tmp_path):
    sales(tmp_path)
    text = SMALLEST.replace("[events.columns]", "observed = [2024-01-01, '2024-03-01T00:00Z']\n[events.columns]")
    log = load(write(tmp_path, text + "[project]\ntimezone = 'Asia/Tokyo'")).event_log()
    assert log.observed == (datetime(2023, 12, 31, 15, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC))
    assert log.timezone == "Asia/Tokyo"


def test_a_table_is_read_from_the_source_database(tmp_path):
    import duckdb

    with duckdb.connect(str(tmp_path / "shop.duckdb")) as database:
        database.execute("CREATE TABLE sales AS SELECT 'a' AS client, TIMESTAMPTZ '2024-01-01 10:00Z' AS sold_at")
    base = SMALLEST + "[source]\nurl = 'shop.duckdb'"
    by_table = load(write(tmp_path, base.replace('path = "sales.csv"', "table = 'sales'"))).event_log()
    query = "query = 'SELECT * FROM sales UNION ALL SELECT * FROM sales'"
    by_query = load(write(tmp_path, base.replace('path = "sales.csv"', query))).event_log()
    assert [row[2] for row in by_table.catalog] == [1]
    assert [row[2] for row in by_query.catalog] == [2]


def test_lookups_join_the_log_from_files_tables_and_queries(tmp_path):
    import duckdb

    sales(tmp_path)
    pd.DataFrame({"client": [1, 2], "tier": ["gold", "silver"], "since": ["2024-01-01"] * 2}).to_csv(tmp_path / "clients.csv")
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as database:
        database.execute("CREATE TABLE homes AS SELECT 2 AS customer_id, 'north' AS region")
    table = "[[lookups]]\ntable = 'homes'\nkey = 'customer_id'\ncolumns = ['region']\n"
    query = "[[lookups]]\nquery = 'SELECT * FROM homes'\nkey = 'customer_id'\ncolumns = { home = 'region' }\nname = 'by_query'\n"
    text = SMALLEST + LOOKUP + table + query + "[source]\nurl = 'shop.duckdb'\n[project]\ntimezone = 'Asia/Tokyo'"
    log = load(write(tmp_path, text)).event_log()
    assert [(each.name, each.columns) for each in log.lookups] == [
        ("clients.csv", ("tier",)), ("homes", ("region",)), ("by_query", ("home",)),
    ]  # fmt: skip
    assert (log.values_of("tier", 5), log.values_of("region", 5), log.values_of("home", 5)) == (("silver", "gold"), ("north",), ("north",))
    assert log.values_of("tier", 5, datetime(2023, 12, 31, 14, 59, tzinfo=UTC)) == ()


# The starter --------------------------------------------------------------------------------------------------------


def test_the_starter_is_a_valid_configuration(tmp_path):
    config = load(write(tmp_path, starter_toml()))
    assert config.targets["churn_purchase_28d"] == Churn("purchase", "28d", name="churn_purchase_28d")
    assert config.targets["churn_purchase_28d"].active_within == Duration(days=91)


def test_everything_commented_out_in_the_starter_is_valid_too(tmp_path):
    text = re.sub(r"(?m)^# (?=[a-z_]+ = |\[)", "", starter_toml(mapping={"customer_id": "c", "event_at": "t"}))
    config = load(write(tmp_path, text))
    assert set(config.targets) == {"churn_purchase_28d", "conversion_purchase_7d"}
    assert config.job.keep == "365d"


def test_the_starter_shows_an_affinity_where_the_log_has_categories(tmp_path):
    assert "affinity_purchase_28d" not in starter_toml()
    text = re.sub(r"(?m)^# (?=[a-z_]+ = |\[)", "", starter_toml(mapping={"customer_id": "c", "event_at": "t", "category": "Group"}))
    assert load(write(tmp_path, text)).targets["affinity_purchase_28d"] == Affinity(
        "purchase", "28d", by="category", name="affinity_purchase_28d"
    )


def test_the_starter_survives_hostile_names(tmp_path):
    hostile = 'a"b\\c\nd\x7f ü [x] {y}'
    mapping = {"customer_id": hostile, "event_at": "t", "event": "e"}
    text = starter_toml("x.csv", mapping, unused=[hostile, "Store No"], event_names=[hostile], project="shop")
    config = load(write(tmp_path, text))
    assert config.events[0].columns.customer_id == hostile
    assert next(iter(config.targets.values())).event == hostile


def test_the_starter_proposes_the_likeliest_outcome():
    text = starter_toml(event_names=["page_view", "order_placed", "login"])
    assert list(tomllib.loads(text)["targets"]) == ["churn_order_placed_28d"]


def test_the_starter_proposes_a_cancellation_where_contracts_end(tmp_path):
    names = ["login", "subscribed", "subscription_cancelled"]
    config = load(write(tmp_path, starter_toml(mapping={"customer_id": "c", "event_at": "t", "event": "e"}, event_names=names)))
    name = "cancellation_subscription_cancelled_28d"
    assert config.targets == {name: Cancellation("subscription_cancelled", "28d", start="subscribed", name=name)}
    ended = starter_toml(mapping={"customer_id": "c", "event_at": "t", "event": "e"}, event_names=["visit", "unsubscribed"])
    assert list(tomllib.loads(ended)["targets"].values()) == [{"type": "cancellation", "event": "unsubscribed", "horizon": "28d"}]


def test_a_mapping_is_proposed_by_name_and_type():
    types = {
        "household_id": "VARCHAR", "basket_id": "VARCHAR", "product_id": "VARCHAR", "quantity": "DOUBLE",
        "sales_value": "DOUBLE", "week": "INTEGER", "transaction_timestamp": "TIMESTAMP", "department": "VARCHAR",
        "time": "BIGINT", "EventName": "VARCHAR",
    }  # fmt: skip
    assert propose_mapping(types) == {
        "customer_id": "household_id",
        "event_at": "transaction_timestamp",
        "event": "EventName",
        "order_id": "basket_id",
        "item_id": "product_id",
        "category": "department",
        "quantity": "quantity",
        "value": "sales_value",
    }


def test_nothing_is_proposed_for_columns_that_look_like_nothing():
    assert propose_mapping({"foo": "VARCHAR", "bar": "BIGINT"}) == {}
    assert propose_mapping({"applicant_id": "VARCHAR", "status": "VARCHAR", "event_type": "VARCHAR"})["event"] == "event_type"
    assert propose_mapping({"application": "VARCHAR", "status": "VARCHAR"}) == {"event": "status"}


@pytest.mark.parametrize("kind", ["", 'type = "chrun"\n', 'tpe = "churn"\n'])
def test_a_missing_or_unknown_type_hides_no_unknown_key(tmp_path, kind):
    problems = found(tmp_path, EVENTS + WAREHOUSE + f'[targets.leaves]\n{kind}event = "purchase"\nhorizn = "28d"\n')
    assert problems["targets.leaves.type"].code in ("missing_key", "bad_value")
    assert "horizon" in problems["targets.leaves.horizn"].remedy
