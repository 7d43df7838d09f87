"""The phases of a learning curve: every start's recipe on every size, each chain kept to itself."""

from __future__ import annotations

from cxrjax import defaults


def test_each_start_goes_through_its_recipe_on_each_size():
    net = {"name": "efficientnet_lite_tiny"}
    recipes = {start: defaults.transfer(start, net, 9, 5, weights=file) for start, file in {"a": "", "b": "x"}.items()}
    found = defaults.curve(recipes, (64, 0))
    assert list(found) == [
        "a_0064_head", "a_0064", "b_0064_head", "b_0064", "a_all_head", "a_all", "b_all_head", "b_all",
    ]  # fmt: skip
    assert [found[name].patients for name in found] == [64] * 4 + [0] * 4
    assert [(name, found[name].carry) for name in ("b_0064_head", "b_0064", "b_all")] == [
        ("b_0064_head", ""), ("b_0064", "b_0064_head"), ("b_all", "b_all_head"),
    ]  # fmt: skip
    assert (found["a_0064_head"].weights, found["b_0064_head"].weights, found["b_0064"].weights) == ("", "x", "")
    found["b_0064"].optim.lr = 7.0
    assert found["b_all"].optim.lr == recipes["b"]["b"].optim.lr != 7.0


def test_the_points_that_a_study_reads_are_the_last_of_each_recipe():
    study = defaults.comparison({"a": "A"}, curve={"starts": (("random", "R"), ("file", "F")), "sizes": (64, 1024, 0)})
    points = defaults.points(study.curve)
    assert points["file", 64] == "file_0064"
    assert sorted(points.values()) == [
        f"{start}_{size}" for start in ("file", "random") for size in ("0064", "1024", "all")
    ]
