"""A finished run: what it holds, and its trained networks, read from its workdir."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cxrjax import files
from cxrjax.errors import UserError, did_you_mean, lookup
from cxrjax.infer import arms, autoencoder, classifier, diffusion, generator, predict, progress, treat
from cxrjax.infer import films as door
from cxrjax.infer.progress import Treated, Treatment
from cxrjax.ops import augment, guidance
from cxrjax.tasks import TASKS, ddpm
from cxrjax.train import mesh as meshes
from cxrjax.train.checkpoint import Checkpoints
from cxrjax.types import Batch, Results, State

# Keys of a phase that say how it is trained, and not how its network is fed or read.
TRAINED_BY = frozenset((
    "optim", "optim_d", "steps", "batch", "eval_batch", "log_every", "eval_every", "save_every", "only", "carry",
    "carry_opt", "augment", "balance", "weights", "weights_head", "weights_classes", "optim_from", "from_run", "given",
    "class_weight", "label_smoothing", "focal_gamma", "backbone_stats", "classifier", "perceptual", "adversarial", "kl",
    "adversarial_from", "drop", "patients", "cached", *augment.Ranges._fields,
))  # fmt: skip
# The roles that a treatment study gives its classifiers, and the keys of `study` that name their phases.
ROLES = {"independent": "judge_phase", "cam_network": "cam_phase"}


class Run(NamedTuple):
    """A run that has ended.

    Attributes:
      workdir: its folder.
      config: its config.
      devices: those that its networks are brought to; one device where it is None.
    """

    workdir: Path
    config: Any
    devices: Mesh | None = None

    @property
    def mesh(self) -> Mesh:
        """The devices; looked for when they are needed, since a launcher may still have to join other processes."""
        return self.devices or meshes.make(1 if jax.process_count() == 1 else 0)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of its films."""
        return tuple(self.config.data.classes)

    @property
    def manifest(self) -> dict[str, Any]:
        """manifest.json: command, versions, choices, and what its films were."""
        return files.read_json(self.workdir / "manifest.json")

    @property
    def depth(self) -> int:
        """Bits that its 16-bit films were taken to hold; 0 where there were none."""
        return self.manifest.get("data", {}).get("bit_depth", 0)

    @property
    def results(self) -> Results:
        """results.json: every figure with its interval."""
        return files.read_json(self.workdir / "results.json", "run its command again, which makes it again")

    @property
    def classifiers(self) -> tuple[str, ...]:
        """The names that `classifier` takes: phases, a fold or seed of one, and the roles of a treatment study."""
        phases = [name for name in self.config.phases if self.config[name].task in classifier.TASKS]
        return (*(name for phase in phases for name in member_names(self.config, phase)), *self.roles)

    @property
    def roles(self) -> dict[str, str]:
        """The phases of a treatment study's classifiers, by role."""
        study = self.config.study
        return {role: study[key] for role, key in ROLES.items() if study.get(key, "") in self.config.phases}

    def phase_of(self, *tasks: str, name: str = "") -> str:
        """The phase that has one of these tasks: the one asked for, or the only one.

        Raises:
          UserError: there is none, or there are several and none is asked for.
        """
        names = [phase for phase in self.config.phases if self.config[phase].task in tasks]
        words = " or ".join(map(repr, tasks))
        if name:
            if name not in names:
                raise UserError(f"{self.workdir} has no phase {name!r} of task {words}{did_you_mean(name, names)}")
            return name
        if len(names) != 1:
            raise UserError(f"{self.workdir} has {len(names)} phases of task {words} ({', '.join(names)}); name one")
        return names[0]

    def state(self, name: str) -> State:
        """The state that a phase, or one fold or seed of it, ended with, on every device.

        Raises:
          UserError: no such phase; its checkpoints are missing, damaged, or of another configuration.
        """
        phase = self._phase_with(name)
        config = self.config[phase]
        if config.get("from_run", ""):
            return load(config.from_run, self.devices).state(phase)
        folder = self.workdir / "checkpoints" / name
        if not folder.is_dir():
            raise UserError(f"{folder} is missing; the run's checkpoints are needed, not its report alone")
        channels = 3 if reads_features(self.config, phase) else 1
        classes = classes_of(self.config, phase)
        example = Batch.blank(self.mesh.size, self.config.data.size, len(classes), channels)
        abstract = jax.eval_shape(TASKS[config.task](config, classes).init, jax.random.key(0), example)
        shardings = meshes.state_shardings(self.mesh, abstract)
        target = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), abstract, shardings)
        best = tuple(config.metric) if config.select == "best" else None
        with Checkpoints(folder, best=best, read_only=True) as checkpoints:
            found = checkpoints.restore_best(target) if best else checkpoints.restore(target)
        if found is None:
            raise UserError(f"{folder} holds no checkpoint; restore the folder from a copy")
        return found.state

    def _phase_with(self, name: str) -> str:
        phases = {member: phase for phase in self.config.phases for member in member_names(self.config, phase)}
        return lookup(phases, name, f"a phase of {self.workdir}")

    def classifier(self, name: str = "") -> classifier.Classifier:
        """A trained classifier.

        Args:
          name: one of `classifiers`; may be left out where there is one `last_classifier`.

        Raises:
          UserError: no such classifier, or several and no name.
        """
        phase, name = self.trained(name)
        enh = self.config.data.enh_options.to_dict() if reads_features(self.config, phase) else None
        return classifier.of(
            self.config[phase], self.state(name), classes_of(self.config, phase), self.config.data.size, self.mesh,
            source=f"phase {name} of {self.workdir}", enh=enh, depth=self.depth,
        )  # fmt: skip

    def trained(self, name: str = "") -> tuple[str, str]:
        """The phase of a classifier, and its training there: the phase's own, or a fold or seed; as `classifier`."""
        name = self.roles.get(name, name) or self.last_classifier()
        lookup(dict.fromkeys(self.classifiers), name, f"a classifier of {self.workdir}")
        return self._phase_with(name), name

    def last_classifier(self) -> str:
        """The phase of the only classifier that no other goes on from, as a fine-tuning does from its head.

        Raises:
          UserError: there is none, or there are several.
        """
        phases = [phase for phase in self.config.phases if self.config[phase].task in classifier.TASKS]
        carried = {self.config[phase].get("carry", "") for phase in phases}
        last = [phase for phase in phases if phase not in carried]
        if len(last) != 1:
            which = f" ({', '.join(last)}): name one (of a command: --classifier)" if last else ""
            raise UserError(f"{self.workdir} has {len(last)} classifiers{which}")
        return last[0]

    def members(self, phase: str) -> list[str]:
        """The names of a phase's trainings, see `member_names`."""
        return member_names(self.config, phase)

    def predictor(self, name: str = "") -> predict.Predictor:
        """A trained classifier with its operating point, for films from files; see `infer.predict.of`."""
        return predict.of(self, name)

    def diffusion(self, name: str = "") -> diffusion.Diffusion:
        """A trained diffusion, of films or of latents; the name may be left out where there is only one."""
        phase = self.phase_of(*arms.DIFFUSIONS, name=name)
        return diffusion.of(self.config[phase], self.state(phase), self.mesh, classes_of(self.config, phase))

    def generator(self, name: str = "") -> generator.Generator:
        """The trained generator; the name may be left out where there is only one."""
        phase = self.phase_of("gan", name=name)
        return generator.of(self.config[phase], self.state(phase), self.classes, self.mesh)

    def autoencoder(self, name: str = "") -> autoencoder.Autoencoder:
        """The trained autoencoder; the name may be left out where there is only one."""
        phase = self.phase_of("autoencoder", name=name)
        return autoencoder.of(self.config[phase], self.state(phase), self.config.data.size, self.mesh, self.depth)

    def treat(
        self, films: door.Films, mode: str = "time_gated", lam: int = 300, seed: int = 0, own_size: bool = False
    ) -> Treated:
        """Treats films as the run's study would: diffused mostly where the class activation map lights up, and back.

        Args:
          films: as in `infer.films.read`.
          mode: a mode of `guidance.MODES`, a mode + `_hard`, or an arm of the run's `study.arms`.
          lam: the treatment period lambda, in steps of the diffusion.
          seed: of the noise; film i draws by the i-th key of it.
          own_size: also each film at its own size.

        Returns:
          The treated films, synthetic, with the mask that was used.

        Raises:
          UserError: the run has no treatment study; an unknown mode; a lambda that the diffusion is not trained for.
        """
        treatment = self.treatment(mode)
        image = door.read(films, self.config.data.size, self.depth)
        mask, (treated,) = treatment.treat(image, (lam,), treat.keys_of(seed, len(image)))
        own = None
        if own_size:
            change = treated - image[..., 0]
            originals = door.originals(films, self.depth)
            own = [progress.added(film, moved) for film, moved in zip(originals, change, strict=True)]
        return Treated(treated, mask, own)

    def treatment(self, mode: str = "time_gated") -> Treatment:
        """An arm of the run's study, ready to treat films at any lambda; `mode` and errors as in `treat`."""
        study = self.config.study
        if study.name not in ("progress", "anomaly"):
            raise UserError(f"{self.workdir} treats no films: its study is {study.name!r}; load a run of ddpm_cam.py")
        (arm,) = arms.of(study, (mode,))
        diffusions = {arm.diffusion: self.diffusion(arm.diffusion)}
        looks = arm.mask.source != "anomaly" or guidance.MODES[arm.mode].sees
        seeing = {arm.mask.phase: self.classifier(arm.mask.phase)} if looks else {}
        judges = {role: self.classifier(role) for role, phase in self.roles.items()
                  if classifier.NORMAL in classes_of(self.config, phase)}  # fmt: skip
        longest = ddpm.longest(self.config[arm.diffusion])
        return progress.of(arm, longest, self.config.data.size, self.depth, self.mesh, diffusions, seeing, judges)


def reads_features(config: Any, phase: str) -> bool:
    """Whether a phase reads the local-phase channels that were prepared with the films."""
    return config[phase].get("input", "cxr") == "enh" and bool(config.data.get("enh", False))


def member_names(config: Any, phase: str) -> list[str]:
    """The names of a phase's trainings: its own, or one a fold or seed."""
    count = max(config[phase].get("folds", 0), config[phase].get("seeds", 1))
    return [phase] if count <= 1 else [f"{phase}_{i}" for i in range(count)]


def classes_of(config: Any, phase: str) -> tuple[str, ...]:
    """The classes of a phase: its own, or those of the films."""
    return tuple(config[phase].get("classes", ()) or config.data.classes)


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(_tuples(inner) for inner in value) if isinstance(value, list) else value


def load(workdir: Path | str, mesh: Mesh | None = None) -> Run:
    """Opens a finished run.

    Args:
      workdir: its folder.
      mesh: the devices that its networks are brought to; by default one device.

    Raises:
      UserError: there is no run, or it has not ended.
    """
    folder = Path(os.path.expanduser(workdir))
    path = folder / "manifest.json"
    if not path.is_file():
        raise UserError(f"{folder} holds no run: manifest.json is missing; give the --workdir of a finished run")
    record = files.read_json(path)
    if not record.get("finished"):
        raise UserError(f"{folder} has not ended; run its command again: {record.get('command', '')}")
    return Run(folder, ConfigDict(_tuples(record["config"])), mesh)


def check_same(workdir: str, phase: str, config: Any) -> None:
    """Refuses a phase of a finished run that is not the one that this run's config asks for.

    Compared is every key that decides how its network is fed or read; how long it was trained, and by what, is not.

    Raises:
      UserError: the run has no such phase, or one of these keys differs; names it with both values.
    """
    run = load(workdir)
    if phase not in run.config.phases:
        raise UserError(f"from_run = {workdir}: it has no phase {phase!r}{did_you_mean(phase, run.config.phases)}")
    ours, theirs = _read_by(config[phase]), _read_by(run.config[phase])
    for name, a, b in (
        ("data.name", config.data.name, run.config.data.name),
        ("data.size", config.data.size, run.config.data.size),
        ("data.classes", tuple(config.data.classes), run.classes),
        ("data.enh", config.data.enh, run.config.data.enh),
        ("data.enh_options", dict(config.data.enh_options), dict(run.config.data.enh_options)),
        *((key, ours[key], theirs.get(key)) for key in ours),
    ):
        if a != b:
            raise UserError(f"from_run = {workdir}: {name} is {b!r} there and {a!r} here; the phase cannot be taken")


def _read_by(phase: Any) -> dict[str, Any]:
    """The keys of a phase that decide how its network is fed or read, those of phases inside it too."""
    # A diffusion's noise is what it samples with; a classifier's is an augmentation.
    left_out = TRAINED_BY - {"noise"} if phase.get("task") in arms.DIFFUSIONS else TRAINED_BY
    kept = {key: value for key, value in phase.items() if key not in left_out}
    return {key: _read_by(value) if isinstance(value, ConfigDict) else value for key, value in kept.items()}


def check_films(workdir: str, fingerprint: str) -> None:
    """Refuses a phase of a finished run of other films.

    Raises:
      UserError: the films, or their parts, are others: those held out here may have been trained on there.
    """
    found = load(workdir).manifest["data"]["fingerprint"]
    if found != fingerprint:
        raise UserError(
            f"from_run = {workdir}: its films or their parts are others (fingerprint {found[:12]} there, "
            f"{fingerprint[:12]} here), so that films held out here may have been trained on there; give a run of these"
        )
