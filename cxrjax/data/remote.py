"""Shards of films, decoded on the machines of a Ray cluster: a task a shard, given to another worker where one dies."""

from __future__ import annotations

import importlib
import os
import socket
from pathlib import Path
from typing import Any

from rich.console import Console

from cxrjax import console
from cxrjax.data import preparation, shards
from cxrjax.errors import UserError

RETRIES = 5
A_CPU = 4  # shards a CPU of the cluster, so that none waits long for the last one


def prepare(data: Any, address: str, count: int, command: str = "launch/prepare.py") -> preparation.Prepared:
    """Prepares a data set on a Ray cluster; every machine of it sees the films and `data.cache` at the same paths.

    Args:
      data: `config.data`.
      address: of the cluster; "" for the one of RAY_ADDRESS, or else this machine.
      count: of shards; 0 for that of an earlier try, or else four a CPU of the cluster.
      command: to go on with, for messages.

    Raises:
      UserError: as `preparation.prepare`; Ray is missing or cannot be reached, or a worker died time after time.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody unasked
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise UserError(f"--ray needs Ray ({error}): pip install 'cxrjax[ray]'") from error
    begun = preparation.begun(data)  # mistakes are told before a cluster is begun
    try:
        ray.init(address or None, include_dashboard=None if address else False, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"--ray={address}: no Ray cluster answers there ({' '.join(str(error).split())})") from error
    try:
        count = count or max(begun, default=0) or A_CPU * max(1, int(ray.cluster_resources().get("CPU", 1)))
        task = ray.remote(num_cpus=1, max_retries=RETRIES)(_one)
        waiting = {task.remote(data, shards.Shard(i, count), os.getcwd()): i for i in range(count)}
        with console.progress(Console(stderr=True), transient=True) as bar:
            line = bar.add_task("shards of films", total=count, note="")
            while waiting:
                (ready, *_), _ = ray.wait(list(waiting), num_returns=1)
                _result(ray, ready, shards.Shard(waiting.pop(ready), count))
                bar.advance(line)
    finally:
        ray.shutdown()
    return preparation.merge(data, command)


def _result(ray: Any, ready: Any, shard: shards.Shard) -> None:
    try:
        ray.get(ready)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise UserError(f"shard {shard}: {error.cause}") from error
        raise
    except ray.exceptions.RayError as error:
        raise UserError(
            f"shard {shard}: its worker died {RETRIES + 1} times ({' '.join(str(error).split())[:300]}); the same "
            "command goes on with what is not done"
        ) from error


def _one(data: Any, shard: shards.Shard, folder: str) -> shards.Done | None:
    """On a worker: one shard, its paths relative to `folder` as they are to the command."""
    if not Path(folder).is_dir():
        raise UserError(f"{socket.gethostname()} has no folder {folder}: every machine must see the same paths")
    os.chdir(folder)
    console.be_quiet()
    return preparation.prepare_shard(data, shard)
