"""Arms that could not be run are refused before any training, by name and key."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path
from typing import Any

import pytest

from cxrjax.errors import UserError
from cxrjax.infer import arms, treat
from cxrjax.ops import guidance
from cxrjax.studies.treatment import solvers, study
from cxrjax.tasks import TASKS

PATH = Path(__file__).resolve().parents[2] / "configs" / "ddpm_cam.py"


def config(**arm: Any) -> Any:
    """The whole study with one arm, `odd`."""
    c = runpy.run_path(str(PATH))["get_config"]("study")
    with c.unlocked():
        c.study.arms = {"odd": arm}
    c.study.modes = ("uniform", "time_gated_hard", "odd")
    return c


def test_an_arm_is_the_studys_with_its_changes():
    c = config(mode="time_gated", source="fcn_map", map_phase="locator", every=2, stride=20, eta=0.5)
    study.check(c)
    plain, hard, odd = arms.of(c.study)
    assert (plain.mode, hard.mode, hard.mask.hard) == ("uniform", "time_gated", True)
    assert odd == plain._replace(
        name="odd", mode="time_gated", mask=plain.mask._replace(phase="locator", source="fcn_map"), every=2,
        sampler=plain.sampler._replace(stride=20, eta=0.5),
    )  # fmt: skip


def test_a_new_mode_is_a_row_and_no_other_file_is_asked(monkeypatch):
    def own(case: Any, *, scale: float = 3.0) -> Any:
        return scale * case.x0

    row = guidance.Mode("tripled", own=own, sees=True, rival=True, cost=lambda steps, lam, scale: 3 * steps(lam))
    monkeypatch.setitem(guidance.MODES, "tripled", row)
    c = config(mode="tripled", scale=2.0)
    study.check(c)
    *_, odd = arms.of(c.study)
    assert odd.options == (("scale", 2.0),)
    program = treat.program_of(odd)
    assert (program.mode, program.options, program.asked) == ("tripled", odd.options, c.study.cam_phase)
    assert arms.told(odd) == {"mode": "tripled", "masked": True, "guided": False, "rival": True}
    assert guidance.evaluations("tripled", 500, odd.sampler._replace(stride=40), {}) == 39
    assert guidance.code("tripled") == len(guidance.MODES) - 1
    with pytest.raises(UserError, match="has 'scal'; did you mean 'scale'"):
        study.check(config(mode="tripled", scal=2.0))


def test_no_file_but_the_table_names_a_mode():
    """`uniform` apart, the baseline; and the looks and defaults that some modes have beside it."""
    folder, named = Path(guidance.__file__).parents[1], set(guidance.MODES) - {"uniform"}
    for room in ("infer", "studies", "tasks", "phases"):
        for path in (folder / room).rglob("*.py"):
            tree = ast.parse(path.read_text())
            words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
            found = words & named - ({"time_gated"} if path.name == "finished.py" else set())  # the default of `treat`
            assert not found, f"{path}: {found}"


@pytest.mark.parametrize(
    ("arm", "words"),
    [
        ({"mode": "per_pixel_time"}, r"odd: mode per_pixel_time needs a diffusion trained with time = 'map'"),
        ({"mode": "uniform", "diffusion_phase": "diffusion_map"}, "needs a diffusion trained with time = 'scalar'"),
        ({"mode": "uniform", "diffusion_phase": "judge"}, "'judge' is no diffusion"),
        ({"mode": "time_gated", "source": "cam"}, "'cam' needs a head without hidden layers"),
        ({"mode": "time_gated", "source": "fcn_map"}, "'fcn_map' needs a fully convolutional classifier"),
        ({"mode": "time_gated", "source": "gradcm"}, "did you mean 'gradcam'"),
        ({"mode": "time_gated", "source": "latent_gradcam"}, "does not go with classifier"),
        ({"mode": "time_gated", "map_phase": "locater"}, "map_phase 'locater' is none of the phases"),
        ({"mode": "time_gated", "source": "anomaly", "every": 2}, "every = 2"),
        (
            {"mode": "time_gated", "source": "anomaly", "anomaly_lambda": 701},
            r"expected 1 \.\.\. 700",
        ),
        ({"mode": "time_gated", "source": "anomaly", "anomaly_lambda": 0}, "anomaly_lambda = 0"),
        ({"mode": "per_pixel_time", "diffusion_phase": "diffusion_map", "source": "anomaly"}, "walks uniformly first"),
        ({"mode": "per_pixel_time", "diffusion_phase": "diffusion_map", "resamples": 2}, "without resampling"),
        ({"mode": "time_gated", "sampler": "dpmpp_2m", "resamples": 2}, "cannot redo it"),
        ({"mode": "time_gated", "sampler": "heun"}, "'heun' is none of"),
        ({"mode": "time_gated", "spacing": "cubic"}, "'cubic'"),
        ({"mode": "time_gated", "pool": "median"}, "expected max or mean"),
        ({"mode": "thor", "sampler": "dpmpp_2m"}, "thor walks by ancestral or ddim"),
        ({"mode": "thor", "every": 2}, "in uniform, noise_matrix, time_gated alone"),
        ({"mode": "time_gated", "restart": 0.5}, "has 'restart'"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(arm, words):
    with pytest.raises(UserError, match=words):
        study.check(config(**arm))


def test_lambdas_beyond_the_training_are_refused():
    c = config(mode="time_gated")
    c.study.lambdas = (100, 900)
    with pytest.raises(UserError, match=r"each must lie in 1 \.\.\. 700"):
        study.check(c)


@pytest.mark.parametrize("changes", [{"t_max": 1001}, {"num_timesteps": 500}, {"t_max": -1}])
def test_times_that_the_schedule_has_not_are_refused(changes):
    c = config(mode="time_gated")
    c.diffusion.update(changes)  # of the config's 1,000 times and t_max = 700
    with pytest.raises(UserError, match=r"t_max = -?\d+: expected 1 \.\.\. (1000|500), the times of num_timesteps"):
        study.check(c)
    with pytest.raises(UserError, match="t_max"):
        TASKS["ddpm"](c.diffusion, ("Normal", "Pneumonia"))


def test_a_comparison_of_solvers_that_could_not_be_run_is_refused():
    c = config(mode="time_gated")
    for changes, words in (
        ({"mode": "time_gatd"}, "time_gatd"),
        ({"names": ("ddim", "heun")}, "heun"),
        ({"lambda": 800}, "at most 700"),
        ({"evaluations": (5, 900)}, r"evaluations \(5, 900\)"),
    ):
        broken = c.copy_and_resolve_references()
        broken.study.solvers.update(changes)
        with pytest.raises(UserError, match=words):
            solvers.check(broken)
