"""The papers' own figures, to stand beside ours, each with the films it was measured on. None was measured here."""

from __future__ import annotations

from typing import NamedTuple

from cxrjax.data.labels import CHESTXRAY14

MEAN = "mean"


class Column(NamedTuple):
    """One published column.

    Attributes:
      title: whose figures.
      films: what they were measured on.
      values: by row name.
    """

    title: str
    films: str
    values: dict[str, float]


class Paper(NamedTuple):
    """A paper's results.

    Attributes:
      title: the paper.
      metric: what the figures are.
      columns: the figures.
      note: what a reader has to know before comparing.
    """

    title: str
    metric: str
    columns: tuple[Column, ...]
    note: str


def _by_class(mean: float, *values: float) -> dict[str, float]:
    return {**dict(zip(CHESTXRAY14, values, strict=True)), MEAN: mean}


FCN_DENSENET = Paper(
    "Fully convolutional DenseNet-121 (KISU journal 2021)",
    "AUROC",
    (
        Column("FCN-DenseNet-121", "ChestX-ray14, validation and test parts together (33,652)", {MEAN: 0.848}),
        Column(
            "CheXNet", "ChestX-ray14, its own random split",
            _by_class(0.841, .8094, .9248, .8638, .7345, .8676, .7802, .7680, .8887, .7901, .8878, .9371, .8047, .8062,
                      .9164),
        ),
        Column(
            "Wang 2017, ResNet-50", "ChestX-ray14, as quoted; its official split gives a mean of .745",
            _by_class(0.738, .716, .807, .784, .609, .706, .671, .633, .806, .708, .835, .815, .769, .708, .767),
        ),
        Column(
            "Yao 2017, DenseNet + LSTM", "ChestX-ray14, its own random split",
            _by_class(0.803, .772, .904, .859, .695, .792, .717, .713, .841, .788, .882, .829, .767, .765, .914),
        ),
    ),
    "The columns are of different splits of ChestX-ray14. The paper chose its learning rate on the films it reports, "
    "so its figure is no clean test figure.",
)  # fmt: skip
MERGED = Paper(
    "Fully convolutional DenseNet-121, ChestX-ray14 and MIMIC-CXR merged (KISU journal 2021, Table 2)",
    "AUROC and F1",
    (
        Column("FCN-DenseNet-121", "179,130 films of 62,827 patients", {MEAN: 0.887, "F1": 0.452}),
        Column("CheXNet", "the same", {MEAN: 0.874, "F1": 0.402}),
    ),
    "Which MIMIC-CXR films were taken, how labels were merged and how F1 is averaged are not stated.",
)
KAGGLE4 = Paper(
    "CNN-5 and ResNet-18 on four classes (capstone project 2022)",
    "as named",
    (
        Column(
            "CNN-5", "Kaggle, archive test part (771 films)",
            {"accuracy": 0.7782101167315175, "macro_precision": 0.813138487120788,
             "macro_recall": 0.7785881309466215, "macro_f1": 0.7548030016216235},
        ),
        Column("ResNet-18", "Kaggle, test part", {"accuracy": 0.52}),
        Column("ResNet-18, augmented", "Kaggle, test part", {"accuracy": 0.80}),
    ),
    "The printed figures fit the archive's own 771 test films and macro averages, not the 8:2 split of the text.",
)  # fmt: skip
PHASE_LOSS = Paper(
    "CXR against local-phase ENH, categorical against sparse cross-entropy (JKIICE 2021)",
    "best test accuracy; mean test loss",
    (
        Column("CXR, categorical", "18,685 films, 30 % test", {"accuracy": 0.8235, "loss": 0.4533}),
        Column("CXR, sparse", "18,685 films, 30 % test", {"accuracy": 0.8251, "loss": 0.4477}),
        Column("ENH, categorical", "18,685 films, 30 % test", {"accuracy": 0.8993, "loss": 0.3436}),
        Column("ENH, sparse", "18,685 films, 30 % test", {"accuracy": 0.9051, "loss": 0.3067}),
    ),
    "Three trainings a cell; the two losses are one function of logits and label, so their difference is chance.",
)
PNEUMONIA = Paper(
    "Pneumonia study (ETRI deck)",
    "accuracy by stage",
    (
        Column(
            "Kaggle", "Kermany, test part (624 films)",
            {"base": 0.8641, "hyper-parameters": 0.8994, "DenseNet-121": 0.9089, "augmentation": 0.9560,
             "2048-wide head": 0.9712},
        ),
        Column("SNU", "a private hospital set, test part", {"2048-wide head": 0.982}),
    ),
    "Only 97.12 % is a whole number of 624 films, so some figures were measured otherwise or averaged.",
)  # fmt: skip
MEDMNIST = Paper(
    "MedMNIST v2, ResNet-18 and ResNet-50 at 28 px (Yang et al. 2023)",
    "AUROC and accuracy",
    (
        Column("ResNet-18 (28)", "PneumoniaMNIST, official test part (624 films)", {MEAN: 0.944, "accuracy": 0.854}),
        Column("ResNet-50 (28)", "PneumoniaMNIST, official test part (624 films)", {MEAN: 0.948, "accuracy": 0.854}),
        Column("auto-sklearn", "PneumoniaMNIST, official test part (624 films)", {MEAN: 0.942, "accuracy": 0.855}),
        Column("Google AutoML", "PneumoniaMNIST, official test part (624 films)", {MEAN: 0.991, "accuracy": 0.946}),
    ),
    "Means of three runs; from run to run accuracy varies by about 0.02.",
)
PAPERS: dict[str, Paper] = {
    "fcn_densenet": FCN_DENSENET, "merged": MERGED, "kaggle4": KAGGLE4, "phase_loss": PHASE_LOSS,
    "pneumonia": PNEUMONIA, "medmnist": MEDMNIST,
}  # fmt: skip


_SYNTHESIS_CLASSES = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
)  # fmt: skip
# Table 1 of the multi-scale attention GAN (JBE 2020): FDD of its cDCGAN and its own films to ChestX-ray14.
SYNTHESIS_FDD = {
    "cdcgan": dict(zip(
        _SYNTHESIS_CLASSES, (4.05e-5, 2.87e-5, 1.34e-4, 3.27e-4, 1.49e-4, 3.38e-4, 3.62e-5, 2.17e-4), strict=True
    )),
    "proposed": dict(zip(
        _SYNTHESIS_CLASSES, (2.15e-5, 6.65e-6, 3.48e-4, 2.29e-4, 5.97e-5, 9.34e-5, 4.52e-4, 3.30e-5), strict=True
    )),
}  # fmt: skip
