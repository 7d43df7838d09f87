"""Every figure that a page may hold, with its title and caption, and their drawing to `figures/*.png`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from cxrjax.report import training
from cxrjax.report.classification import maps, roc, searches
from cxrjax.report.draw.png import MARKS
from cxrjax.report.draw.style import STYLE
from cxrjax.report.read.workdir import Run
from cxrjax.report.synthesis import films
from cxrjax.report.treatment import anomaly, ranking
from cxrjax.report.treatment import curves as treatment


@dataclass(frozen=True)
class Plot:
    """A figure: a pure function `Run -> Figure`, None where the run lacks what it draws; `generated` marks its file."""

    draw: Callable[[Run], Figure | None]
    title: str
    caption: str
    dpi: int = 150
    generated: bool = False


FIGURES = {
    "ranking": Plot(
        ranking.ranking,
        "Arms at equal normal rate",
        "Arms, the best above, where the independent judge first calls the lowest of the compared shares of diseased "
        "films normal. Left: the change outside the CAM mask (M > 0.5) against the patient's own film. Then the paired "
        "differences to uniform noise, of this change and, where the truth is known, of the error to the healthy twin; "
        "left of the dotted line an arm keeps more of the patient. Bars are 95 % intervals; an arm that misses "
        "the rate in more than one resample of twenty has none. A masked arm hardly treats what lies outside its mask, "
        "so part of its lead is built in.",
    ),
    "rate": Plot(
        treatment.rate,
        "Called normal, by noise level",
        "How often a judge calls a treated diseased film normal. Bands are 95 % intervals. The CAM network chose "
        "where to treat, so its own verdict is circular; read the independent judge first. Of many arms, a row shows "
        "some, uniform noise in gray beside them.",
    ),
    "tradeoff": Plot(
        treatment.tradeoff,
        "Identity against normal rate",
        "What that costs: the change outside the CAM mask (M > 0.5) against the patient's own film, at "
        "equal normal rate. A mode that preserves identity better lies lower on the left and higher on the right. "
        "A masked mode hardly treats what lies outside its mask, so part of its lead is built in.",
    ),
    "twin_error": Plot(
        treatment.twin_error,
        "Error to the healthy twin",
        "On phantoms the truth is known: the distance to the same patient's film without the lesion. "
        "A treatment that only pleases the judge does not come down inside the lesion.",
    ),
    "realism": Plot(
        treatment.realism,
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
        treatment.control,
        "Healthy controls",
        "Healthy films, treated in the same way: they should stay normal and change little.",
    ),
    "cam": Plot(
        treatment.cam,
        "Class activation maps",
        "Where the classifier looks. Top: films; below: the class activation map over them"
        " (outline: the true lesion, where it is known).",
    ),
    "masks": Plot(
        ranking.masks,
        "Where the arms treat",
        "Diseased films by rising severity, and over each the mask of every source; arms that share a mask share a "
        "column. The brighter, the more is treated; outline: the true lesion, where it is known. An arm whose map is "
        "renewed while it samples begins with the mask shown.",
    ),
    "anomaly": Plot(
        anomaly.anomaly,
        "Residuals",
        "Where each arm changed the film: the squared difference between a synthetic film and the patient's own, in "
        "[-1, 1] units, at the noise level of the arm's highest pixel AUROC. Each arm has its own color scale, up to "
        "the 99.5th percentile of its residuals (above it). Outline: the true lesion, or the boxes drawn for it. Films "
        "are taken evenly through the set, not picked.",
        generated=True,
    ),
    "anomaly_scores": Plot(
        anomaly.anomaly_scores,
        "Residuals against true lesions",
        "How well the residual of each arm and noise level, and each map itself, tells pixels inside true lesions from "
        "those outside: the area under the ROC curve and under the precision-recall curve, with 95 % intervals by "
        "resampling patients. Dotted: what guessing reaches.",
    ),
    "films_by_finding": Plot(
        films.films_by_finding,
        "Films by finding",
        "Films are taken evenly, not picked. Beneath the red lines they are synthetic: a generator was asked for the "
        "finding at the left. Outline: where the feature classifier sees that finding, at half of the map's own range, "
        "so it is drawn however unsure the classifier is. It is that network's map, not a radiologist's.",
        dpi=130,
        generated=True,
    ),
    "scales": Plot(
        films.scales,
        "One noise at every scale",
        "Synthetic films. The generator makes a film at every scale at once; each is enlarged here to one size, "
        "by its nearest pixels. Noise is taken evenly, not picked.",
        dpi=130,
        generated=True,
    ),
    "interpolation": Plot(
        films.interpolation,
        "From one finding to another",
        "Synthetic films of one noise in each row, while the condition moves from the finding at the left to that at "
        "the right. What changes is what the generator ties to the finding; it is no course of a disease.",
        dpi=130,
        generated=True,
    ),
    "attention_maps": Plot(
        films.attention_maps,
        "Where the generator attends",
        "Left: a synthetic film with numbered points. Beside it, for each point (circle): the weights by which the "
        "generator's attention mixes other places into it. Each map has its own scale, up to its peak, which is given "
        "as a multiple of even weights.",
        dpi=130,
        generated=True,
    ),
    "neighbors": Plot(
        films.neighbors,
        "Made films nearest to a training film",
        "Above: of all made films those nearest to a film of the training set, which stands beneath, with their "
        "distance. Memorization would show as pairs of the same film, and as made films that lie nearer to the "
        "training films than held-out real films do (histogram).",
        dpi=130,
        generated=True,
    ),
    "adversarial": Plot(
        training.adversarial,
        "Adversarial training",
        "Left: the losses of both sides (thin: as logged; thick: centered running mean). They do not say how good the "
        "films are; one side at its floor says that the game is lost. Right: how alike two samples of one "
        "class are (solid), and two real films of it (dashed). Samples far above say that the generator has collapsed.",
    ),
    "seeds": Plot(
        searches.seeds,
        "Effects over seeds",
        "Each dot is one seed; the diamond is the arm's mean, the bar its 95 % t interval over seeds, which holds what "
        "seeds vary and not what other patients would.",
    ),
    "roc": Plot(
        roc.roc,
        "ROC curves",
        "Sensitivity against 1 − specificity on films that the networks were not trained on; above each panel the "
        "areas under the curves (AUROC), in the colors of the legend. Folds are pooled to one curve, seeds are thin "
        "lines with their mean area. The macro average is over classes, at equal specificity.",
    ),
    "precision_recall": Plot(
        roc.precision_recall,
        "Precision and recall",
        "Of the films called positive, the share that is (precision), against the share of positives found (recall); "
        "above each panel the average precisions. Dotted: the share of films with the finding, which guessing reaches.",
    ),
    "confusion": Plot(
        roc.confusion,
        "Confusion",
        "Rows: the true class; columns: the class called. Figures count films; the shade is the share of the row.",
    ),
    "reliability": Plot(
        roc.reliability,
        "Reliability",
        "The share that came true against the probability predicted, in the bins of the expected calibration error, "
        "with 95 % intervals; a calibrated system lies on the diagonal, one below it is overconfident. Bars: how many "
        "predictions fall into a bin. With two classes the second is judged, with more exclusive ones the class "
        "called, otherwise every finding of every film.",
    ),
    "maps": Plot(
        maps.maps,
        "What the network looked at",
        "Films above, and below each the map of the finding over it, with the probability given. Outline: the true "
        "finding or the box drawn for it, where there is one. Films are taken evenly through the set, not picked.",
        dpi=130,
    ),
    "enh": Plot(
        maps.channels,
        "Phase features",
        "A film of each class and its three channels: local weighted mean phase angle (LwPA), the local phase energy "
        "that it weights (LPE) and the enhanced local energy attenuation (ELEA; Qi et al. 2021), each in [0, 1].",
        dpi=110,
    ),
    "grid": Plot(
        searches.grid,
        "Grid search",
        "Each cell is one training: learning rate by optimizer and momentum, on the validation films. Hatched cells "
        "diverged; blank ones were not run. Where cells were stopped early, their steps stand beneath.",
    ),
    "grid_curves": Plot(
        searches.grid_curves,
        "The epoch axis",
        "The validation figure along the training of the best cells: stopping earlier is read off the same run.",
    ),
    "ntk": Plot(
        searches.ntk,
        "Tangent kernel",
        "The neural tangent kernel against width, on logarithmic axes; dotted, the rate width^(−1/2) that theory "
        "gives for the distance to the infinitely wide network.",
    ),
    "losses": Plot(
        training.losses,
        "Training",
        "Training, phase by phase: the loss (thin: as logged; thick: centered running mean) and the evaluations.",
    ),
    # Only for a page whose script is off; the page itself has the films.
    "strips": Plot(treatment.strips, "Films", "Treated films by rising noise level.", dpi=100, generated=True),
}
FIRST = (
    "films_by_finding",
    "anomaly",
    "anomaly_scores",
    "ranking",
)  # shown before the tables: people look before they read
RESULTS = tuple(name for name in FIGURES if name not in ("losses", "strips", *FIRST))


def save_all(run: Run, folder: Path) -> dict[str, Path]:
    """Draws every figure that the run has data for to `folder/<name>.png`; returns the files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    with matplotlib.rc_context(STYLE):
        for name, plot in FIGURES.items():
            path = folder / f"{name}.png"
            figure = plot.draw(run)
            if figure is None:
                path.unlink(missing_ok=True)  # a stale figure of an earlier report must not outlive its data
                continue
            figure.savefig(path, dpi=plot.dpi, metadata=MARKS if plot.generated else None)
            written[name] = path
    return written
