"""The headline of a treatment study, and its key numbers."""

from __future__ import annotations

from dataclasses import replace

from cxrjax.report.read.treatment import Treatment
from cxrjax.report.read.workdir import Entry, is_number
from cxrjax.report.summary import number, pretty, verdict, with_interval
from cxrjax.report.treatment import arms


def key_numbers(run: Treatment) -> list[tuple[str, Entry]]:
    """How the diseased films look before treatment."""
    words = "Diseased films called normal before treatment"
    names: dict[tuple[str, ...], str] = {("normal_rate", judge): f"{words} ({pretty(judge)})" for judge in run.judges}
    names["empty_mask",] = "Diseased films whose class activation map is empty"
    found = [(name, run.entry("progress", "untreated", *path)) for path, name in names.items()]
    for key, where in (("normal", ""), ("normal_set", " at the threshold set on others of them")):
        title = f"Healthy untreated films called normal{where}"
        found += [
            (f"{title}, {source} ({pretty(judge)})", run.entry("healthy", source, judge, key))
            for source in run.children("healthy")
            for judge in run.judges
        ]
    return [(name, entry) for name, entry in found if entry is not None]


def headline(run: Treatment) -> str:
    """The main finding in a few sentences; which finding is fixed beforehand, not picked for looking well.

    The study's own sentences, on its judges and on films from elsewhere, come last.
    """
    told = run.results.get("sentences") or ()
    return " ".join(filter(None, (_classifier_sentence(run), _ranking_sentence(run), *map(str, told))))


def _classifier_sentence(run: Treatment) -> str:
    auroc, accuracy = run.entry("classifier", "test", "auroc"), run.entry("classifier", "test", "accuracy")
    main, name = (auroc, "an AUROC") if auroc is not None and is_number(auroc.value) else (accuracy, "an accuracy")
    if main is None or not is_number(main.value):
        return ""
    films = f" of {main.n:,} films" if is_number(main.n) else ""
    text = f"On the test split{films}, the classifier reaches {name} of {with_interval(main)}"
    gain = run.entry("classifier", "minus_logreg32", "auroc")
    if gain is None or not is_number(gain.value):
        return text + "."
    if not (is_number(gain.low) and is_number(gain.high)):
        return f"{text}; its difference to a logistic regression on 32-pixel films is {number(gain.value)}."
    if float(gain.low or 0) > 0:
        return f"{text}, above a logistic regression on 32-pixel films by {with_interval(gain)}."
    if float(gain.high or 0) < 0:
        return f"{text}, below a logistic regression on 32-pixel films (difference {with_interval(gain)})."
    return (
        f"{text}, not distinguishable from a logistic regression on 32-pixel films (difference {with_interval(gain)})."
    )


def _ranking_sentence(run: Treatment) -> str:
    """What the best-ranked guided arm leaves of the rest of the film, beside the baseline, at the lowest rate compared.

    The rule: of the arms that a classifier's map guides, by this run's own diffusion, the first in the ranking (the
    smallest change outside the mask where the first judge reaches the rate) is named, with the paired difference to
    uniform noise, whichever way it points. Where none reaches the rate, that is what is said.
    """
    rate, ranked = run.ranking
    compared = [arm for arm in ranked if arms.guided(run, arm)]
    if not compared:
        return ""
    best, judge = compared[0], run.judges[0]
    share = f"{100 * float(rate):.0f} %"
    named = f"{pretty(judge)}{'' if judge == 'cam_network' else ' judge'}"
    change = arms.at_rate(run, best, "mae", "outside")
    if change is None:
        return _missed(run, best, rate, named)
    start = f"Where {share} of the treated diseased films are called normal by the {named}, "
    shown = f"change (MAE) outside the CAM mask {with_interval(change)}"
    difference = arms.at_rate(run, best, "mae", "outside", "difference")
    caution = f" It is the best of {len(compared)} guided arms, chosen on these films." if len(compared) > 1 else ""
    caution += " A masked mode hardly treats what lies outside its mask."
    if difference is None:
        return f"{start}{best} cannot be compared with uniform noise: {shown}, and uniform noise never gets there."
    claim = {
        "better": f"{best} leaves the rest of the film better preserved than uniform noise does",
        "worse": f"{best} preserves the rest of the film less well than uniform noise does",
        "": f"{best} and uniform noise cannot be told apart in how they preserve the rest of the film",
    }[verdict(difference)]
    return f"{start}{claim}: {shown}, difference {with_interval(difference, signed=True)}.{caution}"


def _missed(run: Treatment, best: str, rate: str, judge: str) -> str:
    """That no guided arm comes from below to the rate, and how near the nearest comes."""
    untreated, highest = run.entry("progress", "untreated", "normal_rate", *run.judges[:1]), arms.best_rate(run, best)
    share = f"{100 * float(rate):.0f} %"
    if untreated is not None and is_number(untreated.value) and float(untreated.value) >= float(rate):
        return (
            f"Before any treatment, the {judge} already calls a share of {with_interval(replace(untreated, unit=''))} "
            f"of the diseased films normal; arms cannot be compared at {share}."
        )
    if highest is None:
        return ""
    lam, entry = highest
    return (
        f"No guided arm brings the {judge} to call {share} of the treated diseased films normal; {best} comes nearest, "
        f"with a share of {with_interval(replace(entry, unit=''))} at λ = {lam}."
    )
