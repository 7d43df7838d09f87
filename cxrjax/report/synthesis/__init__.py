"""The face of generated films: studies of synthesis."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from cxrjax.report import training
from cxrjax.report.face import CAUTION, Face, Plot
from cxrjax.report.read.workdir import Run
from cxrjax.report.synthesis import films

_GENERATED = Markup(
    "Generated films on this page are <strong>synthetic</strong>: a generative model drew them. No such film was ever "
    "taken, and no such patient exists. A finding is what the model was asked for, not what a radiologist found."
)


def _beside(run: Run) -> dict[str, Any]:
    """Writes `blinded.html` where there are films for a blinded reading; its name."""
    reading = films.write_blinded(run)
    return {"reading": reading.name if reading else None}


_FIGURES = {
    "films_by_finding": Plot(
        films.films_by_finding,
        "Films by finding",
        "Films are taken evenly, not picked. Beneath the red lines they are synthetic: a generator was asked for the "
        "finding at the left. Outline: where the feature classifier sees that finding, at half of the map's own range, "
        "so it is drawn however unsure the classifier is. It is that network's map, not a radiologist's.",
        dpi=130,
        place="above",
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
        "Generated films nearest to a training film",
        "Above: of all generated films those nearest to a film of the training set, which stands beneath, with their "
        "distance. Memorization would show as pairs of the same film, and as generated films that lie nearer to the "
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
}
SYNTHESIS = Face(
    _FIGURES,
    notices=(_GENERATED, CAUTION),
    beside=_beside,
    template="synthesis/page.html.j2",
)
