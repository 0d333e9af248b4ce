"""Explanations: they add up, they are what was published, shap's plots take them, and printed they are a story."""

from __future__ import annotations

import re

import altair as alt
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import shap
from sklearn.ensemble import HistGradientBoostingClassifier

from persopredict import Affinity, Cancellation, Conversion, Lookup, Predictor, Wording, default_features, kinds, snapshots
from persopredict.draws import hashes, lowest
from persopredict.errors import NotFittedError, SpecificationError
from persopredict.events import EventLog
from persopredict.model import DRAWN
from persopredict.spine import Members
from persopredict.story import Explanation
from persopredict.story_text import Teller
from persopredict.targets import Churn
from tests import made

mpl.use("Agg")
UNTIL, NOW = made.NIGHTS[1], made.END
TASTED = made.TASTE_NIGHTS[2]


@pytest.fixture(scope="module")
def events():
    return made.events()


@pytest.fixture(scope="module")
def churn(events):
    """Trees over all default features."""
    return Predictor(made.CHURN, estimator=made.learner()).fit(events, UNTIL)


@pytest.fixture(scope="module")
def everybody(churn, events):
    return churn.explain(events, as_of=NOW, sample=None)


@pytest.fixture(scope="module")
def scores(churn, events):
    return churn.predict(events, NOW).to_pandas().set_index("customer_id")


@pytest.fixture(scope="module")
def shop():
    return made.taste_events()


@pytest.fixture(scope="module")
def taste(shop):
    return made.taste_predictor().fit(shop, made.TASTE_NIGHTS[1])


@pytest.fixture(scope="module")
def drawn_to(taste, shop):
    return taste.predict(shop, TASTED).to_pandas()


def one_of(everybody):
    return everybody.customer_id[3]


def said(reasons):
    return [(reason["label"], reason["value_text"], reason["direction"]) for reason in reasons]


# What it says ----------------------------------------------------------------------------------------------------------------------------


def test_contributions_and_base_add_up_to_the_raw_score_of_everybody(churn, everybody):
    raw = churn.scorer_.logits(everybody.data)
    np.testing.assert_allclose(everybody.values.sum(axis=1) + everybody.base_values, raw, atol=1e-5)
    np.testing.assert_array_equal(churn.calibrator_.apply(raw), everybody.probability)


def test_everybody_who_is_scored_is_explained_with_the_published_probability_and_reasons(everybody, scores):
    scored = scores[scores["status"] == "scored"]
    assert everybody.customer_id.tolist() == scored.index.tolist()
    np.testing.assert_array_equal(everybody.probability, scored["probability"])
    assert everybody.reasons == [list(reasons) for reasons in scored["reasons"]]
    assert all(reasons for reasons in everybody.reasons)


def test_one_customer_alone_is_told_what_they_are_told_among_all(churn, events, everybody):
    for row in (0, 3, len(everybody) - 1):
        alone, among = churn.explain(events, everybody.customer_id[row], NOW), everybody[row]
        np.testing.assert_array_equal(alone.data, among.data)
        np.testing.assert_allclose(alone.values, among.values, atol=1e-5)
        assert alone.probability == among.probability
        assert [(each["label"], each["direction"]) for each in alone.reasons] == [
            (each["label"], each["direction"]) for each in among.reasons
        ]


def test_of_few_customers_the_log_says_exactly_what_it_says_of_them_among_all(events):
    tiers = Lookup(
        pd.DataFrame({"customer_id": [f"c{n:07d}" for n in range(0, 500, 2)], "tier": "gold", "since": "2024-06-01"}),
        key="customer_id", columns=["tier"], valid_from="since",
    )  # fmt: skip
    for log in (events, events.join(tiers)):
        features = default_features(log)
        whole = snapshots(log, [NOW], features, [made.CHURN]).to_arrow()
        ids = whole.column("customer_id").to_pylist()
        some = [ids[0], ids[7], ids[-1]]
        few = snapshots(log, None, features, [made.CHURN], spine=Members(some, NOW)).to_arrow()
        assert few.equals(whole.take([0, 7, len(ids) - 1]).combine_chunks())


def test_it_compares_with_the_rate_of_the_tests(churn, everybody):
    assert set(everybody.usual) == {churn.evaluation_.pooled.rate}
    assert isinstance(everybody[0].usual, float)


def test_of_many_as_many_as_asked_for_are_drawn_by_md5_of_their_ids(churn, events, everybody):
    ids = everybody.customer_id
    for sample in (5, 40):
        some = churn.explain(events, as_of=NOW, sample=sample)
        expected = lowest(hashes(ids, DRAWN), sample)
        assert some.customer_id.tolist() == ids[expected].tolist()
        np.testing.assert_array_equal(some.data, everybody.data[expected])
        np.testing.assert_array_equal(some.probability, everybody.probability[expected])


def test_a_loaded_predictor_tells_the_same_story(churn, events, everybody, tmp_path):
    again = Predictor.load(churn.save(tmp_path))
    assert str(again.explain(events, one_of(everybody), NOW)) == str(churn.explain(events, one_of(everybody), NOW))


def test_the_moment_is_the_end_of_what_was_observed(churn, events, everybody):
    assert churn.explain(events, one_of(everybody)).as_of == NOW
    assert churn.explain(events, one_of(everybody), "2024-10-06").as_of < NOW


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_every_kind_of_model_tells_why(kind, monkeypatch, events):
    monkeypatch.setattr(kinds, "best", lambda losses, competing=(): kind)
    fitted = Predictor(made.CHURN, features=made.FEATURES).fit(events, UNTIL)
    assert fitted.scorer_.kind == kind
    many = fitted.explain(events, as_of=NOW, sample=50)
    np.testing.assert_allclose(many.values.sum(axis=1) + many.base_values, fitted.scorer_.logits(many.data), atol=1e-5)
    one = many[0]
    assert one.probability == fitted.probability(one.data[None])[0]
    shap.plots.waterfall(one, show=False)
    closed()
    if kind == "base_rate":
        assert one.reasons == []
        assert one.to_frame().empty
        assert "nothing sets this customer apart" in str(one)
        assert "nothing sets this customer apart" in one._repr_html_()
        with pytest.raises(SpecificationError, match="nothing moves the scores"):
            many.plot()
    else:
        assert one.reasons
        assert {reason["feature"] for reason in one.reasons} <= set(fitted.model_.inputs)
        assert "log-odds" in str(one)


# What it refuses -------------------------------------------------------------------------------------------------------------------------


def test_who_is_not_asked_has_no_story_but_a_reason(churn, events, scores):
    unscored = scores.index[scores["not_scored_reason"] == "not_active"][0]
    for who, why in (("nobody", "no_history"), (unscored, "not_active")):
        with pytest.raises(SpecificationError, match=f"not asked for churn_purchase_28d at 2024-10-27: {why}") as caught:
            churn.explain(events, who, NOW)
        assert who not in str(caught.value)


def test_where_nobody_is_asked_that_is_said(churn, events):
    with pytest.raises(SpecificationError, match="nobody is asked for churn_purchase_28d at 2023-01-01"):
        churn.explain(events, as_of="2023-01-01")


def test_a_customer_s_target_has_no_categories(churn, events, everybody):
    with pytest.raises(SpecificationError, match="asked once for each customer: leave category out"):
        churn.explain(events, one_of(everybody), NOW, category="dairy")


def test_an_estimator_that_can_t_tell_says_so_before_anything_is_read(events, monkeypatch):
    fitted = Predictor(made.CHURN, features=made.FEATURES, estimator=HistGradientBoostingClassifier(max_iter=3)).fit(events, UNTIL)
    monkeypatch.setattr("persopredict.customer_task.snapshots", None)
    with pytest.raises(SpecificationError, match="HistGradientBoostingClassifier, not LightGBM: it has no reasons"):
        fitted.explain(events)


def test_before_a_fit_there_is_nothing_to_explain(events):
    with pytest.raises(NotFittedError):
        made.predictor(made.CHURN).explain(events)


# Pairs -----------------------------------------------------------------------------------------------------------------------------------


def test_a_customer_s_published_categories_are_explained_as_they_are_published(taste, shop, drawn_to):
    who = drawn_to.loc[drawn_to["status"] == "scored", "customer_id"].iloc[0]
    mine = drawn_to[drawn_to["customer_id"] == who]
    found = taste.explain(shop, who, TASTED)
    assert set(found.customer_id) == {who}
    assert found.category.tolist() == mine["category"].tolist()
    np.testing.assert_array_equal(found.probability, mine["probability"])
    assert [said(reasons) for reasons in found.reasons] == [said(reasons) for reasons in mine["reasons"]]
    np.testing.assert_allclose(found.values.sum(axis=1) + found.base_values, taste.scorer_.logits(found.data), atol=1e-5)


def test_one_pair_is_explained_whether_it_is_published_or_not(taste, shop, drawn_to):
    who = drawn_to.loc[drawn_to["status"] == "scored", "customer_id"].iloc[0]
    published = drawn_to.loc[drawn_to["customer_id"] == who].set_index("category")["probability"]
    others = sorted({*taste.evaluation_.categories().index} - {*published.index})
    pair = taste.explain(shop, who, TASTED, category=published.index[1])
    assert (pair.shape, pair.category, pair.customer_id) == ((len(taste.model_.inputs),), published.index[1], who)
    assert pair.probability == published.iloc[1]
    assert f"Customer {who} and {published.index[1]}" in str(pair)
    other = taste.explain(shop, who, TASTED, category=others[0])
    assert other.probability <= published.max()
    with pytest.raises(SpecificationError, match="nobody had taken family 'chese'"):
        taste.explain(shop, who, TASTED, category="chese")
    with pytest.raises(SpecificationError, match="not asked for affinity_family_14d at 2024-06-29: no_history"):
        taste.explain(shop, "nobody", TASTED)


def test_events_and_categories_are_called_as_the_wording_calls_them(taste, shop, drawn_to):
    first = drawn_to[drawn_to["status"] == "scored"].iloc[0]
    wording = Wording("es", names={"purchase": "compra", first["category"]: "queso"})
    told = str(taste.explain(shop, first["customer_id"], TASTED, category=first["category"], wording=wording))
    assert f"Cliente {first['customer_id']} y queso, a " in told
    assert "Se predice: «compra» de queso en 14 días." in told
    assert first["category"] not in told
    assert "purchase" not in told


def test_hours_and_weekdays_are_told_as_such():
    for by, category, said in (("hour", "18", "purchase of 6:00\N{NO-BREAK SPACE}PM"), ("weekday", "6", "purchase of Saturday")):
        target = Affinity("purchase", "28d", by=by)
        assert Teller(target, NOW, "UTC", Wording()).outcome(category) == f"{said} within 28 days"


def test_a_pair_is_compared_with_its_own_category(taste, shop):
    tested = taste.evaluation_.categories()
    found = taste.explain(shop, as_of=TASTED, sample=20)
    np.testing.assert_allclose(found.usual, (tested["actual"] / tested["asked"]).loc[found.category.tolist()])
    assert len(set(found.usual)) > 3


def test_many_pairs_are_explained_of_a_sample_of_customers(taste, shop):
    found = taste.explain(shop, as_of=TASTED, sample=20)
    assert len(set(found.customer_id)) == 20
    assert len(found) > 20
    assert str(found).startswith(f"{len(found)} pairs of customers and categories, as of Jun 29, 2024")
    frame = found.to_frame()
    assert list(frame)[:3] == ["customer_id", "category", "feature"]
    assert len(frame) == found.values.size
    shap.plots.beeswarm(found, show=False)
    closed()


# A shap.Explanation ----------------------------------------------------------------------------------------------------------------------


def closed():
    """The figures that were drawn, closed."""
    import matplotlib.pyplot as plt

    figures = [plt.figure(number) for number in plt.get_fignums()]
    texts = [text.get_text() for figure in figures for axes in figure.axes for text in axes.get_yticklabels() + axes.texts]
    plt.close("all")
    assert figures
    return texts


@pytest.mark.parametrize("plot", ["waterfall", "force", "bar"])
def test_shap_plots_one_customer_in_words(plot, everybody):
    one = everybody[3]
    settings = {
        "force": {"matplotlib": True, "contribution_threshold": 0.0},
        "waterfall": {"max_display": 200},
        "bar": {"max_display": 200},
    }
    getattr(shap.plots, plot)(one, show=False, **settings[plot])
    said = "\n".join(closed())
    strongest = one.to_frame().iloc[0]
    assert strongest["label"] in said
    assert one.display_data[one.feature_names.index(strongest["label"])] in said


@pytest.mark.parametrize("plot", ["beeswarm", "bar", "heatmap", "violin"])
def test_shap_plots_many_customers(plot, everybody):
    getattr(shap.plots, plot)(everybody, show=False)
    title = max(zip(np.abs(everybody.values).mean(axis=0), everybody.feature_names, strict=True))[1]
    assert title in closed()


def test_shap_scatters_a_feature_by_its_title_or_name(everybody):
    name = "recency_all"
    for column in (name, everybody._told.titles[[f.name for f in everybody._told.asked.features].index(name)]):
        shap.plots.scatter(everybody[:, column], color=everybody, show=False)
        closed()
    assert everybody[:, name].shape == (len(everybody),)


def test_force_draws_many_customers_and_one_for_a_notebook(everybody):
    for found in (everybody[3], everybody[:20]):
        assert "<div" in shap.plots.force(found).html()


def test_a_part_of_it_is_still_a_story(everybody):
    some, one = everybody[2:5], everybody[2:5][1]
    assert (len(everybody), len(some)) == (len(everybody.customer_id), 3)
    assert isinstance(some, Explanation)
    assert some.customer_id.tolist() == everybody.customer_id[2:5].tolist()
    assert one.customer_id == everybody.customer_id[3]
    assert (one.probability, one.reasons) == (everybody.probability[3], everybody.reasons[3])
    np.testing.assert_array_equal(one.values, everybody.values[3])
    np.testing.assert_array_equal(everybody[everybody.customer_id[3]].values, one.values)
    picked = everybody[[4, 1]]
    assert picked.customer_id.tolist() == everybody.customer_id[[4, 1]].tolist()
    assert picked.reasons == [everybody.reasons[4], everybody.reasons[1]]
    likely = everybody[everybody.probability > 0.5]
    assert (likely.probability > 0.5).all()
    assert len(likely) == (everybody.probability > 0.5).sum()
    with pytest.raises(KeyError, match="no such customer"):
        everybody["nobody"]
    few = everybody[:, :2]
    assert few.to_frame()["feature"].tolist()[:2] == [feature.name for feature in everybody._told.asked.features[:2]]


def test_what_shap_computes_is_shap_s_own(everybody):
    for computed in (everybody.abs, everybody.abs.mean(0), everybody + 1, everybody.percentile(50, 0), everybody[:, 0].percentile(20)):
        assert type(computed) is shap.Explanation
    ranked = everybody[:, everybody.abs.mean(0).argsort.flip]
    assert isinstance(ranked, Explanation)
    assert np.all(np.diff(np.abs(ranked.values).mean(axis=0)) <= 1e-12)
    assert {type(cohort) for cohort in everybody.cohorts(2).cohorts.values()} == {Explanation}
    assert len(everybody.sample(10)) == 10


def test_customers_and_features_are_found_by_lists_of_names(everybody):
    who = everybody.customer_id[[5, 2]].tolist()
    found = everybody[who][:, ["tenure_all", "recency_all"]]
    assert found.customer_id.tolist() == who
    names = [feature.name for feature in everybody._told.asked.features]
    expected = everybody.values[np.ix_([5, 2], [names.index("tenure_all"), names.index("recency_all")])]
    np.testing.assert_array_equal(found.values, expected)
    np.testing.assert_array_equal(everybody[np.array(who)].values, everybody.values[[5, 2]])
    # Also among those that are seen alone, and where one stands twice.
    assert everybody[:, "recency_all"][who[0]].values == everybody.values[5, names.index("recency_all")]
    np.testing.assert_array_equal(everybody[:, [0, 0, 3]][:, names[3]].values, everybody.values[:, 3])


def test_what_it_has_not_is_named_with_what_is_near(everybody):
    with pytest.raises(KeyError, match="no feature 'recency_al'; did you mean 'recency_all'"):
        everybody[:, "recency_al"]
    with pytest.raises(KeyError, match="no feature 'zzz'; feature_names has all of them"):
        everybody[0]["zzz"]
    with pytest.raises(KeyError, match="no such customer"):
        everybody[["nobody"]]


@pytest.mark.parametrize(
    ("language", "nobody", "alone"), [("en", "Nobody is among them.", "1 customer,"), ("es", "No hay nadie entre ellos.", "1 cliente,")]
)
def test_nobody_and_one_are_told_too(language, nobody, alone, churn, events):
    some = churn.explain(events, as_of=NOW, sample=3, wording=Wording(language))
    none, one = some[some.probability > 2], some[:1]
    assert nobody in str(none)
    assert nobody in none._repr_html_()
    assert repr(none).endswith(": 0 customers, 0 features)")
    assert (len(none.to_frame()), none.reasons, len(none.probability)) == (0, [], 0)
    with pytest.raises(SpecificationError, match="nothing moves the scores"):
        none.plot()
    assert str(one).startswith(alone)
    assert Wording(language).percent(one.probability[0]) in str(one)
    assert repr(one).endswith(": 1 customer, 95 features)")


def test_every_title_is_there_once(everybody):
    assert len(set(everybody.feature_names)) == len(everybody.feature_names) == everybody.shape[1]


def test_features_of_one_title_are_told_apart_by_their_names(churn, events):
    wording = Wording(labels={"recency_all": "Seen", "tenure_all": "Seen"})
    found = churn.explain(events, as_of=NOW, sample=3, wording=wording)
    assert {"Seen (recency_all)", "Seen (tenure_all)"} <= set(found.feature_names)


# How it is shown -------------------------------------------------------------------------------------------------------------------------


def test_one_customer_s_frame_has_every_feature_strongest_first(churn, everybody):
    frame = everybody[3].to_frame()
    assert list(frame) == ["feature", "label", "value", "contribution"]
    assert set(frame["feature"]) == set(churn.model_.inputs)
    assert frame["contribution"].abs().is_monotonic_decreasing
    score = frame.attrs["base"] + frame["contribution"].sum()
    assert churn.calibrator_.apply([score])[0] == pytest.approx(everybody[3].probability, abs=1e-6)


def test_the_story_says_who_how_likely_against_what_and_why(everybody):
    one = everybody[3]
    text = str(one)
    percent = Wording().percent
    head = f"Customer {one.customer_id}, as of Oct 27, 2024\n{percent(one.probability)} likely, where {percent(one.usual)} is usual: "
    assert text.startswith(head + "no purchase within 28 days.\n")
    for reason in one.reasons:
        assert re.search(rf"^  [+−]\d+\.\d\d  {re.escape(reason['label'])}$", text, re.MULTILINE)
    told = [float(number.replace("−", "-")) for number in re.findall(r"^  ([+−]\d+\.\d\d)  ", text, re.MULTILINE)]
    assert sum(told) == pytest.approx(one.values.sum(), abs=0.005 * len(told) + 0.005)


def test_the_sides_are_told_apart(everybody):
    for one in everybody[:20]:
        text = str(one)
        for heading, direction in (("What makes it likelier", "for"), ("What makes it less likely", "against")):
            said = [reason["label"] for reason in one.reasons if reason["direction"] == direction]
            block = text.partition(f"{heading}\n")[2].partition("\n\n")[0]
            assert [line[2:].split("  ", 1)[1] for line in block.splitlines()] == said


def test_it_says_what_calibration_does_to_the_score(events):
    fitted = Predictor(made.CHURN, features=made.FEATURES, estimator=made.learner(), calibration="platt").fit(events, UNTIL)
    one = fitted.explain(events, as_of=NOW, sample=1)[0]
    raw = 1 / (1 + np.exp(-one.values.sum() - one.base_values))
    assert raw != pytest.approx(one.probability, abs=1e-4)
    assert str(one).endswith(f"That is {Wording().percent(raw)}, and {Wording().percent(one.probability)} once calibrated by past tests.")
    plain = Predictor(made.CHURN, features=made.FEATURES, estimator=made.learner(), calibration="none").fit(events, UNTIL)
    assert str(plain.explain(events, as_of=NOW, sample=1)[0]).endswith("past tests call for no calibration.")


def test_it_is_told_in_spanish(churn, events, everybody):
    found = churn.explain(events, one_of(everybody), NOW, wording=Wording("es-MX"))
    assert str(found).startswith(f"Cliente {one_of(everybody)}, a 27 oct 2024\nProbabilidad: ")
    assert "sin «purchase» en 28 días" in str(found)
    assert "likel" not in str(found)
    assert churn.explain(events, as_of=NOW, sample=5, wording=Wording("es")).plot().to_dict()


@pytest.mark.parametrize(
    ("target", "english", "spanish"),
    [
        (Churn("purchase", "28d", where="channel = 'web'"), "no purchase with channel = 'web' within 28 days", None),
        (Conversion(("sign_up", "trial"), "1d"), "sign up or trial within 1 day", "«sign up» o «trial» en 1 día"),
        (
            Conversion("visit", "36h", gap="1h"),
            "visit within 36 hours, counted from 1 hour on",
            "«visit» en 36 horas, a contar desde 1 hora después",
        ),
        (Cancellation("cancel", "30d"), "the contract ends by cancel within 30 days", "fin del contrato por «cancel» en 30 días"),
        (Affinity("purchase", "28d", by="channel"), "purchase of a category within 28 days", "«purchase» de una categoría en 28 días"),
    ],
    ids=str,
)
def test_the_outcome_is_told_of_every_target(target, english, spanish):
    assert Teller(target, NOW, "UTC", Wording()).outcome() == english
    assert Teller(target, NOW, "UTC", Wording("es")).outcome() == (spanish or "sin «purchase» con channel = 'web' en 28 días")


def test_both_languages_say_the_same_things():
    from persopredict import story_text

    places = [{key: set(re.findall(r"{(\w+)}", text)) for key, text in texts.items()} for texts in story_text._TEXTS.values()]
    assert places[0] == places[1]


def test_of_many_customers_nobody_is_named(everybody, taste, shop):
    for found in (everybody, taste.explain(shop, as_of=TASTED, sample=20)):
        for text in (repr(found), str(found), found._repr_html_()):
            assert not any(str(who) in text for who in found.customer_id)
    assert (
        repr(everybody) == f"Explanation(churn_purchase_28d as of Oct 27, 2024: {len(everybody)} customers, {everybody.shape[1]} features)"
    )


def test_a_notebook_shows_the_reasons_and_folds_the_rest(everybody):
    one = everybody[3]
    page = one._repr_html_()
    assert one.customer_id in page
    assert page.count("<details>") == 1
    for reason in one.reasons:
        assert reason["label"] in page
    assert repr(one) == f"Explanation(churn_purchase_28d as of Oct 27, 2024: customer {one.customer_id}, {one.probability:.1%})"


def test_texts_from_the_data_are_escaped(churn, events, everybody):
    wording = Wording(labels={"recency_all": "<b>seen</b>"})
    page = churn.explain(events, one_of(everybody), NOW, wording=wording)._repr_html_()
    assert "<b>seen</b>" not in page
    assert "&lt;b&gt;seen&lt;/b&gt;" in page


def test_a_plot_begins_where_the_base_value_is_and_ends_at_the_probability(churn, everybody):
    one = everybody[3]
    start = churn.calibrator_.apply([one.base_values])[0]
    told = [str(row.get("short")) for layer in one.plot().to_dict()["datasets"].values() for row in layer]
    assert f"usual customer: {Wording().percent(start)}" in told
    assert f"this customer: {Wording().percent(one.probability)}" in told


def test_plots_return_figures(everybody, taste, shop):
    for found in (everybody[3], everybody, taste.explain(shop, as_of=TASTED, sample=5)):
        assert isinstance(found.plot(), alt.TopLevelMixin)
    told = [str(row) for layer in everybody[3].plot().to_dict()["datasets"].values() for row in layer]
    assert all(any(reason["label"] in row for row in told) for reason in everybody[3].reasons)


def test_what_one_customer_s_explanation_shows_is_theirs_alone(everybody):
    one = everybody[3]
    shown = str(one) + repr(one) + one._repr_html_() + one.to_frame().to_string()
    assert not any(who in shown for who in everybody.customer_id if who != one.customer_id)


def test_ids_of_any_kind_are_found(churn):
    frame = made.frame().to_pandas()
    frame["customer_id"] = frame["customer_id"].str[1:].astype(int)
    log = EventLog(frame, observed=(made.log().start, NOW))
    many = churn.explain(log, as_of=NOW, sample=2)
    assert churn.explain(log, int(many.customer_id[0]), NOW).customer_id == many.customer_id[0]
