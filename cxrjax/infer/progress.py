"""Films of one's own, treated by an arm of a finished run: arrays at one lambda, or files at several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from cxrjax.errors import UserError
from cxrjax.infer import films as door
from cxrjax.infer import masks, treat
from cxrjax.infer.arms import Arm
from cxrjax.infer.batches import in_batches
from cxrjax.infer.classifier import NORMAL, Classifier
from cxrjax.infer.diffusion import Diffusion
from cxrjax.ops import guidance
from cxrjax.types import Array

BATCH = 16


class Treated(NamedTuple):
    """Films after a treatment; synthetic, and no prognosis.

    Attributes:
      films: (n, size, size) float32 in [0, 1], at the run's size.
      mask: (n, size, size) float32 in [0, 1], where they were treated.
      own: each film at its own size, its change at the run's size enlarged and added; None unless asked for.
    """

    films: np.ndarray
    mask: np.ndarray
    own: list[np.ndarray] | None


class Progress(NamedTuple):
    """One film from a file, treated at rising lambdas; synthetic, and no prognosis.

    Attributes:
      path: its file.
      fault: why it was not treated; "" where it was, and only then the rest is set.
      film: (size, size) float32 in [0, 1], before treatment.
      mask: (size, size) float32 in [0, 1], where it was treated.
      treated: (lambdas, size, size) float32 in [0, 1].
      original: (h, w) float32 in [0, 1], at its own size.
      own: (lambdas, h, w) float32 in [0, 1], the changes enlarged and added.
      normal: by judge, (1 + lambdas,) the probability of Normal, untreated first.
    """

    path: Path
    fault: str = ""
    film: np.ndarray = np.zeros((0, 0), np.float32)
    mask: np.ndarray = np.zeros((0, 0), np.float32)
    treated: np.ndarray = np.zeros((0, 0, 0), np.float32)
    original: np.ndarray = np.zeros((0, 0), np.float32)
    own: np.ndarray = np.zeros((0, 0, 0), np.float32)
    normal: dict[str, np.ndarray] = {}  # noqa: RUF012


class Treatment(NamedTuple):
    """An arm of a finished run, ready to treat films.

    Attributes:
      arm: which.
      longest: lambda at most.
      size: side of the run's films.
      depth: bits that the run took its 16-bit files to hold; 0 for each file's own.
      mesh: the devices.
      seeing: the classifier that draws its masks, by phase.
      judges: the run's classifiers of Normal, by role.
      walks: `treat.compiled` of the arm and of a uniform pass, by program.
    """

    arm: Arm
    longest: int
    size: int
    depth: int
    mesh: Mesh
    seeing: Mapping[str, Classifier]
    judges: Mapping[str, Classifier]
    walks: Mapping[treat.Program, Callable[..., Array]]

    def check(self, lambdas: Sequence[int]) -> None:
        """Raises UserError where the diffusion was not trained for one of these."""
        for lam in lambdas:
            if not 1 <= lam <= self.longest:
                known = f"1 ... {self.longest}, the times that {self.arm.diffusion} is trained for"
                raise UserError(f"lam is {lam}: expected {known}")

    def treat(
        self, image: np.ndarray, lambdas: Sequence[int], keys: np.ndarray, batch: int = BATCH
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Masks (n, size, size) and, for each lambda, treated films (n, size, size), of films (n, size, size, 1).

        Raises:
          UserError: as `check`; a map is not finite.
        """
        self.check(lambdas)
        batch = min(batch, len(image))

        def residual(strength: int) -> np.ndarray:
            return np.abs(walked(_uniform(self.arm), np.zeros_like(image), strength) - image)[..., 0]

        def walked(arm: Arm, mask: np.ndarray, lam: int) -> np.ndarray:
            program, ones = treat.program_of(arm), np.ones(len(image), np.int32)
            rows = treat.Rows(
                image, mask, treat.lungs_for(program, image), lam * ones, int(arm.sampler.stride) * ones,
                guidance.code(arm.mode) * ones, keys,
            )  # fmt: skip
            return in_batches(self.mesh, batch, self.walks[program], *rows)

        mask = masks.make((self.arm.mask,), self.seeing, image, self.mesh, batch, residual)[self.arm.mask]
        return mask[..., 0], [walked(self.arm, mask, lam)[..., 0] for lam in lambdas]

    def films(
        self, paths: Sequence[str | Path], lambdas: Sequence[int], seed: int = 0, batch: int = BATCH
    ) -> Iterator[Progress]:
        """Films from files, each at every lambda, in order; one that cannot be read carries its fault.

        Raises:
          UserError: as `treat`.
        """
        self.check(lambdas)
        keys, start = treat.keys_of(seed, len(paths)), 0
        for part in door.stream(paths, self.size, self.depth, batch):
            read = [i for i, one in enumerate(part) if one.pixels is not None]
            done = iter(self._batch([part[i] for i in read], lambdas, keys[[start + i for i in read]], batch))
            start += len(part)
            for one in part:
                yield Progress(one.path, one.fault) if one.pixels is None else self._at_own_size(next(done))

    def _batch(
        self, part: Sequence[door.Read], lambdas: Sequence[int], keys: np.ndarray, batch: int
    ) -> Iterator[Progress]:
        if not part:
            return
        image = door.read(np.stack([one.pixels for one in part if one.pixels is not None]), self.size)
        mask, treated = self.treat(image, lambdas, keys, batch)
        normal = self._normal(np.stack([image[..., 0], *treated]))
        for i, one in enumerate(part):
            judged = {name: value[:, i] for name, value in normal.items()}
            yield Progress(one.path, "", image[i, ..., 0], mask[i], np.stack([f[i] for f in treated]), normal=judged)

    def _normal(self, films: np.ndarray) -> dict[str, np.ndarray]:
        """By judge, (m, n) probabilities of Normal of films (m, n, size, size)."""
        m, n = films.shape[:2]
        flat = films.reshape(m * n, *films.shape[2:])
        return {name: judge.predict(flat)[NORMAL].reshape(m, n) for name, judge in self.judges.items()}

    def _at_own_size(self, one: Progress) -> Progress:
        (original,) = door.originals(one.path, self.depth)
        return one._replace(original=original, own=np.stack([added(original, f - one.film) for f in one.treated]))


def added(film: np.ndarray, change: np.ndarray) -> np.ndarray:
    """A film (h, w) with a change (size, size) enlarged and added, float32 in [0, 1]."""
    return np.clip(film + door.resize(change, *film.shape), 0, 1).astype(np.float32)


def of(
    arm: Arm, longest: int, size: int, depth: int, mesh: Mesh, diffusions: Mapping[str, Diffusion],
    seeing: Mapping[str, Classifier], judges: Mapping[str, Classifier],
) -> Treatment:  # fmt: skip
    """A treatment by an arm of a run; see `Treatment`."""
    programs = {treat.program_of(a) for a in (arm, _uniform(arm))}
    walks = {program: treat.compiled(program, diffusions, seeing) for program in programs}
    return Treatment(arm, longest, size, depth, mesh, seeing, judges, walks)


def _uniform(arm: Arm) -> Arm:
    """The pass whose residual is a mask."""
    return arm._replace(mode="uniform", every=0, paste=False, options=())
