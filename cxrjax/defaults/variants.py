"""What variants of several configs say alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

# The findings of ChestX-ray14 in their usual order (Rajpurkar et al. 2017).
CHESTXRAY14 = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
    "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia",
)  # fmt: skip
# The caution that stands over results on these films.
KERMANY = (
    "Kermany's classes differ in more than disease: film size, aspect and exposure leak, so that a logistic regression "
    "on 32x32 films scores high (see logreg32). Children of 1 to 5 years."
)


def dtypes(*phases: str) -> dict[str, tuple[tuple[str, ...], str]]:
    """The choice of each phase's arithmetic."""
    why = "no paper says; float32, but for :paper, which is for accelerators; weights and optimizers are float32"
    return {f"{name}.net.dtype": (("float32", "bfloat16"), why) for name in phases}


def smoke(c: ConfigDict, films: tuple[int, int, int], phases: Iterable[str], **changes: Any) -> None:
    """Makes a run seconds long, and says that its numbers mean nothing.

    Args:
      c: the config.
      films: phantoms of the train, val and test parts, of at most 32 px.
      phases: those that take a few steps.
      **changes: to their keys.
    """
    c.data.size = min(c.data.size, 32)
    c.data.num.update(dict(zip(("train", "val", "test"), films, strict=True)))
    for name in phases:
        c[name].update({"steps": 4, "batch": 16, "save_every": 2, "log_every": 2, **changes})
    c.warnings = ("Smoke test: a few training steps; its numbers mean nothing.",)
