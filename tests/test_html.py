"""What a notebook shows: escaped, in one style that names no colour, and as short as it can be."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from persopredict import html
from persopredict.errors import Problem
from persopredict.evaluation import evaluate
from persopredict.job_result import JobResult, Outcome
from persopredict.ranking_evaluation import rank_evaluate
from persopredict.usability_report import LookupFacts, UsabilityReport
from tests.folds import CUTOFFS, ranked, scored

HOSTILE = "<script>alert('x')</script>\"&"
REPORT = UsabilityReport(
    problems=(
        Problem("naive_times", "times carry no offset", "note", 3, "row 1", "set timezone", HOSTILE),
        Problem("null_customer_id", f"customer_id is {HOSTILE}", "error", 1200, HOSTILE, HOSTILE),
    ),
    rows=10, usable=7, customers=3, observed=(CUTOFFS[0], CUTOFFS[1]), events={HOSTILE: (7, 3)},
    lookups=(LookupFacts(HOSTILE, "customer_id", (HOSTILE,), 3, 3, 3),),
)  # fmt: skip


class Balanced(HTMLParser):
    """Raises where tags don't close what they opened; keeps the texts."""

    def __init__(self):
        super().__init__()
        self.open, self.texts, self.tags = [], [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1] != "style":
            self.texts.append(data)


def read(value):
    shown = value._repr_html_()
    parser = Balanced()
    parser.feed(shown)
    parser.close()
    assert parser.open == []
    assert shown.count("<style>") == 1
    return parser


def outcomes():
    evaluation = evaluate(scored(rule=0.5), target=HOSTILE, resamples=20)
    lists = rank_evaluate([ranked(cutoff) for cutoff in CUTOFFS], target="lists", resamples=20)
    published = Outcome(
        "churn", "published", evaluation=evaluation, model_version="3", trained_until=CUTOFFS[0], counts={"scored": 1234, "not_active": 5},
        notes=(HOSTILE,),
    )  # fmt: skip
    return published, replace(published, target="taste", evaluation=lists), Outcome("rare", "skipped", "too_few", HOSTILE)


def values():
    found = outcomes()
    evaluation = found[0].evaluation
    lists = found[1].evaluation
    job = JobResult(datetime(2017, 12, 1, tzinfo=UTC), found, REPORT, notes=(HOSTILE,))
    return {"report": REPORT, "evaluation": evaluation, "result": evaluation.pooled, "lists": lists, "outcome": found[0], "job": job}


VALUES = values()


@pytest.mark.parametrize("name", VALUES)
def test_what_is_shown_is_whole_escaped_and_in_one_style(name):
    parser = read(VALUES[name])
    assert "script" not in parser.tags
    assert parser.tags <= {"div", "style", "p", "b", "br", "table", "tr", "th", "td", "details", "summary", "span"}


def test_the_style_is_at_home_in_light_and_dark():
    style = html.block().partition("<style>")[2].partition("</style>")[0]
    assert set(re.findall(r"(?<![-\w])color:([^;}]+)", style)) == {"inherit"}
    assert not re.findall(r"#[0-9a-f]{3}|white\b|black\b", style.replace("white-space", ""))


def test_the_worst_problem_comes_first_with_what_to_do():
    texts = read(REPORT).texts
    assert texts.index("error null_customer_id") < texts.index("note naive_times")
    assert {"1,200", "set timezone", "not usable as it is"} <= {text.strip(". ") for text in texts}
    fine = UsabilityReport((), 1, 1, 1, None, {})
    assert {"usable", "no problems found"} <= set(read(fine).texts)


def test_a_job_shows_every_target_and_what_became_of_it():
    texts = read(VALUES["job"]).texts
    assert texts[: texts.index("taste")].count("churn") == 1
    assert {"published", "skipped too_few", "1,234", "3", "2017-10-01"} <= set(texts)
    assert texts[0] == "As of 2017-12-01 (UTC)"


def test_an_evaluation_shows_grade_baselines_cutoffs_and_deciles():
    texts = read(VALUES["evaluation"]).texts
    assert texts[0].endswith(": grade A")
    assert {"model", "best_rule", "base_rate", "2017-10-01", "by tenths of the customers, the likeliest first"} <= set(texts)


def test_a_long_name_is_cut_and_kept_whole_for_a_pointer():
    name = "n" * 300
    assert html.table(["name"], [[name]]).count(name) == 1
    assert f">{'n' * (html.LONGEST - 1)}…<" in html.table(["name"], [[name]])
    assert html.title(name, name).count(name) == 2


def test_a_table_refuses_rows_of_another_length():
    with pytest.raises(ValueError, match="zip"):
        html.table(["a", "b"], [["1", "2", "3"]])
