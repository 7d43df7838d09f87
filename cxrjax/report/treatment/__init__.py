"""The face of treated films: studies of progress, and of anomalies."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from cxrjax.report.draw.overlay import DIFFERENCE_SPAN
from cxrjax.report.draw.style import color_of
from cxrjax.report.face import CAUTION, Face, Plot
from cxrjax.report.read import treatment as reader
from cxrjax.report.read.workdir import Run
from cxrjax.report.summary import pretty
from cxrjax.report.treatment import anomaly, curves, headline, ranking, strips

TREATED = Markup(
    "Treated films on this page are <strong>synthetic</strong>: a generative model drew them, and no such film was "
    "ever taken of a patient. “Treatment progress” orders films by how much noise the model was allowed to remove. It "
    "is <strong>not a prognosis</strong> and says nothing about how a patient will do."
)
_RESIDUAL = Markup(
    "Residual maps on this page are taken from <strong>synthetic</strong> films: a generative model drew them, and no "
    "such film was ever taken of a patient. A residual is what the model changed, not what a radiologist found."
)


def _read(run: Run) -> reader.Treatment:
    def shown(found: reader.Treatment) -> set[int]:
        films = found.films
        return {*strips.plan(found, films).films, *curves.shown(films), *ranking.shown(films)} if films else set()

    return reader.read(run, shown)


def _beside(run: reader.Treatment) -> dict[str, Any]:
    """Writes the shown films as `films/*.png`; the strips and what they need."""
    strips.export(run, run.workdir / "films")
    return {
        "strips": strips.build(run),
        "colors": {mode: color_of(mode, run.modes) for mode in run.modes},
        "judges": {judge: pretty(judge) for judge in run.judges},
        "span": DIFFERENCE_SPAN,
    }


_PROGRESS_FIGURES = {
    "ranking": Plot(
        ranking.ranking,
        "Arms at equal normal rate",
        "Arms, ours and published rivals, the best above, where the independent judge first calls the lowest of the "
        "compared shares of diseased films normal. Left: the change outside the CAM mask (M > 0.5) against the "
        "patient's own film. Then the paired differences to uniform noise, of this change and, where the truth is "
        "known, of the error to the healthy twin; left of the dotted line an arm keeps more of the patient. Bars are "
        "95 % intervals; an arm that misses the rate in more than one resample of twenty has none. A masked arm hardly "
        "treats what lies outside its mask, so part of its lead is built in.",
        place="above",
    ),
    "outside": Plot(
        ranking.outside,
        "Arms inside and outside",
        "The same networks and arms on this run's own films and on films from elsewhere, at equal normal rate: at the "
        "judge's own threshold, and at one that 90 % of a few healthy films of each source lie above. Arms stand in "
        "the order of the ranking inside, all panels share their scale, and bars are 95 % intervals.",
        place="above",
    ),
    "rate": Plot(
        curves.rate,
        "Called normal, by noise level",
        "How often a judge calls a treated diseased film normal. Bands are 95 % intervals. The CAM network chose "
        "where to treat, so its own verdict is circular; read the independent judge first. Of many arms, a row shows "
        "some, uniform noise in gray beside them.",
    ),
    "tradeoff": Plot(
        curves.tradeoff,
        "Identity against normal rate",
        "What that costs: the change outside the CAM mask (M > 0.5) against the patient's own film, at "
        "equal normal rate. A mode that preserves identity better lies lower on the left and higher on the right. "
        "A masked mode hardly treats what lies outside its mask, so part of its lead is built in.",
    ),
    "twin_error": Plot(
        curves.twin_error,
        "Error to the healthy twin",
        "On phantoms the truth is known: the distance to the same patient's film without the lesion. "
        "A treatment that only pleases the judge does not come down inside the lesion.",
    ),
    "realism": Plot(
        curves.realism,
        "Likeness to healthy films",
        "The Fréchet distance (FDD) between treated diseased films and held-out healthy ones, in the principal axes of "
        "the independent judge's features, less its bias: at 0, treated films lie where other healthy films do. "
        "Dotted: the same films untreated. Dashed, the floor: what two sets of healthy films of this number measure "
        "before the bias is taken off. Bands are 95 % intervals.",
    ),
    "solvers": Plot(
        ranking.solvers,
        "Fewer network evaluations",
        "One arm at one noise level, walked by several solvers with ever fewer evaluations of the network. Dotted: "
        "ancestral sampling with many evaluations, the reference; shaded, within 5 % of it. Change and error are "
        "relative to the reference on the same films (0 is alike, above is more). Bands are 95 % intervals by "
        "resampling films. A solver may be trusted with as few evaluations as keep it within the shade in every panel.",
    ),
    "control": Plot(
        curves.control,
        "Healthy controls",
        "Healthy films, treated in the same way: they should stay normal and change little.",
    ),
    "cam": Plot(
        curves.cam,
        "Class activation maps",
        "Where the classifier looks. Top: films; below: the class activation map over them"
        " (outline: the true lesion, where it is known).",
        films=True,
    ),
    "masks": Plot(
        ranking.masks,
        "Where the arms treat",
        "Diseased films by rising severity, and over each the mask of every source; arms that share a mask share a "
        "column. The brighter, the more is treated; outline: the true lesion, where it is known. An arm whose map is "
        "renewed while it samples begins with the mask shown.",
        films=True,
    ),
    # Only for a page whose script is off; the page itself has the films.
    "strips": Plot(
        curves.strips, "Films", "Treated films by rising noise level.", dpi=100, place="beside", generated=True
    ),
}
PROGRESS = Face(
    _PROGRESS_FIGURES,
    read=_read,
    headline=headline.headline,
    key_numbers=headline.key_numbers,
    notices=(TREATED,),
    beside=_beside,
    template="treatment/page.html.j2",
    narrow=True,
)
_ANOMALY_FIGURES = {
    "anomaly": Plot(
        anomaly.anomaly,
        "Residuals",
        "Where each arm changed the film: the squared difference between a synthetic film and the patient's own, in "
        "[-1, 1] units, at the noise level of the arm's highest pixel AUROC. Each arm has its own color scale, up to "
        "the 99.5th percentile of its residuals (above it). Outline: the true lesion, or the boxes drawn for it. Films "
        "are taken evenly through the set, not picked.",
        place="above",
        generated=True,
    ),
    "anomaly_scores": Plot(
        anomaly.anomaly_scores,
        "Residuals against true lesions",
        "How well the residual of each arm and noise level, and each map itself, tells pixels inside true lesions from "
        "those outside: the area under the ROC curve and under the precision-recall curve, with 95 % intervals by "
        "resampling patients. Dotted: what guessing reaches.",
        place="above",
    ),
}
ANOMALY = Face(
    _ANOMALY_FIGURES,
    read=reader.read_anomaly,
    notices=(_RESIDUAL, CAUTION),
)
