"""Whether a treated film is still this patient's, by a network that was trained to tell patients apart, and how well
that network does on held-out patients, beside correlation of pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from cxrjax.data import pairs
from cxrjax.errors import UserError
from cxrjax.infer import identity as networks
from cxrjax.metrics import bootstrap, entries, identity
from cxrjax.phases import Context
from cxrjax.studies.tables import Table, table
from cxrjax.types import Results

TASK = "identify"
MOST = 200  # held-out patients that it is tried on
TRAINED, PIXELS = "network", "pixels"
WORDS = {TRAINED: "trained network", PIXELS: "correlation of pixels"}


def check(config: Any) -> None:
    """Raises UserError where `study.identity_phase` names no such phase."""
    name = config.study.identity_phase
    known = [phase for phase in config.phases if config[phase].task == TASK]
    if name and name not in known:
        raise UserError(f"study.identity_phase = {name!r}: expected a phase of task {TASK!r} "
                        f"({', '.join(known) or 'there is none'}), or '' for correlation of pixels")  # fmt: skip


def network(context: Context) -> networks.Identifier | None:
    """The network of `study.identity_phase`; None where none is named."""
    name = context.config.study.identity_phase
    return networks.of(context.config[name], context.states[name], context.mesh) if name else None


def run(context: Context) -> tuple[Results, str]:
    """How well films of one held-out patient are told from those of two, and what a page says of it.

    Returns:
      by way (`WORDS`): `auroc`, `first` (the share of films whose nearest of the others' second films is its own
      patient's) and, of the network, `minus_pixels`, the paired difference of AUROC; empty where no network is named,
      or fewer than two held-out patients have several films. And the sentence.
    """
    trained = network(context)
    if trained is None:
        return {}, "Re-identification is by correlation of pixels: study.identity_phase names no network."
    several = pairs.of(context.films, context.films.held_out)
    chosen = np.random.default_rng(context.config.seed).permutation(len(several.groups))[:MOST]
    if len(chosen) < 2:
        return {}, ("Re-identification is by a trained network of unknown worth: fewer than two held-out patients have "
                    "several films.")  # fmt: skip
    both = np.stack([several.pair(int(group)) for group in chosen]) * np.float32(1 / 255)  # (n, s, s, 2)
    one, other = (trained.embed(both[..., i : i + 1], context.config.study.batch) for i in (0, 1))
    found = figures({
        TRAINED: identity.similarity(one, other), PIXELS: identity.correlation(both[..., 0], both[..., 1]),
    }, context.config.seed)  # fmt: skip
    a, b = (found[way]["auroc"]["value"] for way in (TRAINED, PIXELS))
    return found, (
        "Re-identification is by a trained network, which tells held-out films of one patient from those of two with "
        f"an AUROC of {a:.3f} (correlation of pixels: {b:.3f})."
    )


def figures(like: dict[str, np.ndarray], seed: int = 0) -> Results:
    """The figures of `run`, of likenesses (n, n) of first films with second ones, by way."""
    values = {way: identity.verification(x) for way, x in like.items()}
    drawn = {way: identity.verification_draws(x, seed=seed) for way, x in like.items()}  # of the same resamples
    n = len(like[TRAINED])
    out: Results = {
        way: {
            "auroc": entries.entry(*bootstrap.area(values[way], drawn[way]), n=n, unit="1"),
            "first": entries.rate(identity.ranks_in(like[way]) == 1),
        }
        for way in like
    }
    gap = bootstrap.percentiles(values[TRAINED] - values[PIXELS], drawn[TRAINED] - drawn[PIXELS])
    out[TRAINED]["minus_pixels"] = entries.entry(*gap, n=n, unit="1")
    return out


def tables(found: Results, phase: str) -> list[Table]:
    """Both ways of telling patients apart, on held-out patients; none where there are no figures."""
    if not found:
        return []
    rows = [(WORDS[way], [entry["auroc"], entry["first"], entry.get("minus_pixels")]) for way, entry in found.items()]
    note = (
        "Two films of each held-out patient (of phantoms, one drawn again, otherwise placed, exposed and grained, "
        "half of the diseased without their finding), those of one patient against those of two; intervals by "
        f"resampling patients. Re-identification on this page is by the network ({phase}): a treated film counts where "
        "its own film is the nearest of all. It rewards keeping what tells a patient from others, and doing nothing."
    )
    columns = ["AUROC, one patient against two", "nearest is the own patient", "AUROC minus that of pixels, paired"]
    return [table("Who tells patients apart", note, columns, rows)]
