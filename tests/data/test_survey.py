"""Films looked at before a run: a set that has a fault of each kind shows them all, and negatives are guessed."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cxrjax import defaults
from cxrjax.data import phantom
from cxrjax.data.survey import NONE, SEVERAL, UNKNOWN, looks_inverted, survey


def film(i: int, **findings: float) -> np.ndarray:
    return phantom.render(700 + i, 48, findings).image


@pytest.fixture
def own(tmp_path):
    """A table with one fault of each kind."""
    noted = {
        "a.png": film(0), "b.png": 255 - film(1), "c.png": np.full((40, 60), 9, np.uint8), "d.png": film(2),
        "e.png": film(2), "f.png": film(3).astype(np.uint16) * 16, "g.png": film(4), "h.png": film(5), "i.png": film(6),
    }  # fmt: skip
    for name, pixels in noted.items():
        Image.fromarray(pixels).save(tmp_path / name)
    whole = (tmp_path / "i.png").read_bytes()
    (tmp_path / "i.png").write_bytes(whole[: len(whole) // 2])
    rows = [
        "path,patient,split,age,Mass,Edema", "a.png,1,train,40,0,0", "b.png,2,train,50,1,0", "c.png,3,train,60,0,0",
        "d.png,4,train,,1,0", "e.png,4,test,,0,0", "f.png,5,val,,,1", "g.png,6,train,,1,1", "h.png,,train,,,0",
        "i.png,7,train,,0,1", "gone.png,8,train,,1,0", "a.png,1,train,41,0,0",
    ]  # fmt: skip
    (tmp_path / "films.csv").write_text("\n".join(rows))
    return defaults.data(
        "csv", ("Normal", "Mass"), 48, table=str(tmp_path / "films.csv"), cache=str(tmp_path / "cache")
    )


def test_one_fault_of_each_kind(own, tmp_path):
    found = survey(own)
    assert found.counts == {
        "train": {"Normal": 2, "Mass": 3, NONE: 1, UNKNOWN: 1},
        "val": {"Normal": 0, "Mass": 0, UNKNOWN: 1},
        "test": {"Normal": 1, "Mass": 0},
    }
    assert (found.patients, found.nameless, found.total) == ({"train": 6, "val": 1, "test": 1}, 1, 9)
    assert found.faults["missing"] == ("gone.png",)
    assert found.faults["listed twice and differently"] == ("a.png: age '40.0' and '41.0'",)
    assert found.faults["patients in two parts"][0].startswith("1 patient(s) are in both 'train' and 'test': 4")
    assert found.faults["in two parts, pixel for pixel (data.overlap)"] == ("test/e.png and train/d.png",)
    assert len(found.faults["unreadable, more than data.quarantine_limit allows"]) == 1
    assert found.notes["blank, one gray throughout"] == ("c.png",)
    assert found.notes["inverted, by guess"] == ("b.png",)
    assert found.notes["labeled otherwise than a film that looks the same"] == ("test/e.png and train/d.png",)
    assert found.sizes == {"48 x 48": 7, "40 x 60": 1}
    assert found.bits == {"8 bits": 7, "12 bits": 1}
    assert found.who == {"age": "median 50, quartiles 45 and 55, of 3 films"}
    assert found.sheets["Mass"].films.shape[0] == len(found.sheets["Mass"].keys) == 3
    assert not (tmp_path / "cache").exists()  # nothing was prepared


def test_classes_left_open_are_the_tables_and_what_a_run_drops_is_no_fault(own):
    own.classes, own.overlap, own.quarantine_limit = (), "drop", 0.5
    found = survey(own)
    assert found.classes == ("Mass", "Edema")
    assert found.counts["train"] == {"Mass": 3, "Edema": 2, NONE: 2, SEVERAL: 1, UNKNOWN: 1}
    assert found.films["train"] == 7
    assert all("g.png" in found.sheets[name].keys for name in ("Mass", "Edema"))
    assert not {kind for kind in found.faults if "pixel for pixel" in kind or "unreadable" in kind}


def test_negatives_are_guessed_and_flat_films_are_not():
    films = [film(20 + i, **({"Pneumonia": 0.9} if i % 2 else {})) for i in range(12)]
    assert not any(map(looks_inverted, films))
    assert sum(looks_inverted(255 - one) for one in films) >= 11
    assert not looks_inverted(np.full((64, 64), 7, np.uint8))
