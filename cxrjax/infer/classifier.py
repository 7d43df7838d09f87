"""A trained classifier of films, or of an autoencoder's latents: what it says of films, and where it looks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cxrjax import models
from cxrjax.data import lungs
from cxrjax.errors import UserError, did_you_mean
from cxrjax.infer import films as door
from cxrjax.infer.batches import in_batches
from cxrjax.ops import cam, inputs
from cxrjax.tasks import autoencoder, classify, latent
from cxrjax.train import mesh as meshes
from cxrjax.types import Array, Arrays, PyTree, State

TASKS = ("classify", "latent_classify")
SOURCES = ("gradcam", "cam", "fcn_map", "latent_gradcam")
NORMAL = "Normal"
BATCH = 64


class Classifier(NamedTuple):
    """A classifier that has been trained; `variables` apart, everything is static.

    Attributes:
      net: the network.
      options: how it is shown films.
      variables: `net`, its weights and statistics; for a classifier of latents also `autoencoder` and `scale`.
      classes: its logits.
      size: side of the films that it was trained on; others are resized to it.
      mesh: the devices that its variables are on.
      codec: the autoencoder whose latents it sees; None where it sees films.
      enh: options of the phase features that films become first; None where it reads films.
      source: where it is from, in words.
      depth: bits that the run took its 16-bit files to hold; 0 for each file's own.
    """

    net: nn.Module
    options: classify.Options
    variables: PyTree
    classes: tuple[str, ...]
    size: int
    mesh: Mesh
    codec: models.Autoencoder | None = None
    enh: tuple[tuple[str, Any], ...] | None = None
    source: str = ""
    depth: int = 0

    @property
    def normal(self) -> int:
        """The column of the class Normal."""
        return self.classes.index(NORMAL)

    @property
    def disease(self) -> int:
        """The other column of two classes, which a map should explain."""
        return 1 - self.normal

    def column(self, finding: str) -> int:
        """The column of a class. Raises UserError where it has none."""
        if finding not in self.classes:
            raise UserError(
                f"the classifier ({self.source}) knows {', '.join(self.classes)}, not {finding!r}"
                f"{did_you_mean(finding, self.classes)}"
            )
        return self.classes.index(finding)

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function(classifier, *arrays)` of a module as one program, in which the variables are no constants."""
        return partial(_applied, function, self._replace(variables=None), self.variables)

    def read(self, films: door.Films) -> np.ndarray:
        """Films as the run's were given to the network: (n, size, size, c) float32; films as in `infer.films.read`."""
        image = door.read(films, self.size, self.depth)
        if self.options.border:
            image = image * lungs.outside(image[..., 0])[..., None]
        return image if self.enh is None else door.phase_features(image, dict(self.enh))

    def predict(self, films: door.Films) -> Arrays:
        """The probability of each class: {class: (n,) float64 in [0, 1]}; films as in `infer.films.read`.

        Of exclusive classes (softmax) they sum to 1. They are the network's own, not calibrated.
        """
        image = self.read(films)
        probability = classify.scores(self.options, self.logits(image, min(BATCH, len(image))))
        return {name: probability[:, c] for c, name in enumerate(self.classes)}

    def logits(self, image: np.ndarray, batch: int) -> np.ndarray:
        """Logits (n, k) of films (n, size, size, c) as `read` gives them, `batch` at once."""
        return in_batches(self.mesh, batch, self.compiled(logits_of), image)

    def features(self, films: door.Films) -> np.ndarray:
        """The pooled last map of each film, (n, d) float32; films as in `infer.films.read`."""
        return in_batches(self.mesh, BATCH, self.compiled(outputs), self.read(films))["pool"]

    def map(self, films: door.Films, finding: str) -> np.ndarray:
        """Where the network sees a class, (n, size, size) float32, each map scaled to [0, 1]; see `class_map`.

        Args:
          films: as in `infer.films.read`.
          finding: one of `classes`.

        Raises:
          UserError: no such class, or films that cannot be read.
        """
        image = self.read(films)
        return self.maps(image, np.full(len(image), self.column(finding)), min(BATCH, len(image)))

    def maps(self, image: np.ndarray, column: np.ndarray, batch: int) -> np.ndarray:
        """As `map`, of films as `read` gives them, each by its own column (n,) of the classes, `batch` at once."""
        return in_batches(self.mesh, batch, self.compiled(finding_map), image, column.astype(np.int32))


@partial(jax.jit, static_argnums=(0, 1))
def _applied(function: Callable[..., Any], static: Classifier, variables: PyTree, *arrays: Array) -> Any:
    return function(static._replace(variables=variables), *arrays)


def of(
    config: Any, state: State, classes: tuple[str, ...], size: int, mesh: Mesh, *, source: str = "", enh: Any = None,
    depth: int = 0,
) -> Classifier:  # fmt: skip
    """The classifier of a finished phase of task `classify` or `latent_classify`.

    Args:
      config: the phase's.
      state: it ended with.
      classes, size: of the run's films.
      mesh: the devices.
      source: where it is from, in words.
      enh: `data.enh_options`, where the phase reads phase features.
      depth: of the run's 16-bit files, for films from files.
    """
    options = classify.options_of(config)
    variables, codec = {"net": classify.variables_of(options, state)}, None
    if config.task == "latent_classify":
        codec = autoencoder.network(config.autoencoder)
        variables |= {"autoencoder": state.frozen["autoencoder"], "scale": state.stats["latent"]["scale"]}
    net, features = classify.network(config, len(classes)), None if enh is None else tuple(sorted(dict(enh).items()))
    placed = meshes.replicate(mesh, variables)
    return Classifier(net, options, placed, classes, size, mesh, codec, features, source, depth)


def check_normal(config: Any, classes: tuple[str, ...]) -> None:
    """Raises UserError unless a classification phase tells Normal from exactly one other class."""
    if config.task not in TASKS or len(classes) != 2 or NORMAL not in classes or config.loss != "softmax":
        raise UserError(
            f"the progress study needs classifiers of two exclusive classes, one of them 'Normal' (loss softmax); "
            f"data.classes is {classes}, a judge's task {config.task!r}"
        )


def _inner(classifier: Classifier, image: Array) -> Array:
    """Films (b, h, w, c) in [0, 1] as the classification task has them: at their side, or as latents about 0.5."""
    image = inputs.resized(image, classifier.size)
    if classifier.codec is None:
        return image
    variables = classifier.variables
    z = latent.to_latent(classifier.codec, variables["autoencoder"], variables["scale"], image)
    return (z + 1.0) / 2.0


def seen(classifier: Classifier, image: Array) -> Array:
    """What the network sees of films (b, h, w, c) in [0, 1]: normalized, and cropped as evaluation does once."""
    options = classifier.options
    return classify.shown(options, classify.middle(options, _inner(classifier, image)))


def logits_of(classifier: Classifier, image: Array) -> Array:
    """Logits (b, k) of films (b, h, w, c) in [0, 1], by as many crops as evaluation takes."""
    inner = _inner(classifier, image)
    return classify.logits_of(classifier.net, classifier.options, classifier.variables["net"], inner)


def outputs(classifier: Classifier, image: Array) -> dict[str, Array]:
    """`prob` and `logit` (b, k) and `pool` (b, d) float32, the pooled last map, of films (b, h, w, c) in [0, 1]."""
    logits, endpoints = classifier.net.apply(classifier.variables["net"], seen(classifier, image), train=False)
    prob = jax.nn.softmax(logits) if classifier.options.exclusive else jax.nn.sigmoid(logits)
    return {"prob": prob, "logit": logits, "pool": endpoints["pooled"].astype(jnp.float32)}


def heat(classifier: Classifier, source: str, target: str, image: Array) -> Array:
    """The map of the disease score of a classifier of Normal against one disease, (b, h', w'), >= 0 but for `cam`.

    Args:
      classifier: the network to explain.
      source: `gradcam` (`latent_gradcam` of a classifier of latents); `cam` where the head is a mean and one linear
        layer, sum_k w_k A^k as the deck has it, without bias and ReLU; `fcn_map` where the head is convolutions and a
        pool: the ReLU of the map whose pool the logits are.
      target: `difference` explains y_disease - y_normal: with two logits the disease score alone ignores a shift of
        both; `class` explains y_disease.
      image: (b, h, w, 1) in [0, 1].

    Raises:
      UserError: `cam` or `fcn_map` of a head that has no such map.
    """
    net, variables = classifier.net, classifier.variables["net"]
    _, endpoints = net.apply(variables, seen(classifier, image), train=False)

    def head(features: Array) -> Array:
        logits: Any = net.apply(variables, features, method="head_from")
        return logits

    def score(logits: Array) -> Array:
        return logits[:, classifier.disease] - (logits[:, classifier.normal] if target == "difference" else 0.0)

    if source in ("gradcam", "latent_gradcam"):
        return cam.grad_cam(endpoints["features"], head, score)
    if "map" not in endpoints:
        raise UserError(f"study.guidance.source = {source!r} needs a head without hidden layers; use 'gradcam'")
    maps = endpoints["map"].astype(jnp.float32)  # (b, h', w', classes), the head at every position
    if source == "cam":
        maps -= variables["params"]["head"]["classes"]["bias"][None, None, None, :]
        return score(maps.reshape(-1, maps.shape[-1])).reshape(maps.shape[:3])
    return jax.nn.relu(score(maps.reshape(-1, maps.shape[-1]))).reshape(maps.shape[:3])


def asked(classifier: Classifier) -> tuple[Callable[[Array], Array], Callable[[Array, Array], Array]]:
    """What a walk asks of a classifier: how little it calls films normal, and how unlike two of them look to it.

    Returns:
      `film (b, h, w, 1) in [0, 1] -> (b,)`, minus the log probability of Normal; and `(film, film) -> (b, h, w, 1)`,
      the squared distance of unit feature vectors at each place, the mean over all of its maps: LPIPS (Zhang et al.
      2018) without weights learned from people's judgment.
    """

    def maps(image: Array) -> list[Array]:
        _, endpoints = classifier.net.apply(classifier.variables["net"], seen(classifier, image), train=False)
        found = [value.astype(jnp.float32) for name, value in sorted(endpoints.items()) if name != "map"]
        return [x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-8) for x in found if x.ndim == 4]

    def distance(a: Array, b: Array) -> Array:
        apart = [((x - y) ** 2).sum(axis=-1, keepdims=True) for x, y in zip(maps(a), maps(b), strict=True)]
        return jnp.stack([jax.image.resize(x, a.shape, "bilinear") for x in apart]).mean(axis=0)

    return (
        lambda image: -jax.nn.log_softmax(outputs(classifier, image)["logit"])[:, classifier.normal],
        distance,
    )


def class_map(classifier: Classifier, image: Array, number: Array) -> tuple[Array, Array]:
    """The map of one class over each whole film, and its probability.

    The head's own map where it has one, exact for a pool of maps and the CAM for a mean and one linear layer; else
    Grad-CAM.

    Args:
      classifier: the network to explain.
      image: (b, h, w, c) in [0, 1].
      number: () class, or (b,), each film's own.

    Returns:
      (b, size, size) in [0, 1], (b,) in [0, 1].
    """
    net, options, variables = classifier.net, classifier.options, classifier.variables["net"]
    b, side = image.shape[0], classifier.size
    number = jnp.broadcast_to(number, (b,))
    logits, endpoints = net.apply(variables, classify.shown(options, _inner(classifier, image)), train=False)
    if "map" in endpoints:
        coarse = jnp.take_along_axis(endpoints["map"], number[:, None, None, None], axis=-1)[..., 0]  # (b, h', w')
    else:
        head: Callable[..., Any] = partial(net.apply, variables, method="head_from")
        coarse = cam.grad_cam(endpoints["features"], head, partial(_own, number))
    probability = jax.nn.softmax(logits) if options.exclusive else jax.nn.sigmoid(logits)
    return cam.min_max(jax.image.resize(coarse, (b, side, side), "bilinear")), _own(number, probability)


def _own(number: Array, values: Array) -> Array:
    """Each film's value (b,) of its own class, of values (b, k)."""
    return jnp.take_along_axis(values, number[:, None], axis=-1)[:, 0]


def finding_map(classifier: Classifier, image: Array, number: Array) -> Array:
    """The map of `class_map` alone, at the side of the films (b, h, w, c): (b, h, w) in [0, 1]."""
    return jax.image.resize(class_map(classifier, image, number)[0], image.shape[:3], "bilinear")
