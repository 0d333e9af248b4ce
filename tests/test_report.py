"""The report: what it tells, of what it is made, and what it never holds. How it looks and behaves: `test_report_browser`."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import math
import re
import shutil
import string
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import get_args

import altair as alt
import pandas as pd
import pytest
from jsonschema import ValidationError
from typer.testing import CliRunner

from persopredict import charts
from persopredict.attributes import attributes
from persopredict.cli import app
from persopredict.curves import Audience
from persopredict.drivers import Direction
from persopredict.errors import DataError, Problem, SpecificationError
from persopredict.findings import Findings, Noted
from persopredict.registry import Registry
from persopredict.report import audiences, gather, moving, quality, rendered, texts, write
from persopredict.report.asked import Asked
from persopredict.report.page import page
from persopredict.report.reach import Promise, Reach, reaches
from persopredict.report.texts import Texts
from persopredict.targets import Affinity, Cancellation, Churn, Conversion
from persopredict.times import instant
from persopredict.usability import UsabilityReport
from persopredict.warehouse import Warehouse
from persopredict.warehouse_summaries import Spread, published_categories, spread
from persopredict.wording import Wording
from tests import made, reports
from tests.reports import EVENT, HOSTILE, PROJECT, TASTE, Html

LANGUAGES = ("en", "es")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Three nights of the shop: the folder, and the last result."""
    folder = tmp_path_factory.mktemp("shop")
    results = [reports.shop(folder, report=False if night != made.END else folder / "report.html").run(night) for night in made.NIGHTS]
    return folder, results[-1]


@pytest.fixture(scope="module")
def bazaar(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bazaar")
    return folder, reports.bazaar(folder).run(made.TASTE_NIGHTS[-1])


def data_of(folder: Path, kind=reports.shop, **settings):
    job = kind(folder)
    targets = [predictor.target for predictor in job.predictors]
    return gather(job.warehouse, job.tracking, targets, project=job.project, timezone="UTC", **settings)


@pytest.fixture(scope="module")
def data(shop):
    return data_of(shop[0])


@pytest.fixture(scope="module")
def html(shop):
    return (shop[0] / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def hostile(bazaar):
    return (bazaar[0] / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def spanish(data, bazaar):
    return [rendered(data, Wording("es-MX")), rendered(data_of(bazaar[0], reports.bazaar), Wording("es"))]


# Where it comes from ---------------------------------------------------------------------------------------------------------------------


def test_a_job_writes_its_report_and_says_where(shop):
    folder, result = shop
    assert result.report_path == folder / "report.html"
    assert f"Report: {folder / 'report.html'}" in str(result)
    assert not [path for path in folder.iterdir() if path.suffix == ".tmp"]


def test_by_default_the_report_lies_beside_the_warehouse(tmp_path):
    assert reports.shop(tmp_path, report=None).report_path == tmp_path / "report.html"
    assert reports.shop(tmp_path, report=False).report_path is None


def test_made_again_from_warehouse_and_model_store_alone_it_is_the_same_to_the_byte(shop, html):
    folder, _ = shop
    job = reports.shop(folder)
    job.events = replace_log(job.events)
    assert job.report(folder / "again" / "report.html").read_text(encoding="utf-8") == html


class replace_log:
    """A log that says its time zone and falls over whatever else it is asked."""

    def __init__(self, log) -> None:
        self.timezone, self.zone = log.timezone, log.zone


def test_an_earlier_run_can_be_reported_and_one_that_was_not_is_refused_with_those_that_were(shop, tmp_path):
    earlier = reports.shop(shop[0]).report(tmp_path / "earlier.html", made.NIGHTS[0])
    assert "Scores as of Sep 1, 2024" in earlier.read_text(encoding="utf-8")
    with pytest.raises(SpecificationError, match=r"there is no run at 2024-01-01T00:00:00\+00:00; in the ledger, newest last: 2024-09-01"):
        reports.shop(shop[0]).report(tmp_path / "none.html", "2024-01-01")


def test_without_a_published_run_there_is_no_report(tmp_path):
    with pytest.raises(DataError, match="no warehouse at"):
        reports.shop(tmp_path).report()


def test_a_report_that_cant_be_written_is_a_note_and_the_run_stays_published(shop, tmp_path):
    folder = Path(shutil.copytree(shop[0], tmp_path / "shop"))
    (folder / "taken").write_text("a file where a folder should be")
    job = reports.shop(folder, report=folder / "taken" / "report.html", tracking=f"sqlite:///{shop[0] / 'mlflow.db'}")
    result = job.score(made.END)
    assert (result.exit_code, result.published, result.report_path) == (4, True, None)
    assert re.search(
        r"Note: the report was not written: .*report\.html can't be written: .*Once that is mended: persopredict report", str(result)
    )


def test_an_unexpected_failure_is_a_note_too_and_tells_nothing_of_the_log(shop, monkeypatch, caplog):
    def fails(*arguments, **named):
        raise KeyError("c0000001 bought cheese")

    monkeypatch.setattr("persopredict.report.gather", fails)
    job = reports.shop(shop[0])
    result = job._reported(shop[1], Registry(job.tracking, job.project))
    assert "the report was not written: an unexpected KeyError" in result.notes[-1]
    assert "c0000001" not in str(result) + caplog.text


def test_what_stood_there_before_stays_if_the_new_one_cant_be_written(data, tmp_path, monkeypatch):
    file = tmp_path / "report.html"
    file.write_text("yesterday's")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(DataError, match="No space left on device"):
        write(file, data)
    assert file.read_text() == "yesterday's"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_without_the_model_store_the_report_says_so_and_leaves_no_empty_one(shop, tmp_path):
    job = reports.shop(shop[0])
    found = gather(job.warehouse, f"sqlite:///{tmp_path / 'mlflow.db'}", [made.CHURN])
    assert not (tmp_path / "mlflow.db").exists()
    assert found.targets[0].model.missing == f"there is no model store at {tmp_path / 'mlflow.db'}"
    text = Html.of(rendered(found)).text
    assert "The files of the model can't be read" in text
    assert "331 customers scored" in text


def test_scores_made_elsewhere_are_reported_as_far_as_they_are_known(tmp_path):
    warehouse = Warehouse(tmp_path / "warehouse.duckdb", timezone="UTC")
    scores = pd.DataFrame(
        {"customer_id": ["a", "b", "c"], "probability": [0.1, 0.9, None], "not_scored_reason": [None, None, "no_consent"]}
    )
    warehouse.publish(attributes(scores, "upsell", "2024-10-27"))
    found = gather(warehouse, f"sqlite:///{tmp_path / 'mlflow.db'}")
    (target,) = found.targets
    assert (target.model, target.evaluation, target.target, found.findings) == (None, None, None, None)
    text = Html.of(rendered(found)).text
    for words in ("upsell", "no model of ours stands behind them", "no consent", "2 customers scored", "No job kept what it found"):
        assert words in text


def test_a_target_that_was_skipped_says_why_what_to_do_and_which_scores_still_hold(shop, tmp_path):
    folder = Path(shutil.copytree(shop[0], tmp_path / "shop"))
    warehouse, night = Warehouse(folder / "warehouse.duckdb"), made.END + timedelta(days=1)
    problem = Problem("grade_too_low", "no model is good enough", count=3, example="c0000001", remedy="give it a longer log")
    skipped = [{"state": "skipped", "code": "grade_too_low", "reason": "as said"}]
    from persopredict.warehouse import Run

    report = UsabilityReport((), 10, 10, 3, None, {"purchase": (10, 3)})
    noted = Findings(night, report, {made.CHURN.name: Noted((), (problem,))})
    warehouse.publish([Run(made.CHURN.name, night, **one) for one in skipped], findings=noted)
    found = gather(warehouse, f"sqlite:///{shop[0] / 'mlflow.db'}", [made.CHURN])
    text = Html.of(rendered(found)).text
    for words in (
        "No model is good enough.",
        "Give it a longer log.",
        "Not published",
        "The scores of Oct 27, 2024 still stand",
        "until Nov 24, 2024",
    ):
        assert words in text
    spanish = Html.of(rendered(found, Wording("es")))
    assert "Ningún modelo de este objetivo es lo bastante bueno" in spanish.text
    assert [
        element.attributes["lang"]
        for element in spanish.all("p", "div")
        if "no model is good enough" in element.text.lower() and "lang" in element.attributes
    ] == ["en"]


# What it tells ---------------------------------------------------------------------------------------------------------------------------


def test_the_slider_says_what_the_evaluation_says_of_each_audience(shop, html):
    content = json.loads(Html.of(html).by_id("content").text)
    evaluation, say = shop[1].outcomes[0].evaluation, Texts(Wording())
    (choice,) = content["sliders"]["t1-slider"]["choices"]
    steps = choice["steps"]
    assert (len(steps), choice["of"]) == (100, "of 331 customers scored")
    for hundredth, (share, size, expected, precision, interval, lift, gain, note, said) in enumerate(steps, 1):
        audience = evaluation.audience(share=hundredth / 100, of=331)
        assert (share, size) == (f"{hundredth}%", f"{audience.size:,}")
        assert expected == say.rounded(audience.expected)
        assert precision == f"{audience.precision:.1%}"
        assert interval == say.between(audience.interval)
        assert (lift, gain) == (say.number(audience.lift, 1), f"{audience.gain:.0%}")
        assert all(text in said for text in (share, size, expected, precision, gain))
        lower, upper = (bound * audience.size for bound in audience.interval)
        came = say.rounded(audience.precision * audience.size)
        if lower <= audience.expected <= upper or came == expected:
            assert note == ""
        else:
            assert note.startswith("In the tests fewer came" if audience.expected > upper else "In the tests more came")
            assert note.endswith(f"count on {came} rather than {expected}.")


def test_where_the_tests_held_another_number_than_was_promised_the_slider_and_the_card_say_so(data):
    say, target = Texts(Wording()), data.targets[0]
    asked = Asked(say, target.target, target.name)
    promised = Audience(100, 1000, 70.0, 0.5, (0.4, 0.6), 2.0, 0.2)
    assert audiences.step(say, asked, promised, 10).note == (
        "In the tests fewer came than the probabilities promised: count on 50 rather than 70."
    )
    assert audiences.step(say, asked, replace(promised, expected=30.0), 10).note == (
        "In the tests more came than the probabilities promised: count on 50 rather than 30."
    )
    assert audiences.step(say, asked, replace(promised, expected=55.0), 10).note == ""
    assert audiences.step(say, asked, replace(promised, interval=(float("nan"), float("nan"))), 10).note == ""


def test_of_a_model_of_grade_c_is_said_so_before_whom_to_contact(data, html):
    sections = page(data).sections
    assert [notice.text for notice in sections[0].notices][-1] == page(data).cards[0].advice.text
    assert html.index("Don&#39;t build on it yet", html.index('<section class="target"')) < html.index('id="t1-audience"')
    good = replace(data, targets=(graded(data.targets[0], "B"),))
    assert not any("Don't build" in notice.text for notice in page(good).sections[0].notices)


def test_an_affinitys_slider_promises_what_the_published_probabilities_add_up_to(bazaar, hostile):
    outcome = next(each for each in bazaar[1].outcomes if each.target == TASTE.name)
    rows, read = outcome.attributes[outcome.attributes["category"].notna()], Html.of(hostile)
    names, scored = [option.text for option in read.all("option")], rows["customer_id"].nunique()
    held = outcome.evaluation.pooled.categories
    tests = dict(zip(held.category, zip(held.expected, held.actual, held.by_chance, strict=True), strict=True))
    choices = json.loads(read.by_id("content").text)["sliders"]["t2-slider"]["choices"]
    assert len(names) == len(choices) == rows["category"].nunique()
    for name, choice in zip(names, choices, strict=True):
        mine = rows[rows["category"] == name].sort_values("probability", ascending=False)
        average = (mine["probability"] / mine["affinity_index"]).mean()
        assert choice["of"].startswith(f"of {len(mine)} customer")
        for hundredth in (1, 10, 50, 100):
            share, size, expected, precision, _, lift, gain, _, said = choice["steps"][hundredth - 1]
            likeliest = mine["probability"].head(max(1, round(hundredth / 100 * len(mine))))
            assert (share, size) == (f"{hundredth}%", f"{len(likeliest)}")
            assert float(expected) == pytest.approx(likeliest.sum(), rel=0.01, abs=0.51 if likeliest.sum() > 9 else 0.06)
            assert float(precision.rstrip("%")) == pytest.approx(100 * likeliest.mean(), rel=0.02, abs=0.06)
            assert float(lift) == pytest.approx(likeliest.mean() / average, rel=0.02, abs=0.06)
            assert gain == "–" or float(gain.rstrip("%")) == pytest.approx(100 * likeliest.sum() / (average * scored), rel=0.02, abs=0.51)
            assert all(text in said for text in (share, size, expected, precision, lift))
        expected, actual, chance = tests[name]
        verdict = "no more apart than by chance" if abs(expected - actual) <= chance else "more;" if actual > expected else "fewer;"
        assert verdict in choice["about"]
        assert f"{actual} came" in choice["about"]
    # Everybody is asked for each of so few categories, so that shares of all are known.
    assert any(choice["steps"][9][6] != "–" for choice in choices)


def test_the_reach_of_a_category_is_counted_in_classes_and_misses_nothing():
    reach = Reach("bread", 0.1, Spread((0.05, 0.2, 0.6), (50, 30, 20)))
    assert reach.customers == 100
    assert reach.promise(0.2, 1000) == Promise(20, pytest.approx(12.0), pytest.approx(0.6), pytest.approx(6.0), pytest.approx(0.12))
    assert reach.promise(1.0).expected == pytest.approx(50 * 0.05 + 30 * 0.2 + 20 * 0.6)
    assert reach.promise(0.001).size == 1
    assert math.isnan(reach.promise(0.5).gain)
    unknown = replace(reach, average=float("nan")).promise(0.5, 1000)
    assert math.isnan(unknown.lift)
    assert math.isnan(unknown.gain)
    assert [reach.promise(share / 100).expected for share in range(1, 101)] == sorted(
        reach.promise(share / 100).expected for share in range(1, 101)
    )


def test_categories_that_nobody_published_have_no_reach(bazaar):
    warehouse = Warehouse(bazaar[0] / "warehouse.duckdb")
    assert reaches(warehouse, TASTE.name, made.TASTE_NIGHTS[-1], []) == ()
    found = reaches(warehouse, TASTE.name, made.TASTE_NIGHTS[-1], ["nothing of the kind", HOSTILE[0]])
    assert [reach.category for reach in found] == [HOSTILE[0]]


def test_values_that_read_the_same_are_one_bar_of_a_drivers_shape():
    bins = [charts.ShapeBin("0%", -0.2, 0.1), charts.ShapeBin("0%", -0.4, 0.3), charts.ShapeBin("1%", 0.5, 0.6)]
    first, second = moving.joined(bins)
    assert (first.label, first.effect, first.share) == ("0%", pytest.approx(-0.35), pytest.approx(0.4))
    assert second == bins[2]


def test_probabilities_that_chance_does_not_excuse_are_said_to_be_off(data):
    target = data.targets[0]
    pooled = target.evaluation.pooled
    for ece, word in ((0.2, "more than the"), (0.01, "chance alone makes up to")):
        model = replace(pooled.model, ece=ece, ece_chance_p95=0.05)
        evaluation = replace(target.evaluation, pooled=replace(pooled, model=model))
        reliability = quality.parts(Texts(Wording()), evaluation, "t1")[1]
        assert word in reliability.lead


def test_a_card_says_in_one_sentence_what_to_do_with_a_target(shop, data):
    cards = page(data).cards
    assert (
        cards[0].advice.text
        == "Don't build on it yet: the rhythm of purchases (BG/NBD) does as well. A longer log or other features may change that."
    )
    assert cards[2].badge.text == "Not published"
    assert cards[2].advice.text == "6 of 5,381 labelled snapshots are with the outcome, 25 are the least to validate."
    good = replace(data, targets=(graded(data.targets[0], "B"),))
    audience = data.targets[0].evaluation.audience(share=0.1, of=331)
    wanted = f"Contact the likeliest 10%: of 33, expect {audience.expected:.0f} to stay away, {audience.lift:.1f} times the average."
    # The tests held more than the probabilities promised.
    assert audience.expected < audience.interval[0] * audience.size
    came = f"count on {audience.precision * audience.size:.0f} rather than {audience.expected:.0f}."
    assert page(good).cards[0].advice.text == f"{wanted} In the tests more came than the probabilities promised: {came}"


def graded(target, grade):
    """The same target with a better grade."""
    target.model.predictor.evaluation_ = replace(target.model.predictor.evaluation_, grade=grade)
    return replace(target, grade=grade)


@pytest.fixture(autouse=True)
def grades_as_they_were(request):
    """What a test does to the evaluations is undone."""
    if "data" not in request.fixturenames:
        yield
        return
    predictors = [target.model.predictor for target in request.getfixturevalue("data").targets if target.model]
    before = [predictor.evaluation_ for predictor in predictors]
    yield
    for predictor, evaluation in zip(predictors, before, strict=True):
        predictor.evaluation_ = evaluation


@pytest.mark.parametrize(
    ("target", "title", "question"),
    [
        (
            Churn("purchase", "28d"),
            "28 days without purchases",
            "Which of the customers with purchases in the last 91 days will have none in the next 28 days?",
        ),
        (
            Conversion("coupon_redemption", "36h", active_within="91d"),
            "Coupon redemptions within 36 hours",
            "Which of the customers who did anything in the last 91 days will have coupon redemptions in the next 36 hours?",
        ),
        (
            Cancellation("cancellation", "30d", start="subscription"),
            "Cancellations within 30 days",
            "Which of the running contracts will end by cancellations in the next 30 days?",
        ),
        (
            Affinity(("opened", "clicked"), "1d", by="hour", active_within=None),
            "Hours of the day: what comes next within 1 day",
            "Which hours of the day will appear in the “opened” events or “clicked” events of each customer in the next day? "
            "Asked of all customers.",
        ),
    ],
)
def test_a_target_is_told_in_words(target, title, question):
    from persopredict.report.asked import Asked

    asked = Asked(Texts(Wording()), target, target.name)
    assert (asked.title, asked.question) == (title, question)


def test_conditions_gap_and_once_belong_to_the_question():
    from persopredict.report.asked import Asked

    target = Conversion("signup", "7d", once=True, gap="1d", where="channel = 'web'", cohort="event = 'visit'")
    told = Asked(Texts(Wording()), target, target.name).conditions
    assert told == (
        "Only events with channel = 'web' count.",
        "Asked only of customers who satisfy event = 'visit'.",
        "Counted from 1 day after the date of the scores.",
        "Those who have had it already are not asked.",
    )


def test_the_users_names_of_events_are_taken():
    from persopredict.report.asked import Asked

    asked = Asked(Texts(Wording("es", names={"purchase": "compra"})), Churn("purchase", "28d"), "churn")
    assert "compra" in asked.title


def test_everything_a_section_promises_is_there(html, hostile):
    headings = {
        "t1": ("Whom to contact", "How good it is", "Are the probabilities right?", "Does it hold over time?", "What moves the scores",
               "This run", "What came of earlier scores", "Model and lineage"),
        "t3": ("Not published",),
        "data": ("Findings", "Events"),
    }  # fmt: skip
    read = Html.of(html)
    for id, expected in headings.items():
        found = [element.text for element in read.all("h3") if element.attributes.get("id", "").startswith(f"{id}-")]
        assert tuple(found) == expected
    lists = [element.text for element in Html.of(hostile).all("h3") if element.attributes.get("id", "").startswith("t2-")]
    assert lists[:2] == ["Which categories stand in most lists", "Whom to contact for a category"]


def test_the_run_tells_who_has_a_score_and_why_others_have_none(shop, html):
    counts = shop[1].outcomes[0].counts
    assert set(counts) == {"scored", "not_active"}
    text = Html.of(html).text
    assert f"scored{counts['scored']}" in re.sub(r"\s", "", text)
    assert "not active lately: not asked" in text


def test_what_came_of_earlier_scores_is_told_and_a_surprise_is_a_warning(shop, data, html):
    trend = shop[1].outcomes[0].trend
    assert [run.surprise for run in trend] == [0, 1]
    assert data.targets[0].trend == trend
    text = Html.of(html).text
    assert f"More came than the scores of Sep 29, 2024 promised: {trend[-1].actual} for {trend[-1].expected:.0f}" in text
    assert page(data).cards[0].warnings == ("Look first: the last finished run came out otherwise than expected.",)
    assert page(data).cards[1].warnings == ()


def test_where_no_run_has_ended_the_report_says_when_the_first_comparison_comes(bazaar, hostile):
    assert "The first comparison can be made from Jul 13, 2024 on." in Html.of(hostile).text


def test_the_lineage_names_version_data_and_rows(shop, html):
    job = reports.shop(shop[0])
    registry, outcome = Registry(job.tracking, job.project), shop[1].outcomes[0]
    version = registry.version(made.CHURN.name, int(outcome.model_version))
    model = registry.load(made.CHURN.name, version.version)
    text = Html.of(html).text
    facts = (
        version.tags["fingerprint"],
        version.run_id,
        model.recipe_,
        f"{model.rows_:,}, {model.positives_:,} of them",
        outcome.attributes["run_id"].iloc[0],
    )
    for fact in (*facts, "lightgbm 4", "duckdb 2"):
        assert fact in text


def test_the_check_of_the_log_is_told_with_remedies(shop, html):
    report = shop[1].report
    text = Html.of(html).text
    assert f"{report.usable:,}" in text
    assert len(report.problems) > 0
    for problem in report.problems:
        assert problem.message.rstrip(".")[1:] in text
        assert problem.remedy.rstrip(".")[1:] in text
    for name, (rows, _) in report.events.items():
        assert f"{name}{rows:,}" in re.sub(r"\s", "", text)


def test_an_affinity_tells_of_lists_of_takers_and_of_what_is_published_most(bazaar, hostile):
    outcome = next(each for each in bazaar[1].outcomes if each.target == TASTE.name)
    rows = outcome.attributes[outcome.attributes["category"].notna()]
    found, count = published_categories(Warehouse(bazaar[0] / "warehouse.duckdb"), TASTE.name, made.TASTE_NIGHTS[-1], 20)
    assert count == rows["category"].nunique()
    by_category = rows.groupby("category")
    for one in found:
        mine = by_category.get_group(one.category)
        assert (one.customers, one.first, one.new) == (len(mine), (mine["rank"] == 1).sum(), mine["is_new"].sum())
        assert one.expected == pytest.approx(mine["probability"].sum())
    assert [one.customers for one in found] == sorted((one.customers for one in found), reverse=True)
    pooled, text = outcome.evaluation.pooled, Html.of(hostile).text
    for value in (pooled.model.all.ndcg_at_10, pooled.model.explore.ndcg_at_10, pooled.baselines["popularity"].all.recall_at_10):
        assert f"{value:.3f}" in text


def test_the_spread_of_scores_is_that_of_the_attributes(shop):
    warehouse = Warehouse(shop[0] / "warehouse.duckdb")
    found, said = spread(warehouse, made.CHURN.name, made.END), shop[1].outcomes[0].attributes["probability"].dropna()
    assert found.total == len(said)
    assert sum(p * n for p, n in zip(found.probabilities, found.counts, strict=True)) == pytest.approx(said.sum(), rel=0.002)
    assert list(found.probabilities) == sorted(found.probabilities)
    assert spread(warehouse, "nobody", made.END).total == 0


def test_a_run_in_which_nobody_is_scored_is_told(tmp_path):
    warehouse = Warehouse(tmp_path / "warehouse.duckdb", timezone="UTC")
    scores = pd.DataFrame({"customer_id": ["a"], "probability": [None], "not_scored_reason": ["not_active"]})
    warehouse.publish(attributes(scores, "churn", "2024-10-27"))
    assert "Nobody is scored in this run." in Html.of(rendered(gather(warehouse, f"sqlite:///{tmp_path / 'mlflow.db'}", [made.CHURN]))).text


# What it is made of ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["html", "hostile", "spanish 0", "spanish 1"], scope="module")
def any_page(request):
    name, _, place = request.param.partition(" ")
    found = request.getfixturevalue(name)
    return found[int(place)] if place else found


def test_it_names_no_customer(any_page, shop, bazaar):
    ids = {
        id
        for folder in (shop, bazaar)
        for id in Warehouse(folder[0] / "warehouse.duckdb").sql("SELECT customer_id FROM customer_attributes")["customer_id"]
    }
    assert len(ids) >= 500
    assert not [id for id in ids if id in any_page]


def test_it_is_one_page_that_loads_nothing(any_page):
    read = Html.of(any_page)
    addresses = [
        element.attributes[name] for element in read.elements for name in ("src", "href", "action", "srcset") if name in element.attributes
    ]
    assert addresses
    assert all(address.startswith(("#", "data:,")) for address in addresses)
    assert not re.search(r"url\(|@import", "".join(element.text for element in read.all("style")))
    assert len(any_page.encode()) < 3_000_000


def test_its_policy_allows_its_own_scripts_and_no_request(any_page):
    read = Html.of(any_page)
    (policy,) = [
        element.attributes["content"] for element in read.all("meta") if element.attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    digests = re.findall(r"'sha256-([^']+)'", policy)
    scripts = [element.text for element in read.all("script") if "type" not in element.attributes]
    assert [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts] == digests
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "unsafe-inline" not in policy.split("style-src")[0]


def test_names_from_the_log_are_text_wherever_they_stand(hostile):
    read = Html.of(hostile)
    assert len(read.all("script")) == 3
    assert not read.all("svg", "img", "b", "iframe")
    assert not [element for element in read.elements if any(name.startswith("on") for name in element.attributes)]
    assert read.all("title")[0].text == f"{PROJECT}: who will do what next, Jun 29, 2024"
    assert read.all("h1")[0].text == PROJECT
    shown = " ".join(element.text for element in read.all("th", "td"))
    for name in (*HOSTILE, EVENT):
        assert name in shown
    specs = json.loads(read.by_id("content").text)["charts"]
    assert HOSTILE[0] in json.dumps(specs, ensure_ascii=False)


def test_it_can_be_read_by_ear_and_keyboard(any_page):
    read = Html.of(any_page)
    ids = [element.attributes["id"] for element in read.elements if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    levels = [int(element.tag[1]) for element in read.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))
    for element in read.elements:
        for name in ("aria-labelledby", "for"):
            assert set(element.attributes.get(name, "").split()) <= set(ids)
        if element.attributes.get("href", "").startswith("#"):
            assert element.attributes["href"][1:] in ids
    assert [len(read.all(tag)) for tag in ("main", "nav", "footer")] == [1, 1, 1]
    assert read.all("a")[0].attributes["href"] == "#main"
    for slider in read.all("input"):
        assert slider.attributes["type"] == "range"
        assert slider.attributes["aria-valuetext"]


@pytest.mark.parametrize("name", ["html", "hostile"])
def test_every_chart_satisfies_the_schema_of_vega_lite(name, request):
    """The page's charts are written without being validated, which would take half of the time: they are valid all the same."""
    content = json.loads(Html.of(request.getfixturevalue(name)).by_id("content").text)
    for spec in content["charts"].values():
        alt.LayerChart.from_dict({**spec, "config": content["theme"]}, validate=True)
    with pytest.raises(ValidationError):
        alt.LayerChart.from_dict({**spec, "layer": [{"mark": "no such mark"}]}, validate=True)


def test_every_chart_has_a_sentence_and_its_values_as_a_table(any_page):
    read = Html.of(any_page)
    charts = json.loads(read.by_id("content").text)["charts"]
    drawn = [element for element in read.elements if element.attributes.get("class") == "chart"]
    assert {element.attributes["id"] for element in drawn} == set(charts)
    assert all(element.attributes["role"] == "img" and len(element.attributes["aria-label"]) > 30 for element in drawn)
    figures = read.all("figure")
    tables = [element for element in read.all("table") if "figure" in element.within]
    assert len(figures) == len(tables) == len(charts) > 5
    assert all(table.text.strip() for table in tables)
    assert all(element.attributes.get("scope") for element in read.all("th"))


# Languages -------------------------------------------------------------------------------------------------------------------------------


def places(text) -> set[str]:
    forms = text.values() if isinstance(text, dict) else [text]
    return {name for form in forms for _, name, _, _ in string.Formatter().parse(form) if name}


def test_the_languages_have_the_same_texts_with_the_same_places():
    english, spanish = (
        {key: text for key, text in texts.table(language).items() if not key.startswith("problem.")} for language in LANGUAGES
    )
    assert english.keys() == spanish.keys()
    for key, text in english.items():
        assert places(text) == places(spanish[key]), key
        assert isinstance(text, dict) == isinstance(spanish[key], dict), key


def test_no_text_is_there_in_vain():
    folder = Path(texts.__file__).parent
    sources = "".join(path.read_text(encoding="utf-8") for path in (*folder.glob("*.py"), *folder.glob("templates/*")))
    # Of these families the rest of the key is a value: a grade, a state, a reason, a baseline, a kind of target or model, a length of time.
    by_value = {"affinity", "baseline", "duration", "grade", "kind", "reason", "state"}
    for key in texts.table("en"):
        family, _, name = key.partition(".")
        stem = name.removesuffix("_text").removesuffix("_title")
        if family == "drivers" and name in get_args(Direction):
            continue
        assert family in by_value or key in sources or re.search(rf"\b{stem}(_word)?\b", sources), key


def test_every_reason_for_no_score_and_every_problem_of_a_log_has_spanish_words():
    from persopredict.attributes import NOT_SCORED_REASONS
    from persopredict.sources import UNUSABLE
    from persopredict.usability import UNUSABLE_FACTS
    from tests.test_docs import codes_in

    spanish = texts.table("es")
    assert {f"reason.{reason}" for reason in NOT_SCORED_REASONS} <= spanish.keys()
    codes = {
        *UNUSABLE,
        *UNUSABLE_FACTS,
        *codes_in("usability", "forward", "promotion", "suspicion", "aftermath", "affinity.training"),
        "stale_source",
        "in_sample",
    }
    lacking = {code for code in codes if f"problem.{code}.message" not in spanish or f"problem.{code}.remedy" not in spanish}
    assert lacking <= {"shapes_differ"}


def test_a_spanish_page_is_spanish(spanish, html):
    english = {
        text
        for key, text in texts.table("en").items()
        if isinstance(text, str) and "{" not in text and texts.table("es")[key] != text and len(text) > 8
    }
    for text in spanish:
        read = Html.of(text)
        body = read.text
        for element in read.elements:  # What the library itself says is English, and marked as such.
            body = body.replace(element.text, "") if element.attributes.get("lang") == "en" else body
        assert not [words for words in english if words in body and words in Html.of(html).text]
    read = Html.of(spanish[0])
    assert read.all("html")[0].attributes["lang"] == "es-MX"
    assert Html.of(spanish[1]).all("html")[0].attributes["lang"] == "es"
    assert "27 oct 2024" in read.text
    assert "18,759" in read.text
    marked = [element.text for element in read.elements if element.attributes.get("lang") == "en"]
    assert any("is the new champion" in text for text in marked)


def test_numbers_are_those_of_the_region(data):
    written = [Texts(Wording(language)).percent(0.0831) for language in ("en", "es", "es-MX")]
    assert written == ["8.3%", "8,3\u00a0%", "8.3%"]
    assert "18.759" in Html.of(rendered(data, Wording("es"))).text


# What a job keeps for it -----------------------------------------------------------------------------------------------------------------


def test_what_a_job_found_is_kept_without_examples_and_replaced_by_its_rerun(tmp_path):
    warehouse, night = Warehouse(tmp_path / "warehouse.duckdb", timezone="UTC"), instant("2024-10-27")
    rows = attributes(pd.DataFrame({"customer_id": ["a"], "probability": [0.5]}), "churn", night)
    problem = Problem("null_event", "the event's name is null", "warning", 2, "c0000001", "name the event", "events")
    for count in (3, 4):
        report = UsabilityReport((problem,), 10, 8, count, (night - timedelta(days=3), night), {"visit": (8, 3)})
        warehouse.publish(rows, findings=Findings(night, report, {"churn": Noted(("a note",), (problem,))}))
    found = warehouse.findings(night)
    assert (found.report.customers, found.report.events, found.report.observed) == (
        4,
        {"visit": (8, 3)},
        (night - timedelta(days=3), night),
    )
    assert found.report.problems == found.targets["churn"].problems == (replace(problem, example=""),)
    assert found.targets["churn"].notes == ("a note",)
    assert "c0000001" not in warehouse.sql("SELECT problems || targets AS kept FROM jobs")["kept"].iloc[0]
    assert warehouse.findings(night - timedelta(days=1)) is None


def test_what_a_job_found_is_forgotten_with_its_runs(tmp_path):
    warehouse, start = Warehouse(tmp_path / "warehouse.duckdb", timezone="UTC"), instant("2024-10-27")
    for day in range(4):
        night = start + timedelta(days=day)
        rows = attributes(pd.DataFrame({"customer_id": ["a"], "probability": [0.5]}), "churn", night)
        warehouse.publish(rows, keep="1d", findings=Findings(night, UsabilityReport((), day, day, 1, None, {})))
    assert warehouse.sql("SELECT rows FROM jobs ORDER BY as_of")["rows"].to_list() == [2, 3]


# From the command line -------------------------------------------------------------------------------------------------------------------


CONFIG = """
[project]
name = "shop"
[[events]]
path = "events.parquet"
[events.columns]
event_id = "event_id"
[targets.churn_purchase_28d]
type = "churn"
event = "purchase"
horizon = "28d"
lightgbm = { n_estimators = 5, num_leaves = 4 }
[job]
min_grade = "C"
[report]
language = "es"
path = "told/today.html"
[report.names]
purchase = "compra"
[warehouse]
url = "warehouse.duckdb"
"""


def test_the_command_writes_the_report_without_the_events(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("persopredict.toml").write_text(CONFIG, encoding="utf-8")
    made.frame().write_parquet("events.parquet")
    ran = CliRunner().invoke(app, ["run", "--as-of", "2024-10-27"], catch_exceptions=False)
    assert ran.exit_code == 0
    assert "Report: " in ran.stdout
    first = Path("told/today.html").read_text(encoding="utf-8")
    assert "28 días sin «compra»" in first
    Path("events.parquet").unlink()
    again = CliRunner().invoke(app, ["report"], catch_exceptions=False)
    assert (again.exit_code, again.stdout) == (0, f"Wrote {tmp_path / 'told' / 'today.html'}\n")
    assert Path("told/today.html").read_text(encoding="utf-8") == first
    other = CliRunner().invoke(
        app, ["report", "--language", "en-GB", "--output", "english.html", "--as-of", "2024-10-27"], catch_exceptions=False
    )
    assert (other.exit_code, other.stdout) == (0, "Wrote english.html\n")
    assert '<html lang="en-GB">' in Path("english.html").read_text(encoding="utf-8")
    for arguments, words in ((["--as-of", "2024-01-01"], "there is no run at"), (["--language", "fr"], "no language 'fr'")):
        failed = CliRunner().invoke(app, ["report", *arguments], catch_exceptions=False)
        assert failed.exit_code == 2
        assert words in failed.stderr
