"""Champion and challenger: who serves, decided on cutoffs that neither has learned from (law 5), and only if its grade allows it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from persopredict.comparison import Paired, decide
from persopredict.errors import PersopredictError, Problem, SpecificationError, TooLittleDataError
from persopredict.events import EventLog
from persopredict.predictor import Predictor
from persopredict.registry import EXPERIMENT, ModelVersion, Registry
from persopredict.results import Grade
from persopredict.targets import Target, target_from_dict
from persopredict.times import local

#: From best to least.
GRADES: tuple[Grade, ...] = ("A", "B", "C")
#: The code of a target for which nothing serves but models of a lower grade.
GRADE_TOO_LOW = "grade_too_low"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the challenger takes over, why, and the paired difference in the target's measure (challenger minus champion), None where
    nothing could be compared.
    """

    promoted: bool
    reason: str
    paired: Paired | None = None


def judge(champion: Predictor | None, challenger: Predictor, events: EventLog) -> Verdict:
    """Compare a freshly fitted challenger with the champion as it is served.

    The cutoffs are the challenger's test cutoffs that are not before the champion's `trained_until`: there the champion has seen nothing,
    and the challenger's fold model is its recipe refitted up to each. Without a champion the challenger takes over; without such cutoffs
    it does so only with the champion's own recipe. A challenger that knows less of the log than the champion never does.

    `champion` : as it is served, None if there is none; `challenger` : just fitted on `events`, its test predictions (`folds_`) at hand.
    """
    if champion is None:
        return Verdict(True, "first model of this target")
    if challenger.trained_until_ < champion.trained_until_:
        known = [local(predictor.trained_until_, events.timezone) for predictor in (challenger, champion)]
        return Verdict(False, f"trained until {known[0]}, it knows less than the champion, trained until {known[1]}")
    folds = [fold for fold in challenger.folds_ if fold.cutoff >= champion.trained_until_]
    paired = challenger.compare(folds, champion.test(events, [fold.cutoff for fold in folds]))
    same = champion.recipe_ == challenger.recipe_
    promoted, reason = decide(paired.difference, paired.interval, same, measure=challenger.measure)
    return Verdict(promoted, reason, paired if paired.rows else None)


# Versions --------------------------------------------------------------------------------------------------------------------------------


def foreign(versions: Sequence[ModelVersion | None], project: str) -> PersopredictError | None:
    """What keeps a project from versions that it finds under its target's name: another project of the same store has made them, on other
    data. Those that nobody signed, or that were registered for no project, are believed.
    """
    for version in versions:
        owner = None if version is None else version.tags.get("project")
        if version is not None and owner not in (None, project, EXPERIMENT):
            text = f"version {version.version} of {version.name} in this model store is of the project {owner!r}, not of {project!r}"
            remedy = "name the target otherwise, or give this project a model store of its own: [tracking] uri"
            return PersopredictError("another project's model", [Problem("other_project", text, remedy=remedy)])
    return None


def suffices(version: ModelVersion, least: Grade) -> bool:
    """Whether a version's grade lets it become champion where `least` is asked for; one whose grade nobody wrote down is believed."""
    return version.tags.get("grade", "A") <= least


def too_low(version: ModelVersion, least: Grade) -> str:
    """Why a version whose grade does not suffice can't become champion, with the numbers of the grade."""
    why = version.tags.get("grade_reason", "").rstrip(".")
    return f"grade {version.tags['grade']}, and {least} is the least that may serve. {why}"


def none_serves(target: Target, champion: ModelVersion | None, challenger: ModelVersion | None, least: Grade) -> TooLittleDataError:
    """That no version answers what the target asks now: the challenger does, but its grade is too low (``grade_too_low``); or none has been
    trained (``no_model``), and the champion, if there is one, was asked something else.
    """
    if challenger is not None and answers(challenger, target) and not suffices(challenger, least):
        text = f"no model of {target.name} is good enough to serve: version {challenger.version} has {too_low(challenger, least)}"
        remedy = f'give it a longer log or other features; or let it serve as it is: min_grade = "{challenger.tags["grade"]}" under [job]'
        return TooLittleDataError("the grade is too low", [Problem(GRADE_TOO_LOW, text, remedy=remedy)])
    changed = "" if champion is None else f" that answers it as it is defined now: version {champion.version} was asked otherwise"
    remedy = "run 'persopredict train' or 'persopredict run' first"
    return TooLittleDataError("no model", [Problem("no_model", f"{target.name} has no champion{changed}", remedy=remedy)])


def answers(version: ModelVersion, target: Target) -> bool:
    """Whether a version was trained for the target as it is defined now; who knows nothing of it is believed."""
    return "target" not in version.tags or target_from_dict(json.loads(version.tags["target"])).question() == target.question()


def asked_the_same(registry: Registry, target: Target, version: str) -> bool:
    """Whether the version that a published run names was trained for the target as it is defined now; False where nobody can tell."""
    try:
        found = kept(registry, target.name, int(version)) if version.isdecimal() else None
    except PersopredictError:  # The store no longer has it.
        return False
    return found is not None and found.target.question() == target.question()


def kept(registry: Registry, name: str, version: int) -> Predictor | None:
    """The predictor of a version; None if its files are gone or incomplete, or if another persopredict made it, with other features."""
    try:
        return registry.load(name, version)
    except PersopredictError as error:
        if isinstance(error, SpecificationError) or "tracking_files_missing" in {problem.code for problem in error.problems}:
            return None
        raise


def readable(registry: Registry, name: str, version: int) -> Predictor:
    """The predictor of a version; raises `PersopredictError` (``model_unreadable``) where `kept` has none."""
    found = kept(registry, name, version)
    if found is None:
        text = f"the files of {name} version {version} are gone, incomplete or another persopredict's"
        problem = Problem("model_unreadable", text, remedy="bring its artifacts back, or run 'persopredict train'")
        raise PersopredictError(f"{name} can't be scored", [problem])
    return found
