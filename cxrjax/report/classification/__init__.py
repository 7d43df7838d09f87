"""The face of trained classifiers: comparisons, losses on phase features, and the pneumonia study."""

from cxrjax.report.classification import curve, external, maps, robustness, roc, searches
from cxrjax.report.face import Face, Plot
from cxrjax.report.read.classification import read

_FIGURES = {
    "external": Plot(
        external.external,
        "Films from elsewhere",
        "Each system on this run's own held-out films (hollow) and on films from elsewhere (filled), which it was "
        "neither trained nor chosen on; bars: 95 % intervals, inside above, outside below. Accuracy is at the "
        "threshold that was chosen inside. Dotted: logistic regression on 32-pixel films, outside.",
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
    "curve": Plot(
        curve.curve,
        "Learning curve",
        "One recipe from several starts, against the number of training patients (logarithmic); those of fewer are "
        "among those of more. Shaded: 95 % intervals over the films' patients, which hold no other draw of training "
        "patients; dashed, the floor trained on the same.",
    ),
    "robustness": Plot(
        robustness.robustness,
        "Damaged films",
        "AUROC, accuracy (of findings, macro F1) and expected calibration error against the strength of each kind of "
        "damage, 0 being none; last, the mean over kinds at each strength. The strengths stand in the table of damage "
        "by kind. Thresholds and temperature are those of undamaged films.",
    ),
    "maps": Plot(
        maps.maps,
        "What the network looked at",
        "Films above, and below each the map of the finding over it, with the probability given. Outline: the true "
        "finding or the box drawn for it, where there is one. Films are taken evenly through the set, not picked.",
        dpi=130,
        films=True,
    ),
    "failures": Plot(
        maps.failures,
        "Failures",
        "The held-out films that were called wrong most surely, by the probability after temperature where one was "
        "fitted: what was said with its probability, and what the label says, which may be what is wrong. Below each, "
        "where the run has maps, the map of what was said.",
        dpi=130,
        films=True,
    ),
    "enh": Plot(
        maps.channels,
        "Phase features",
        "A film of each class and its three channels: local weighted mean phase angle (LwPA), the local phase energy "
        "that it weights (LPE) and the enhanced local energy attenuation (ELEA; Qi et al. 2021), each in [0, 1].",
        dpi=110,
        films=True,
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
}
CLASSIFICATION = Face(
    _FIGURES,
    read=read,
    drawn=("ntk", "seeds", "robustness", "curve"),
)
