"""Charts show the values they were given, in every look and language, whatever the values are called; what can't be drawn is said."""

from __future__ import annotations

import functools
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from string import Formatter
from types import SimpleNamespace

import altair as alt
import nbformat
import numpy as np
import pytest
import vl_convert
from hypothesis import given, settings
from hypothesis import strategies as st

from persopredict import charts
from persopredict.charts import Driver, Effect, ShapeBin, Step, Words
from persopredict.charts.parts import rounded_up, square_ticks
from persopredict.curves import Curve, ReliabilityBin, reliability
from persopredict.errors import PersopredictError, SpecificationError
from persopredict.evaluation import evaluate
from persopredict.job_result import Outcome
from persopredict.ranking_evaluation import rank_evaluate
from persopredict.results import Evaluation
from persopredict.wording import Wording
from tests.folds import CUTOFFS, ranked, scored

LONG = "spent on " + "very " * 60 + "dear things"
HOSTILE = "</script><b>\"'`\\ ${x}\n{y} ]]> 🛒"
NAN = float("nan")


@pytest.fixture(scope="module")
def evaluation():
    return evaluate(scored(rule=0.5), target="churn_purchase_28d", resamples=50)


@pytest.fixture(scope="module")
def lists():
    return rank_evaluate([ranked(cutoff) for cutoff in CUTOFFS], target="affinity_family_14d", resamples=50)


def run(month, expected, actual, *, lower=None, upper=None):
    """What came of a run of that month."""
    bounds = expected - 40 if lower is None else lower, expected + 41 if upper is None else upper
    side = (actual > bounds[1]) - (actual < bounds[0])
    return SimpleNamespace(
        as_of=datetime(2017, month, 1, tzinfo=UTC), expected=expected, lower=bounds[0], upper=bounds[1], actual=actual, surprise=side
    )


RUNS = [run(9, 612.3, 622), run(10, 640.0, 618), run(11, 702.2, 790)]
DRIVERS = [Driver("days since the last purchase", 0.92, "down"), Driver("purchases", 0.41, "up"), Driver("weekday", 0.02)]
SHAPE = [ShapeBin("0 to 3 days", 0.9, 0.2), ShapeBin("4 to 90 days", -0.4, 0.7), ShapeBin("", -1.3, 0.1)]
EFFECTS = [Effect("last purchase 34 days ago; usually every 9", 0.8), Effect("3 purchases in 28 days", -0.3), Effect("new", 0.1)]

#: Every chart, of an evaluation and the values above.
DRAWN = {
    "gain": lambda found, words: charts.gain(found.pooled.curve, rivals={"best_rule": found.folds[0].curve}, words=words),
    "lift": lambda found, words: charts.lift(found.pooled.curve, words=words),
    "precision": lambda found, words: charts.precision(found.pooled.curve, of=10_000, words=words),
    "reliability": lambda found, words: charts.reliability(found.pooled.reliability, words=words),
    "scores": lambda found, words: charts.scores(charts.curve_bins(found.pooled.curve), words=words),
    "trend": lambda found, words: charts.trend(charts.steps(found.folds), words=words),
    "outcomes": lambda _, words: charts.outcomes(RUNS, words=words),
    "importance": lambda _, words: charts.importance({"recency": 3.0, "count": 1.0, "nothing": 0.0}, words=words),
    "drivers": lambda _, words: charts.drivers(DRIVERS, words=words),
    "shape": lambda _, words: charts.shape(SHAPE, name="days since the last purchase", words=words),
    "story": lambda _, words: charts.story(EFFECTS, start="8%", end="23%", words=words),
}


@functools.lru_cache(maxsize=64)
def rendered(spec):
    return vl_convert.vegalite_to_svg(spec)


def svg(chart):
    """The drawn chart; Vega draws what is no number as such, and says so nowhere else."""
    drawn = rendered(json.dumps(chart.to_dict()))
    assert "NaN" not in drawn
    assert "undefined" not in drawn
    return drawn


def texts(chart):
    """The texts in the drawn chart, as a person reads them."""
    from html import unescape

    # Labels that would lie on others are there, but not to be seen.
    return [unescape(text) for style, text in re.findall(r"<text([^>]*)>([^<]*)</text>", svg(chart)) if 'opacity="0"' not in style]


def rows(chart, **columns):
    """The rows of all layers that hold these columns."""
    held = [row for found in chart.to_dict()["datasets"].values() for row in found]
    return [row for row in held if all(name in row and value in (None, row[name]) for name, value in columns.items())]


def problem(draw):
    """The one problem of a chart that can't be drawn."""
    with pytest.raises(SpecificationError) as caught:
        draw()
    (found,) = caught.value.problems
    assert found.remedy
    return found.code


@pytest.mark.parametrize("language", ["en", "es"])
@pytest.mark.parametrize("name", DRAWN)
def test_every_chart_is_drawn_described_and_self_contained(name, language, evaluation):
    chart = DRAWN[name](evaluation, Words(language))
    spec = chart.to_dict()
    assert len(spec["description"]) > 40
    assert "{" not in spec["description"]
    stored = json.dumps({key: value for key, value in spec.items() if key != "$schema"}, allow_nan=False)
    assert "http" not in stored
    assert '"url"' not in stored
    drawn = texts(charts.dressed(chart, width=370))
    assert len(drawn) > 3
    assert not any("{" in text for text in drawn)
    assert DRAWN[name](evaluation, Words(language)).to_dict() == spec


@pytest.mark.parametrize("name", DRAWN)
def test_a_page_gives_the_colours_and_they_are_the_only_ones(name, evaluation):
    chart = DRAWN[name](evaluation, Words())
    looks = {look: charts.dressed(chart, look, width="container").to_dict() for look in ("light", "dark", "page")}
    assert looks["page"]["width"] == "container"
    stored = json.dumps(looks["page"])
    assert not re.findall(r"#[0-9a-fA-F]{3,8}\b|rgb", stored)
    used, declared = set(re.findall(r"var\((--[\w-]+)\)", stored)), set(re.findall(r"(--[\w-]+):", charts.css("dark")))
    assert used == declared == set(re.findall(r"(--[\w-]+):", charts.css("light")))
    bare = [{key: value for key, value in spec.items() if key not in ("config", "usermeta")} for spec in looks.values()]
    assert bare[0] == bare[1] == bare[2]
    assert chart.to_dict()["width"] == 560
    assert charts.COLORS["dark"]["surface"] in svg(charts.dressed(chart, "dark"))


def luminance(color):
    channels = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def contrast(one, other):
    """As WCAG 2 defines it."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("look", ["light", "dark"])
def test_colours_stand_out_from_what_is_below_them(look):
    of = charts.colors(look)
    for role in ("model", "rival", "rival-2", "rival-3"):
        assert contrast(of[role], of["surface"]) >= 3, role
    for role in ("ink", "muted"):
        assert contrast(of[role], of["surface"]) >= 4.5, role


@pytest.mark.parametrize("look", ["light", "dark"])
@pytest.mark.parametrize(
    "blindness",
    [
        # What is left of colours for the colour-blind: Machado, Oliveira and Fernandes (2009), severity 1.
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ],
    ids=["protan", "deutan", "tritan"],
)
def test_colours_that_stand_side_by_side_differ_for_the_colour_blind(look, blindness):
    seen = {
        role: np.array(blindness) @ [int(color[place : place + 2], 16) for place in (1, 3, 5)]
        for role, color in charts.colors(look).items()
    }
    for one, other in (("model", "rival"), ("model", "ink")):
        assert np.linalg.norm(seen[one] - seen[other]) > 60, (one, other)


def test_both_languages_have_the_same_texts_with_the_same_places():
    def places(text):
        return {name for _, name, _, _ in Formatter().parse(text) if name is not None}

    english, spanish = charts.TEXTS["en"], charts.TEXTS["es"]
    assert english.keys() == spanish.keys()
    for key in english:
        assert places(english[key]) == places(spanish[key]), key


def test_own_texts_take_the_place_of_ours_and_are_checked(evaluation):
    words = Words(texts={"gain.y": "share of all purchases"})
    assert "share of all purchases" in texts(charts.gain(evaluation.pooled.curve, words=words))
    with pytest.raises(SpecificationError) as caught:
        Words(texts={"gain.z": "x", "rate": "average {mean}", "more": "{"})
    assert [found.code for found in caught.value.problems] == ["unknown_text", "unknown_place", "unreadable_text"]
    with pytest.raises(PersopredictError, match="es-MX"):
        Words("klingon")


def test_numbers_are_written_as_the_language_writes_them(evaluation):
    english, mexican, spanish = (texts(charts.lift(evaluation.pooled.curve, words=Words(name))) for name in ("en", "es-MX", "es"))
    assert "3.3" in english
    assert "3.3" in mexican
    assert "3,3" in spanish
    assert "20\xa0%" in texts(DRAWN["gain"](evaluation, Words("es")))


def test_gain_holds_the_curve_and_every_rival(evaluation):
    curve, rival = evaluation.pooled.curve, evaluation.pooled.rivals["best_rule"]
    chart = charts.gain(curve, rivals={"best_rule": rival}, audience=0.25)
    ours, theirs = rows(chart, who="model"), rows(chart, who="best single rule")
    assert len(ours) == len(theirs) == 101
    assert ours[0]["gain"] == theirs[0]["gain"] == 0
    assert [row["gain"] for row in ours[1:]] == pytest.approx([found / curve.positives for found in curve.found], abs=1e-5)
    assert theirs[50]["gain"] == pytest.approx(rival.found[49] / rival.positives, abs=1e-5)
    said = f"25% contacted: {Words().percent(curve.found[24] / curve.positives)} reached"
    assert said in texts(chart)
    moved = chart.to_dict()
    (parameter,) = moved["params"]
    assert (parameter["name"], parameter["value"]) == (charts.AUDIENCE, 0.25)
    parameter["value"] = 0.5
    assert "50% contacted" in vl_convert.vegalite_to_svg(moved)
    assert not any("contacted:" in text for text in texts(charts.gain(curve, audience=None)))


def test_rivals_that_can_not_be_told_apart_are_left_out(evaluation):
    curve = evaluation.pooled.curve
    chart = charts.gain(curve, rivals={"none": Curve(), **{f"rule {place}": curve for place in range(5)}})
    assert {row["who"] for row in rows(chart, who=None)} == {"model", "rule 0", "rule 1", "rule 2"}


def test_lift_shows_what_came_beside_what_was_expected(evaluation):
    curve = evaluation.pooled.curve
    rate = curve.positives / curve.rows
    shown = rows(charts.lift(curve), lift=None)
    assert [row["decile"] for row in shown] == list(range(1, 11))
    assert [row["lift"] for row in shown] == pytest.approx([found.lift for found in curve.deciles])
    assert [row["expected"] for row in shown] == pytest.approx([found.expected / found.rows / rate for found in curve.deciles])


def test_precision_has_its_interval_and_sizes_of_whom_it_is_chosen_from(evaluation):
    curve = evaluation.pooled.curve
    chart = charts.precision(curve, of=10_000)
    (tenth,) = {json.dumps(row) for row in rows(chart, place=10, precision=None)}
    row = json.loads(tenth)
    assert (row["precision"], row["lower"], row["upper"]) == (pytest.approx(curve.precision[9]), curve.lower[9], curve.upper[9])
    assert (row["contacted"], row["size"]) == ("10%", "1,000")
    without = charts.precision(replace(curve, lower=(), upper=()))
    assert {row["interval"] for row in rows(without, precision=None)} == {"–"}
    assert "path" in svg(without)


@pytest.mark.parametrize(("scale", "p"), [("sqrt", [0.001, 0.002, 0.004, 0.01, 0.09]), ("linear", [0.3, 0.4, 0.5, 0.6, 0.7])])
def test_small_probabilities_get_room(scale, p):
    rng = np.random.default_rng(0)
    said = np.repeat(p, 2000)
    bins = reliability(rng.random(len(said)) < said, said, bins=5)
    chart = charts.reliability(bins).to_dict()
    used = {layer["encoding"]["x"]["scale"]["type"] for layer in chart["layer"] if "scale" in layer["encoding"]["x"]}
    assert used == {scale}
    histogram = charts.scores(charts.score_bins(said)).to_dict()
    assert histogram["layer"][0]["encoding"]["x"]["scale"]["type"] == scale
    assert ("square-root" in json.dumps(histogram)) == ("square-root" in json.dumps(chart)) == (scale == "sqrt")


def test_a_bin_whose_interval_misses_is_marked_by_colour_shape_and_word():
    right, wrong = ReliabilityBin(100, 0.2, 0.21, 0.14, 0.3), ReliabilityBin(100, 0.5, 0.2, 0.13, 0.29)
    chart = charts.reliability([right, wrong]).to_dict()
    points = {layer["mark"]["style"]: layer["mark"]["shape"] for layer in chart["layer"] if layer["mark"]["type"] == "point"}
    assert points == {"model-point": "circle", "outside-point": "diamond"}
    assert {row["verdict"] for found in chart["datasets"].values() for row in found if "verdict" in row} == {
        "within the interval", "outside the interval",
    }  # fmt: skip
    assert "in 1 of them" in chart["description"]


def test_the_trend_has_every_cutoff_its_interval_and_the_yardstick_where_it_is_near(evaluation):
    chart = DRAWN["trend"](evaluation, Words())
    assert [row["label"] for row in rows(chart, lower=None)] == ["2017-10-01", "2017-11-01", "2017-12-01"]
    assert {(row["value"], row["lower"]) for row in rows(chart, lower=None)} == {
        (fold.model.auc, fold.interval("auc")[0]) for fold in evaluation.folds
    }
    assert "by chance" not in texts(chart)
    assert "by chance" in texts(charts.trend([Step("a", 0.52, 0.45, 0.6), Step("b", 0.55, 0.5, 0.6)]))
    skill = charts.trend(charts.steps(evaluation.folds, "skill", baseline="best_rule"), measure="skill")
    assert "no gain" in texts(skill)


def test_of_runs_those_outside_of_their_interval_are_told_apart():
    chart = charts.outcomes(RUNS, when=lambda moment: f"night {moment.month}")
    assert [(row["label"], row["verdict"]) for row in rows(chart, verdict=None)] == [
        ("night 9", "came, as expected"), ("night 10", "came, as expected"), ("night 11", "came, outside the interval"),
    ]  # fmt: skip
    assert "702 expected, 790 came" in chart.to_dict()["description"]
    assert "came, outside the interval" in texts(chart)
    assert "came, outside the interval" not in texts(charts.outcomes(RUNS[:2]))


def test_drivers_are_ranked_and_say_where_more_of_them_leads():
    chart = charts.drivers([*DRIVERS[::-1], Driver("no effect", 0.0, "up"), Driver("no number", NAN)], most=2)
    assert [(row["title"], row["direction"]) for row in rows(chart, direction=None)] == [
        ("days since the last purchase", "more of it: less likely"), ("purchases", "more of it: likelier"),
    ]  # fmt: skip
    assert "depends on the value" not in texts(chart)


def test_importance_is_of_a_whole():
    shown = rows(charts.importance({"b": 1.0, "a": 1.0, "c": 2.0, "none": 0.0, "d": 4.0}, most=3), value=None)
    assert [(row["title"], row["value"], row["said"]) for row in shown] == [("d", 0.5, "50%"), ("c", 0.25, "25%"), ("a", 0.125, "12%")]


def test_a_shape_keeps_the_unknown_apart_and_says_how_many_they_are():
    chart = charts.shape(SHAPE, name="days since the last purchase")
    assert {"0 to 3 days · 20%", "unknown · 10%", "+0.90", "−1.30"} <= set(texts(chart))


@pytest.mark.parametrize("width", [300, 450, 560, 640, 900])
def test_the_legend_of_a_shape_is_not_cut_off(width):
    picture = vl_convert.vegalite_to_svg(charts.dressed(charts.shape(SHAPE, name="x"), width=width).to_dict())
    place = re.compile(r'<g[^>]*transform="translate\(([-\d.]+),([-\d.]+)\)"|<g\b|</g>|<text[^>]*>makes it')
    depths, found = [], []
    for tag in place.finditer(picture):
        if tag.group().startswith("<text"):
            found.append(sum(depths))
        elif tag.group() == "</g>":
            depths.pop()
        else:
            depths.append(float(tag.group(2) or 0))
    assert len(found) == 2
    assert min(found) > 0


def test_a_story_hands_the_score_on_and_sums_up_what_is_not_told():
    chart = charts.story([*EFFECTS, *(Effect(f"small {place}", 0.01) for place in range(7))], most=3, start="8%", end="23%")
    told = rows(chart, last=None)
    assert [row["title"] for row in told] == [*(effect.label for effect in EFFECTS), "everything else"]
    assert all(before["to"] == after["from"] for before, after in pairwise(told))
    assert told[-1]["to"] == pytest.approx(0.8 - 0.3 + 0.1 + 0.07)
    assert {"usual customer: 8%", "this customer: 23%", "−0.30", "+0.07"} <= set(texts(chart))


@pytest.mark.parametrize("name", [LONG, HOSTILE, "", 'a\\"'])
def test_names_of_any_kind_are_shown_as_they_are(name, evaluation):
    made = [
        charts.importance({name or "x": 1.0}),
        charts.drivers([Driver(name, 1.0, "up")]),
        charts.shape([ShapeBin(name, 1.0, 0.5), ShapeBin("", -1.0, 0.5)], name=name),
        charts.story([Effect(name, 1.0)], start=name, end=name),
        charts.trend([Step(name or "x", 0.5)], title=name),
        charts.gain(evaluation.pooled.curve, rivals={name or "x": evaluation.pooled.curve}),
        charts.titled(charts.lift(evaluation.pooled.curve), name),
        charts.outcomes([RUNS[0]], when=lambda _: name or "x"),
    ]
    for chart in made:
        drawn = svg(chart)
        assert "<b>" not in drawn
        assert "<script" not in drawn
    assert any(text.startswith(" ".join(name.split())[:8]) for text in texts(made[1]))
    assert max(len(text) for chart in made[:4] for text in texts(chart)) < 130


@pytest.mark.parametrize(
    "draw",
    [
        lambda: charts.gain(Curve()),
        lambda: charts.gain(Curve.of([0, 0], [0.1, 0.2])),
        lambda: charts.lift(Curve.of([0, 0], [0.1, 0.2])),
        lambda: charts.precision(Curve()),
        lambda: charts.reliability([]),
        lambda: charts.scores([]),
        lambda: charts.scores(charts.score_bins([NAN, NAN])),
        lambda: charts.trend([]),
        lambda: charts.trend([Step("2017-10-01", NAN)]),
        lambda: charts.outcomes([]),
        lambda: charts.importance({"a": 0.0}),
        lambda: charts.drivers([]),
        lambda: charts.shape([ShapeBin("", NAN, 1.0)], name="x"),
        lambda: charts.story([]),
    ],
)
def test_what_holds_nothing_is_not_drawn_but_said(draw):
    assert problem(draw) == "nothing_to_draw"


def test_what_holds_little_is_drawn():
    one = Curve.of([1], [0.3])
    for chart in (
        charts.gain(one),
        charts.lift(one),
        charts.precision(Curve.of([0, 0, 0], [0.1, 0.1, 0.1])),
        charts.precision(Curve.of([0, 0], [0.0, 0.0])),
        charts.scores(charts.score_bins([0.0])),
        charts.scores(charts.score_bins([1e-7, 1e-7])),
        charts.scores(charts.curve_bins(one)),
        charts.reliability(reliability([0], [0.2])),
        charts.reliability([ReliabilityBin(5, 0.0, 0.0, 0.0, 0.0)]),
        charts.trend([Step("only", 0.7)]),
        charts.trend([Step("a", 0.7, NAN, NAN), Step("b", NAN), Step("c", 0.7, 0.7, 0.7)], rivals={"base_rate": [Step("a", NAN)]}),
        charts.outcomes([run(9, 0.0, 0, lower=0, upper=0)]),
        charts.drivers([Driver("only", 1e-12, "up")]),
        charts.shape([ShapeBin("5", 0.0, 1.0)], name="x"),
        charts.story([Effect("nothing much", 0.0)]),
    ):
        svg(charts.dressed(chart, "dark", width=300))


def test_a_year_of_nights_is_drawn_without_labels_on_top_of_each_other():
    nights = [replace_month(place) for place in range(365)]
    drawn = texts(charts.dressed(charts.outcomes(nights, when=lambda moment: f"{moment:%Y-%m-%d}"), width=370))
    assert 2 <= sum(text.startswith("2017-") for text in drawn) <= 6


def replace_month(place):
    """The run of that day of the year."""
    found = run(1, 600.0, 610)
    found.as_of = datetime.fromtimestamp(datetime(2017, 1, 1, tzinfo=UTC).timestamp() + 86400 * place, UTC)
    return found


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1) | st.just(NAN), min_size=1, max_size=60))
def test_every_known_score_is_in_one_bin(p):
    bins = charts.score_bins(p)
    known = sum(not math.isnan(value) for value in p)
    assert sum(found.rows for found in bins) == known
    assert all(before.upper == after.lower for before, after in pairwise(bins))
    assert all(found.lower < found.upper for found in bins)


@given(st.floats(1e-5, 1))
def test_ticks_are_round_and_within_the_scale(top):
    ticks = square_ticks(top)
    assert ticks[0] == 0
    assert 2 <= len(ticks) <= 7
    assert ticks == sorted(set(ticks))
    assert ticks[-1] <= top <= rounded_up(top) * (1 + 1e-9)


@pytest.mark.parametrize("kind", ["gain", "lift", "precision", "reliability", "scores", "trend", "skill"])
def test_an_evaluation_draws_itself_also_when_it_was_stored(kind, evaluation):
    chart = evaluation.plot(kind)
    assert "churn_purchase_28d" in texts(chart)
    assert Evaluation.from_dict(json.loads(json.dumps(evaluation.to_dict()))).plot(kind).to_dict() == chart.to_dict()
    assert evaluation.plot(kind, wording=Wording("es")).to_dict()["description"] != chart.to_dict()["description"]


def test_the_gain_of_an_evaluation_shows_its_baselines_but_not_the_base_rate_which_is_chance(evaluation):
    assert {row["who"] for row in rows(evaluation.plot("gain"), who=None)} == {"model", "best single rule"}
    older = replace(evaluation, pooled=replace(evaluation.pooled, rivals={}))
    assert {row["who"] for row in rows(older.plot("gain"), who=None)} == {"model"}


@pytest.mark.parametrize("kind", ["trend", "lists", "categories"])
def test_an_evaluation_of_lists_draws_itself(kind, lists):
    assert any("affinity_family_14d" in text for text in texts(lists.plot(kind)))


def test_the_lists_of_the_model_stand_beside_those_of_its_best_baseline(lists):
    shown = rows(lists.plot("trend"), who=None, value=None)
    assert [row["value"] for row in shown if row["who"] != "model"] == [
        fold.baselines[lists.best_baseline].all.ndcg_at_10 for fold in lists.folds
    ]


def test_an_unknown_kind_is_answered_with_the_nearest(evaluation, lists):
    with pytest.raises(SpecificationError, match="did you mean 'gain'"):
        evaluation.plot("gains")
    with pytest.raises(SpecificationError, match="there are: 'trend', 'lists', 'categories'"):
        lists.plot("nonsense")


def test_a_job_draws_what_came_of_its_runs():
    outcome = Outcome("churn", "published", trend=tuple(RUNS))
    assert "churn" in texts(outcome.plot())
    assert problem(Outcome("churn", "published").plot) == "nothing_to_draw"


def test_a_notebook_shows_a_chart_without_network(evaluation):
    chart = evaluation.plot("lift").properties(title="mine")
    shown = chart._repr_mimebundle_()
    assert set(shown) == {f"application/vnd.vegalite.{alt.SCHEMA_VERSION[:2]}+json", "image/svg+xml", "text/plain"}
    nbformat.validate(nbformat.v4.new_output("display_data", shown), ref="display_data", version=4)
    assert "mine" in shown["image/svg+xml"]
    assert "http" not in shown["image/svg+xml"].replace("http://www.w3.org/", "")
    assert shown["text/plain"] == chart.description
    with alt.renderers.enable("json"):
        assert "application/json" in str(chart._repr_mimebundle_())


@pytest.mark.parametrize(("name", "starts"), [("x.png", b"\x89PNG"), ("x.svg", b"<svg"), ("x.json", b"{"), ("x.html", b"<!DOCTYPE html>")])
def test_a_chart_is_saved_without_network(name, starts, evaluation, tmp_path):
    evaluation.plot().save(tmp_path / name, **({"inline": True} if name.endswith("html") else {}))
    saved = (tmp_path / name).read_bytes()
    assert saved.startswith(starts)
    assert b"<script src" not in saved


def test_nothing_draws_until_it_is_asked_to():
    program = (
        "import sys, persopredict.results, persopredict.ranking_results, persopredict.job_result\n"
        "print([name for name in ('altair', 'vl_convert') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip() == "[]"
