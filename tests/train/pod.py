"""One process of a pod of processors, for `test_pod.py`: `pod.py INDEX COUNT PORT DEVICES FOLDER`.

`train` is what both a pod and a single process do; the others are what a pod alone can show.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def train(folder: Path, devices: int = 0, steps: int = 4, fsdp: int = 1) -> dict[str, Any]:
    """Trains a tiny classifier and a tiny diffusion on drawn films, the diffusion's state split over `fsdp` devices.

    The classifier is evaluated too. Compiling is what this costs: the networks are as small as they can be.
    """
    import jax
    import numpy as np

    from cxrjax import data, defaults
    from cxrjax.tasks import TASKS
    from cxrjax.train import log as logs
    from cxrjax.train import loop
    from cxrjax.train import mesh as meshes
    from cxrjax.types import Batch

    folder.mkdir(parents=True, exist_ok=True)
    films = defaults.data("phantom", ("Normal", "Pneumonia"), 16, cache=str(folder.parent / "films"))
    films.num.update({"train": 16, "val": 12, "test": 2})
    prepared = data.prepare(films)
    shard = jax.process_index(), jax.process_count()
    tiny = {"name": "resnet_tiny", "blocks": (1,), "widths": (8,), "dropout": 0.2}
    unet = {"name": "unet_tiny", "base": 8, "mults": (1,), "groups": 4, "patch": 2, "updown": "plain"}
    times: dict[str, Any] = {"log_every": 2, "eval_every": 2, "save_every": 2}
    phases = {
        "classify": defaults.classify(tiny, defaults.optim("adam", 3e-3), steps, 8, noise=0.1, ema=0.9),
        "ddpm": defaults.diffusion(unet, defaults.optim("adam", 1e-3), steps, 8, ema=0.9),
    }
    out = {}
    with logs.Log(folder) as log:
        for name, config in phases.items():
            mesh = meshes.make(devices, fsdp if name == "ddpm" else 1)
            task = TASKS[config.task](config, ("Normal", "Pneumonia"))
            state = loop.fit(
                task, loop.Phase(name, steps, **times),
                stream=data.batches(
                    prepared, "train", classes=("Normal", "Pneumonia"), batch_size=8, seed=1, shard=shard,
                    augment=("flip",),
                ),
                evals=None if name == "ddpm" else lambda: data.eval_batches(
                    prepared, "val", classes=("Normal", "Pneumonia"), batch_size=8, shard=shard
                ),
                example=Batch.blank(mesh.size, 16, 2), workdir=folder, mesh=mesh, key=jax.random.key(7), log=log,
            )  # fmt: skip
            whole = meshes.replicate(mesh, state.params)
            out[name] = [float(np.abs(np.asarray(x)).sum()) for x in jax.tree.leaves(whole)]
            out[f"{name} bytes"] = shares(state)
        out["evaluations"] = log.evaluations("classify")
    return out


def shares(state: Any) -> dict[str, int]:
    """Bytes of a state, and of its part on one device."""
    import jax

    leaves = [x for x in jax.tree.leaves((state.params, state.opt, state.ema)) if hasattr(x, "sharding")]
    one = [x.addressable_shards[0].data.nbytes for x in leaves]
    return {"whole": sum(x.nbytes for x in leaves), "device": sum(one)}


def talk() -> dict[str, Any]:
    """What processes say to one another."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from cxrjax.errors import UserError
    from cxrjax.train import mesh as meshes
    from cxrjax.train import processes

    index, mesh = jax.process_index(), meshes.make()
    placed = meshes.replicate(mesh, (jax.random.key(3), jnp.ones(3), np.arange(4, dtype=np.float32)))
    draw = jax.jit(lambda key, a, b: jax.random.uniform(key) + a.sum() + b.sum())(*placed)
    out: dict[str, Any] = {
        "gathered": processes.gather({"index": index, "long": "x" * 500 * index}),
        "first": processes.first(lambda: f"process {index}"),
        "agree": [processes.agree(True), processes.agree(index == 0)],
        "draw": float(draw),
    }
    for name, fails in (("told", 1), ("decided", 0)):
        try:
            processes.together(lambda fails=fails: _fail(index) if index == fails else "well")
        except UserError as error:
            out[name] = str(error)
    return out


def _fail(index: int) -> None:
    from cxrjax.errors import UserError

    raise UserError(f"no disk at {index}")


def main(index: int, count: int, port: int, devices: int, folder: Path) -> None:
    """Everything that a pod can show, as JSON in `folder`."""
    os.environ |= {"PJRT_NPROC": "16", "JAX_PLATFORMS": "cpu"}
    os.environ["XLA_FLAGS"] = (
        f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=1"  # as in conftest.py
    )
    import jax

    from cxrjax.defaults import keys
    from cxrjax.train import cluster
    from cxrjax.train import mesh as meshes

    meshes.SMALL = 64  # the networks are tiny, and their leaves are to be split
    jax.config.update("jax_threefry_partitionable", True)
    mesh = keys.run().mesh
    mesh.update({"coordinator": f"127.0.0.1:{port}", "num_processes": count, "process_id": index})
    cluster.join(mesh)
    out = talk() | {"trained": train(folder, fsdp=count * devices)}
    (folder.parent / f"{index}.json").write_text(json.dumps(out))


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:5]), Path(sys.argv[5]))  # type: ignore[arg-type]
