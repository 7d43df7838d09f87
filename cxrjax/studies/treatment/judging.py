"""What is asked of every treated film: the judges' verdicts, and what else a study names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from cxrjax.data.lungs import SMALLEST
from cxrjax.infer import classifier, masks
from cxrjax.infer.batches import in_batches
from cxrjax.infer.classifier import Classifier
from cxrjax.infer.predict import Predictor
from cxrjax.metrics import counterfactual
from cxrjax.types import Array, Arrays, PyTree

NORMAL = "normal_probability_"  # before the name of a judge
ANATOMY = "anatomy_"  # before the name of what a phantom was drawn with
_ON_THE_WAY = 32  # films whose insertions are in memory
Score = Callable[[np.ndarray], Arrays]


class Asked(NamedTuple):
    """What is asked of a treated film beside the judges' verdicts.

    Attributes:
      insertions: steps from the film to the treated one at which judges are asked too; 0 for none.
      lungs: whether the lung finder is.
      findings: `films (n, h, w, 1) -> (n, k) bool`, the findings that another run's classifier calls; None for none.
      identity: `films (n, h, w, 1) -> (n, d)`, embeddings that tell patients apart; None for none.
      anatomy: `films (n, h, w, 1) -> (n,)` by name, what phantoms were drawn with as `drawn` reads it; None for none.
    """

    insertions: int = 0
    lungs: bool = False
    findings: Callable[[np.ndarray], np.ndarray] | None = None
    identity: Callable[[np.ndarray], np.ndarray] | None = None
    anatomy: Callable[[np.ndarray], Arrays] | None = None


NOTHING = Asked()


def scorer(scoring: Mapping[str, Classifier], mesh: Mesh, batch: int) -> Score:
    """`films (n, h, w, 1) -> normal_probability_<role> (n,)` of every judge, and `pooled` (n, d) of the first."""
    judges = tuple((role, judge._replace(variables=None)) for role, judge in scoring.items())
    variables = {role: judge.variables for role, judge in scoring.items()}
    return lambda image: in_batches(mesh, batch, partial(_score, judges, variables), image)


@partial(jax.jit, static_argnums=0)
def _score(judges: tuple[tuple[str, Classifier], ...], variables: PyTree, image: Array) -> dict[str, Array]:
    out = {}
    for role, judge in judges:
        found = classifier.outputs(judge._replace(variables=variables[role]), image)
        out[f"{NORMAL}{role}"] = found["prob"][:, judge.normal]
        out.setdefault("pooled", found["pool"])
    return out


def judged(score: Score, asked: Asked, image: np.ndarray, treated: np.ndarray) -> dict[str, np.ndarray]:
    """What is said of treated films (n, h, w, 1) of films (n, h, w, 1); arrays of a result's file.

    Beside the score: `path_<role>` (insertions + 1, n), the probability of Normal along `counterfactual.insertions`;
    `lungs` (n, h, w / 8) uint8, bits of the lungs' pixels, and `lungs_found` (n,); `findings` (n, k) bool; `embedding`
    (n, d); `anatomy_<name>` (n,).
    """
    out = dict(score(treated))
    if asked.insertions:
        names = [name for name in out if name.startswith(NORMAL)]
        blocks: list[Arrays] = []
        for i in range(0, len(image), _ON_THE_WAY):
            path = counterfactual.insertions(image[i : i + _ON_THE_WAY], treated[i : i + _ON_THE_WAY], asked.insertions)
            said = score(path.reshape(-1, *image.shape[1:]))
            blocks.append({name: said[name].reshape(len(path), -1) for name in names})
        for name in names:
            out[f"path_{name.removeprefix(NORMAL)}"] = np.concatenate([block[name] for block in blocks], axis=1)
    if asked.lungs and min(treated.shape[1:3]) >= SMALLEST:
        fields, found = masks.lung_fields(treated)
        out |= {"lungs": np.packbits(fields[..., 0] > 0.5, axis=-1), "lungs_found": found}
    if asked.findings:
        out["findings"] = asked.findings(treated)
    if asked.identity:
        out["embedding"] = asked.identity(treated)
    if asked.anatomy:
        out |= {f"{ANATOMY}{name}": told for name, told in asked.anatomy(treated).items()}
    return out


def findings_of(predictor: Predictor, apart: tuple[str, ...], batch: int) -> Callable[[np.ndarray], np.ndarray]:
    """`films -> (n, k) bool`: what a classifier calls at its operating point, the classes `apart` left out."""
    kept = [i for i, name in enumerate(predictor.classes) if name not in apart]

    def called(image: np.ndarray) -> np.ndarray:
        return predictor.called(image[..., 0], batch)[:, kept]

    return called
