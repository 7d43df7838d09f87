"""The items of two reporting guidelines, in short, and the facts of a run that answer each; see `checklist.facts`.

The wording is this library's. The items as published, with what they ask for in full, are at the addresses.
"""

from __future__ import annotations

from typing import NamedTuple


class Item(NamedTuple):
    """An item: its number there, what it asks for, and names of facts; without any it is the author's to answer."""

    number: str
    text: str
    facts: tuple[str, ...] = ()


class Guideline(NamedTuple):
    """A guideline: its name, where it was published, and its items by section."""

    name: str
    source: str
    address: str
    sections: dict[str, tuple[Item, ...]]


CLAIM = Guideline(
    "CLAIM 2024",
    "Tejani et al., Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 Update, Radiol Artif Intell "
    "2024; 6(4): e240300",
    "https://doi.org/10.1148/ryai.240300",
    {
        "Title and abstract": (
            Item("1", "Title says that this is a study of AI, and of which kind", ("kind",)),
            Item("2", "Abstract: design, methods, results, conclusions"),
        ),
        "Introduction": (
            Item("3", "Background; what the AI is for and its role"),
            Item("4", "Aims, objectives, hypotheses"),
        ),
        "Methods": (
            Item("5", "Prospective or retrospective"),
            Item("6", "Goal of the study"),
            Item("7", "Sources of data", ("source",)),
            Item("8", "Inclusion and exclusion criteria", ("excluded",)),
            Item("9", "Preprocessing", ("preprocessing",)),
            Item("10", "Which subsets of the data were taken", ("subsets",)),
            Item("11", "De-identification"),
            Item("12", "How missing data were handled", ("missing",)),
            Item("13", "Protocol of image acquisition"),
            Item("14", "How the reference standard was obtained", ("labels",)),
            Item("15", "Why this reference standard"),
            Item("16", "Who annotated it, and with what training"),
            Item("17", "How the test set was annotated"),
            Item("18", "Variability between and within annotators"),
            Item("19", "How films were assigned to partitions", ("partitions",)),
            Item("20", "At which level partitions are disjoint", ("disjoint",)),
            Item("21", "Intended sample size of the test"),
            Item("22", "The model in detail", ("model",)),
            Item("23", "Software with versions", ("software",)),
            Item("24", "Initialization of parameters", ("initialization",)),
            Item("25", "Training: augmentation, hyperparameters, number of models", ("training",)),
            Item("26", "How the final model was selected", ("selection",)),
            Item("27", "Ensembling", ("ensembling",)),
            Item("28", "Metrics of performance", ("metrics",)),
            Item("29", "Measures of significance and uncertainty", ("uncertainty",)),
            Item("30", "Robustness or sensitivity analysis", ("robustness",)),
            Item("31", "Explainability, and how it was validated", ("explainability",)),
            Item("32", "Evaluation on internal data", ("internal",)),
            Item("33", "Testing on external data", ("external",)),
            Item("34", "Registration of a clinical trial"),
        ),
        "Results": (
            Item("35", "Patients or examinations included and excluded", ("partitions", "excluded")),
            Item("36", "Demographic and clinical characteristics by partition", ("demographics",)),
            Item("37", "Performance with measures of uncertainty", ("performance",)),
            Item("38", "Diagnostic performance and its precision", ("operating",)),
            Item("39", "Analysis of failures", ("failures",)),
        ),
        "Discussion": (
            Item("40", "Limitations", ("limitations",)),
            Item("41", "What it means for practice, intended use"),
        ),
        "Other information": (
            Item("42", "Where the full protocol, or more technical detail, is", ("reproduce",)),
            Item("43", "Availability of software, trained model, data", ("reproduce", "licenses")),
            Item("44", "Funding and the funders' role"),
        ),
    },
)

TRIPOD = Guideline(
    "TRIPOD+AI",
    "Collins et al., TRIPOD+AI statement, BMJ 2024; 385: e078378",
    "https://doi.org/10.1136/bmj-2023-078378",
    {
        "Title and abstract": (
            Item("1", "Title: development or evaluation of a prediction model, target population, outcome", ("kind",)),
            Item("2", "Abstract, by the abstracts' own checklist"),
        ),
        "Introduction": (
            Item("3a", "Health-care context, rationale, existing models"),
            Item("3b", "Target population, purpose in the care pathway, intended users"),
            Item("3c", "Known health inequalities between groups"),
            Item("4", "Objectives: development, validation or both"),
        ),
        "Methods": (
            Item("5a", "Sources of data for development and evaluation, why these, how representative", ("source",)),
            Item("5b", "Dates of the data"),
            Item("6a", "Setting, number and place of centers"),
            Item("6b", "Eligibility of participants", ("subsets",)),
            Item("6c", "Treatments received and how they were handled"),
            Item("7", "Preprocessing and checks of quality, alike across groups or not", ("preprocessing", "excluded")),
            Item("8a", "Outcome: definition, horizon, how and when assessed, consistent across groups", ("labels",)),
            Item("8b", "Qualifications and demographics of who assessed the outcome"),
            Item("8c", "Blinding of the assessment"),
            Item("9a", "Choice of initial predictors", ("predictors",)),
            Item("9b", "Definition of all predictors, how and when measured", ("predictors", "preprocessing")),
            Item("9c", "Who assessed predictors that need judgment"),
            Item("10", "How the study size was arrived at, and whether it suffices"),
            Item("11", "How missing data were handled, why any were left out", ("missing",)),
            Item("12a", "How data were used and partitioned", ("partitions", "disjoint")),
            Item("12b", "How predictors were handled: rescaling, transformation", ("preprocessing",)),
            Item("12c", "Type of model, all steps of building it, tuning, internal validation",
                 ("model", "initialization", "training", "selection", "ensembling")),
            Item("12d", "Heterogeneity across clusters, such as hospitals", ("clusters",)),
            Item("12e", "All measures and plots of performance", ("metrics", "uncertainty")),
            Item("12f", "Updating of the model, such as recalibration", ("updating",)),
            Item("12g", "How predictions were calculated", ("reproduce",)),
            Item("13", "Methods for class imbalance, and recalibration after them", ("imbalance",)),
            Item("14", "Approaches to fairness and their rationale"),
            Item("15", "Output of the model; how thresholds were found", ("output", "operating")),
            Item("16", "Differences between development and evaluation data", ("external",)),
            Item("17", "Ethical approval, consent or waiver"),
        ),
        "Open science": (
            Item("18a", "Funding and the funders' role"),
            Item("18b", "Conflicts of interest"),
            Item("18c", "Where the protocol is, or that there was none"),
            Item("18d", "Registration, or that there was none"),
            Item("18e", "Availability of the data", ("source", "licenses")),
            Item("18f", "Availability of the code", ("software", "reproduce")),
        ),
        "Patients and public": (Item("19", "Involvement of patients and public, or that there was none"),),
        "Results": (
            Item("20a", "Flow of participants, with and without the outcome", ("partitions", "excluded")),
            Item("20b", "Characteristics overall and by source; missing data", ("demographics",)),
            Item("20c", "Evaluation data beside development data", ("external",)),
            Item("21", "Participants and outcome events in each analysis", ("partitions", "internal")),
            Item("22", "The full model, so that others can use it; restrictions", ("model", "reproduce", "licenses")),
            Item("23a", "Performance with intervals, of key subgroups too", ("performance", "subgroups")),
            Item("23b", "Heterogeneity of performance across clusters", ("clusters",)),
            Item("24", "Results of any updating", ("updating",)),
        ),
        "Discussion": (
            Item("25", "Interpretation, with fairness, in the light of other studies"),
            Item("26", "Limitations and what they do to bias, uncertainty, generalizability", ("limitations",)),
            Item("27a", "How poor or missing input is to be handled in use"),
            Item("27b", "What users have to do, and with what expertise"),
            Item("27c", "Next steps for research"),
        ),
    },
)  # fmt: skip
