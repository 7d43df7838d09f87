"""The cases of training at the papers' sizes: some steps of a phase of each `:paper` config, on drawn films."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from benches.timing import Case, Row, rates, stepped

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
# config -> the phase whose network is the paper's own.
PHASES = {
    "cgan": "gan", "ddpm_cam": "diffusion", "latent_ddpm_cam": "diffusion", "fcn_densenet": "fcn",
    "pneumonia_study": "head2048", "kaggle4": "cnn5", "phase_loss": "enh_categorical", "cdcgan": "gan",
    "anoddpm": "simplex", "medmnist": "resnet50",
}  # fmt: skip


def case(name: str, phase: str) -> Case:
    """The case of one phase of a config."""

    def measure(repeats: int, *, variant: str = "paper", batch: int = 0, steps: int = 10) -> list[Row]:
        import jax
        import numpy as np

        from cxrjax.infer import finished
        from cxrjax.phases import members
        from cxrjax.tasks import TASKS

        config = _config(name, variant)
        own = config[phase]
        size = batch or own.batch
        classes = finished.classes_of(config, phase)
        blank = members.example_of(config, phase, size)
        rng, shape = np.random.default_rng(0), blank.label.shape
        films = blank.replace(
            image=rng.random(blank.image.shape, np.float32), valid=np.ones(size, np.float32),
            label=np.eye(shape[1], dtype=np.float32)[np.arange(size) % shape[1]],
            index=np.arange(size, dtype=np.int32),
        )  # fmt: skip
        placed, key = jax.device_put(films), jax.random.key(0)
        task = TASKS[own.task](own, classes)
        state = jax.jit(task.init)(key, placed)
        dtype = own.net.get("dtype", "float32")
        timed = stepped(
            lambda *given: task.step(*given)[0], state, placed, key, items=size * steps, dtype=dtype, calls=steps
        )
        words = f"cxrjax, {name}:{variant} {phase}, batches of {size} films of {config.data.size} px, {dtype}"
        return rates({words: timed}, repeats, "films/s")

    words = f"Steps of `{phase}` of configs/{name}.py:paper on drawn films."
    return Case(measure, words, {"variant": "smoke", "batch": 2, "steps": 1}, card=True)


def _config(name: str, variant: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"configs_{name}", CONFIGS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(variant)


CASES = {f"paper_{name}": case(name, phase) for name, phase in PHASES.items()}
