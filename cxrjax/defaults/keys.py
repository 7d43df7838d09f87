"""The keys of a run and of its films, with values that change nothing; `phases` and `studies` hold the others."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict


def section(values: dict[str, Any], changes: dict[str, Any]) -> ConfigDict:
    """`values` with `changes`: of a nested section only the keys named.

    Raises:
      KeyError: a key that `values` lacks, also in a nested section; one that is empty takes any.
    """
    out = ConfigDict(values)
    for key, value in changes.items():
        if key not in out:
            raise KeyError(f"{key!r} is none of {', '.join(out)}")
        if isinstance(value, dict | ConfigDict) and isinstance(out[key], ConfigDict):
            if out[key] and (new := set(value) - set(out[key])):
                raise KeyError(f"{key}.{min(new)} is none of {', '.join(out[key])}")
            out[key].update(value)
        else:
            with out.ignore_type():
                out[key] = value
    return out


def run(**changes: Any) -> ConfigDict:
    """A run, to which a config adds its `data`, its `phases` by name and in order, and its `study`."""
    values = {
        "seed": 0,  # of all chance but that of the films, which is data.seed
        "compile_cache": "~/.cache/cxrjax/jax",  # folder of compiled programs
        "warnings": (),  # sentences that stand over the results
        "mesh": {
            "devices": 0,  # how many share the work; 0 for all
            "fsdp": 1,  # over how many of them the state is split, see `train.mesh.state_shardings`; 1 replicates it
            "distributed": False,  # several processes, found by Slurm's environment or on a TPU pod
            "coordinator": "",  # HOST:PORT of process 0, where nothing finds it
            "num_processes": 0,  # with coordinator
            "process_id": -1,  # with coordinator: this one's
            "local_devices": (),  # with coordinator: numbers of the machine's devices that are its own; () for all
            "join_timeout": 300,  # seconds until processes that have not come are given up
            "missing_timeout": 60,  # seconds without a sign until a process counts as gone
        },
    }
    return section(values, changes)


def data(name: str, classes: tuple[str, ...], size: int, **changes: Any) -> ConfigDict:
    """A data set, see `data.prepare`; keys that its source does not read are left as they are."""
    values = {
        "name": name,  # a key of `data.sources.SOURCES`
        "root": "",  # where its films lie
        "cache": "~/.cache/cxrjax/films",  # folder of prepared films
        "size": size,  # side of a prepared film, pixels
        "seed": 0,  # of carved parts, and of what phantoms look like
        "classes": classes,  # what is learned, in the order of labels and logits; csv and others: () for all there are
        "quarantine_limit": 0.01,  # share of films that may be unreadable
        "carve": {
            "val": 0.1,  # share of the training patients, where the source has no such part
            "test": 0.1,
        },
        "enh": False,  # the films' local-phase features are stored too
        "enh_options": {},  # of `ops.enhance.configure`
        "split": "",  # the source's word for how its films are parted; "" is its first
        "overlap": "stop",  # a film in two parts (kaggle4: or a patient); "drop" leaves it out of the training part
        "others": "keep",  # films that have none or several of the classes, or unknown ones; "drop" leaves them out
        "blank": "keep",  # films of one gray; "quarantine" leaves them out
        "bit_depth": 0,  # bits that 16-bit files hold; 0 for what the brightest film needs
        "external": {},  # films from elsewhere, tested on alone: name -> keys of a data section, see `data.external`
        # Of phantoms.
        "num": {"train": 1500, "val": 120, "test": 256},  # films of each part
        "findings": ("Pneumonia",),  # dealt evenly over the diseased films
        "findings_per_film": 1,  # of a diseased film
        "normal_share": 0.6,  # of the films
        "severity": (0.4, 1.0),  # range that each finding's is drawn from
        "gamma": (1.0, 1.0),  # range of the power that each film's gray is raised to, as of another detector
        # Of sources of real films.
        "present_only": False,  # csv, nih, mimic_cxr, ...: listed films that are not there are left out, and counted
        "strict_lists": True,  # nih: the published lists must be unaltered
        "images": "",  # nih, medianomaly: folder of the films, where it is none of the usual ones
        "label_version": "",  # nih: edition of the labels, where a file does not tell
        "patients_csv": "",  # kaggle4: a CSV with columns path and patient
        "table": "",  # csv: a CSV, a film a row
        "boxes": "",  # csv: a CSV of path, finding and corners x0, y0, x1, y1, or x, y, width, height
        "columns": {  # csv: what the table calls them, in any case; but for path, it may lack them
            "path": "path",  # of the film, from the table's folder or from data.root
            "patient": "patient",
            "split": "split",  # train, val or test
            "label": "label",  # names joined by |, "Normal" for none
            "findings": (),  # a column a class of 1, 0, -1 or nothing; () for all of that kind, if no column label
            "age": "age",  # years
            "sex": "sex",
            "view": "view",  # PA, AP, ...
            "site": "site",  # hospital or collection
        },
        "manifest": "",  # covid3: a CSV with columns path, label, patient
        "labeler": "chexpert",  # mimic_cxr: or "negbio"
        "agree": "majority",  # vindr: how many of a film's readers say what is present; or "any", "all"
        # csv, chexpert, mimic_cxr: an uncertain finding is unknown; "zero" or "one": absent or present
        "uncertain": "mask",
        "limit": 0,  # mimic_cxr, merged: studies taken, in seeded order; 0 for all
        "nih_root": "",  # merged
        "mimic_root": "",  # merged
        "flavor": "pneumoniamnist",  # medmnist: or "chestmnist"
        "official_val": False,  # kermany: the archive's own validation part, of 16 films
    }
    return section(values, changes)
