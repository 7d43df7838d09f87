"""The phases of a learning curve: every start's recipe on every size, each chain kept to itself."""

from __future__ import annotations

from cxrjax import defaults


def _recipe(**last):
    head = defaults.classify({"name": "resnet_tiny"}, defaults.optim("adam", 1e-2), 2, 8)
    whole = defaults.classify({"name": "resnet_tiny"}, defaults.optim("adam", 1e-3), 3, 8, carry="head")
    return {"head": head, "whole": whole} if not last else {"all": defaults.classify(**last)}


def test_each_start_goes_through_its_recipe_on_each_size():
    alone = {"net": {"name": "resnet_tiny"}, "optimizer": defaults.optim("adam", 1e-3), "steps": 5, "batch": 8}
    found = defaults.curve({"random": _recipe(**alone), "file": _recipe()}, (64, 0))
    assert list(found) == [
        "random_0064", "file_0064_head", "file_0064", "random_all", "file_all_head", "file_all",
    ]  # fmt: skip
    assert [found[name].patients for name in found] == [64, 64, 64, 0, 0, 0]
    assert (found["file_0064"].carry, found["file_all"].carry, found["random_all"].carry) == (
        "file_0064_head", "file_all_head", "",
    )  # fmt: skip
    found["file_0064"].optim.lr = 7.0
    assert found["file_all"].optim.lr == 1e-3


def test_the_points_that_a_study_reads_are_the_last_of_each_recipe():
    study = defaults.comparison({"a": "A"}, curve={"starts": (("random", "R"), ("file", "F")), "sizes": (64, 1024, 0)})
    points = defaults.points(study.curve)
    assert points["file", 64] == "file_0064"
    assert sorted(points.values()) == [
        f"{start}_{size}" for start in ("file", "random") for size in ("0064", "1024", "all")
    ]
