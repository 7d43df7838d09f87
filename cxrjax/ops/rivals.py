"""Published ways to treat films, each as hooks of the one sampler, from its paper's algorithm; and two of ours.

A keyword of a function is a constant of its paper at 1,000 times, and may be set by an arm. The treatment period lambda
is the distance that films go to, so that a published depth is one point of a sweep; times within a walk are shares of
lambda, and sizes in pixels are shares of the film's side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cxrjax.errors import lookup
from cxrjax.ops import cam, diffusion, sampling


class Case(NamedTuple):
    """What there is to treat, and by what.

    Attributes:
      epsilon, schedule, x0, mask, lam, keys, sampler: as in `sampling.sample`; `x0` films in [-1, 1], `lam` (b,).
      loss: `film (b, h, w, 1) in [-1, 1] -> (b,)`, what a classifier has against calling it normal.
      distance: `(films, films) -> (b, h, w, 1)`, how unlike they look to a classifier, 0 or more.
      told: the network told `healthy`, and told `diseased`; `epsilon` is it told nothing.
    """

    epsilon: sampling.Epsilon
    schedule: diffusion.Schedule
    x0: jax.Array
    mask: jax.Array
    lam: jax.Array
    keys: jax.Array
    sampler: sampling.Sampler
    loss: Callable[[jax.Array], jax.Array] | None = None
    distance: Callable[[jax.Array, jax.Array], jax.Array] | None = None
    told: Mapping[str, sampling.Epsilon] | None = None

    def walk(self, **changes: object) -> jax.Array:
        """Films there and back by `sampling.sample`, with changes of its arguments."""
        given = {name: changes.pop(name, getattr(self, name)) for name in ("x0", "mask", "lam", "keys", "sampler")}
        return sampling.sample(self.epsilon, self.schedule, **given, **changes)[0]  # type: ignore[arg-type]

    def inverted(self) -> jax.Array:
        """The films' x at lambda by DDIM inversion."""
        return sampling.invert(self.epsilon, self.schedule, self.x0, self.lam, self.sampler)

    def gradient(self, film: jax.Array) -> jax.Array:
        """Of the loss by the film: of each by itself, whatever its batch."""
        assert self.loss is not None
        loss = self.loss
        return jax.grad(lambda x: loss(x).sum())(film)


def dif_fuse(case: Case) -> jax.Array:
    """Dif-fuse: from the inverted film, DDPM inside the mask and the film's DDIM reconstruction outside, at each step.

    Both walks go side by side in one batch: DDIM with eta 1, which is ancestral with the small variance, and with 0.

    Source: Fontanella et al. 2024, "Diffusion models for counterfactual generation and anomaly detection in brain
    images"; to 500 of 1,000.
    """
    b = len(case.x0)
    twice = {name: jnp.concatenate([value] * 2) for name, value in (
        ("x0", case.x0), ("mask", case.mask), ("lam", case.lam), ("keys", case.keys), ("start", case.inverted()),
    )}  # fmt: skip

    def fuse(new: jax.Array, estimate: jax.Array, known: jax.Array, t: jax.Array, s: jax.Array) -> jax.Array:
        inside, outside = new[:b], new[b:]
        return jnp.concatenate([case.mask * inside + (1 - case.mask) * outside, outside])

    eta = jnp.repeat(jnp.array([1.0, 0.0]), b)[:, None, None, None]
    stride = jnp.tile(jnp.broadcast_to(jnp.asarray(case.sampler.stride), (b,)), 2)  # may be a film's own
    return case.walk(**twice, sampler=case.sampler._replace(name="ddim", eta=eta, stride=stride), merge=fuse)[:b]


def autoddpm(
    case: Case, *, restart: float = 0.25, resamples: int = 5, threshold: float = 0.1, dilation: float = 3 / 128
) -> jax.Array:
    """AutoDDPM: a uniform pass finds what is anomalous, and that alone is drawn again, by RePaint from the pass's film.

    Anomalous is where the residual, as a share of its 95th percentile, times the perceptual distance is above a
    threshold.

    Args:
      case: what to treat.
      restart: distance that the second walk begins at, as a share of lambda: 50 of 200.
      resamples: of each step of the second walk.
      threshold: of the anomaly.
      dilation: side of the square by which what is above it grows, as a share of the film's.

    Source: Bercea et al. 2023, "Mask, stitch, and re-sample".
    """
    assert case.distance is not None
    healthy = jnp.clip(case.walk(), -1, 1)
    residual = jnp.abs(healthy - case.x0)
    most = jnp.percentile(residual, 95, axis=(1, 2, 3), keepdims=True)
    anomaly = case.distance(healthy, case.x0) * jnp.clip(residual / jnp.maximum(most, 1e-8), 0, 1)
    mask = dilated((anomaly > threshold).astype(case.x0.dtype), _pixels(dilation, case.x0))
    again = jax.vmap(lambda key: jax.random.fold_in(key, 1))(case.keys)  # the second walk's draws are its own
    lam = jnp.round(restart * case.lam).astype(jnp.int32)
    noise = sampling.start_noise(again, lam, case.x0.shape[1:], case.sampler.noise)
    return case.walk(
        mask=mask, lam=lam, keys=again, gates=True, sampler=case.sampler._replace(resamples=resamples),
        start=diffusion.q_sample(case.schedule, healthy, lam, noise),
    )  # fmt: skip


def thor(
    case: Case, *, at: tuple[float, ...] = (6 / 7, 3 / 7, 1 / 7), blur: float = 2 / 128, window: float = 13 / 128
) -> jax.Array:
    """THOR: on the way back the estimate gives way to the film where nothing is anomalous, renoised by the same noise.

    Args:
      case: what to treat.
      at: distances where they are blended, as shares of lambda: 300, 150 and 50 of 350.
      blur: standard deviation of a Gaussian over the perceptual distance, as a share of the film's side.
      window: side of the square that closes and dilates the anomaly map, likewise.

    Source: Bercea et al. 2024, "Diffusion models with implicit guidance for medical anomaly detection". Their code
    divides a map by the largest value of its batch; here by the film's own.
    """
    noise = sampling.start_noise(case.keys, case.lam, case.x0.shape[1:], case.sampler.noise)

    def harmonize(new: jax.Array, estimate: jax.Array, known: jax.Array, t: jax.Array, s: jax.Array) -> jax.Array:
        times = jnp.round(jnp.array([at]) * case.lam[:, None]).astype(jnp.int32)  # (b, len(at))
        due = ((s[:, None] <= times) & (times < t[:, None])).any(axis=1)[:, None, None, None]
        seen = anomaly_map(case, estimate, blur, window)
        mixed = diffusion.q_sample(case.schedule, seen * estimate + (1 - seen) * case.x0, s, noise)
        return jnp.where(due, mixed, new)

    return case.walk(merge=harmonize)


def anomaly_map(case: Case, estimate: jax.Array, blur: float, window: float) -> jax.Array:
    """THOR's map (b, h, w, 1) in [0, 1]: blurred perceptual distance times residual, closed and dilated."""
    assert case.distance is not None
    salient = cam.blur(case.distance(estimate, case.x0)[..., 0], blur * case.x0.shape[2])[..., None]
    found = jnp.clip(salient, 0, 1) * jnp.abs(estimate - case.x0)
    found /= jnp.maximum(found.max(axis=(1, 2, 3), keepdims=True), 1e-8)
    side = _pixels(window, case.x0)
    closed = -dilated(-dilated(found, side), side)
    return jnp.clip((dilated(closed, side) + found) / 2, 0, 1)


def fastdime(
    case: Case, *, scale: float = 100.0, l1: float = 200.0, keep: float = 0.5, threshold: float = 0.15,
    dilation: float = 21 / 224,
) -> jax.Array:  # fmt: skip
    """FastDiME: a uniform walk against the gradient of a classifier's loss and of the change, both at the estimate.

    Below a time, what lies outside the changed region is the film again, noised to the step's own time (their code
    noises it to the time before the step).

    Args:
      case: what to treat.
      scale: of the gradient.
      l1: weight of the mean absolute change, in [-1, 1] units.
      keep: that time as a share of lambda: 200 of 400.
      threshold: of the change, as a share of its largest value, above which a pixel has changed.
      dilation: side of the square by which that region grows, as a share of the film's.

    Source: Weng et al. 2024, "Fast diffusion-based counterfactuals for shortcut removal and generation".
    """

    def pull(estimate: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
        change = jnp.sign(estimate - case.x0) / case.x0[0].size
        return scale * (case.gradient(estimate) + l1 * change)

    def keep_rest(new: jax.Array, estimate: jax.Array, known: jax.Array, t: jax.Array, s: jax.Array) -> jax.Array:
        change = jnp.abs(estimate - case.x0)
        change /= jnp.maximum(change.max(axis=(1, 2, 3), keepdims=True), 1e-8)
        rest = dilated(change, _pixels(dilation, case.x0)) < threshold
        return jnp.where((t <= keep * case.lam)[:, None, None, None] & rest, known, new)

    return case.walk(pull=pull, merge=keep_rest)


def wolleb(case: Case, *, scale: float = 100.0) -> jax.Array:
    """Wolleb et al.: from the inverted film, DDIM without noise against the gradient of a classifier's loss.

    Theirs is a classifier of noised films, told the time; ours sees the estimate, whose derivative by x_t, the noise
    held fast, is 1 / sqrt(alpha_bar_t).

    Source: Wolleb et al. 2022, "Diffusion models for medical anomaly detection"; to 500 of 1,000.
    """

    def pull(estimate: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
        return scale * case.gradient(estimate) / diffusion.signal(case.schedule, t, x)

    return case.walk(start=case.inverted(), pull=pull, sampler=case.sampler._replace(name="ddim", eta=0.0))


def class_free(case: Case, *, weight: float = 3.0, toward: str = "healthy", quantile: float = 0.99) -> jax.Array:
    """Diff-SCM, class-free: up by DDIM inversion told nothing, down by DDIM away from that toward a class that is told.

    Args:
      case: what to treat, by a network that is told classes.
      weight: of what the class adds to the predicted noise; at 0 the way back is the way up.
      toward: `healthy` or `diseased`.
      quantile: of the estimate's size, to which it is scaled down to 1 where it is more (dynamic thresholding, Saharia
        et al. 2022); 0 leaves it out.

    Raises:
      UserError: toward anything else.

    Source: Sanchez et al. 2022, "What is healthy? Generative counterfactual diffusion for lesion localization", the
    class-free form of Sanchez and Tsaftaris 2022, "Diffusion causal models for counterfactual estimation"; to 750 of
    1,000. Their network has more attention.
    """
    assert case.told is not None
    told = lookup(case.told, toward, "toward")

    def guided(x: jax.Array, index: jax.Array) -> jax.Array:
        plain = case.epsilon(x, index)
        return scaled_down(case.schedule, x, index + 1, plain + weight * (told(x, index) - plain), quantile)

    ddim = case.sampler._replace(name="ddim", eta=0.0)
    return case._replace(epsilon=guided).walk(start=case.inverted(), sampler=ddim)


def scaled_down(
    schedule: diffusion.Schedule, x: jax.Array, t: jax.Array, epsilon: jax.Array, quantile: float
) -> jax.Array:
    """The noise at x_t of an estimate whose sizes, beyond 1 at a quantile, are cut there and scaled down to 1."""
    if not quantile:
        return epsilon
    estimate = diffusion.to_x0(schedule, x, t, epsilon, None)
    most = jnp.maximum(jnp.quantile(jnp.abs(estimate), quantile, axis=(1, 2, 3), keepdims=True), 1.0)
    inside = jnp.clip(estimate, -most, most) / most
    noise = (x - diffusion.signal(schedule, t, x) * inside) / diffusion.sigma(schedule, t, x)
    return jnp.where(jnp.abs(estimate - inside).max(axis=(1, 2, 3), keepdims=True) > 0, noise, epsilon)


def gated_pull(case: Case, *, scale: float = 100.0) -> jax.Array:
    """Ours: `time_gated`, and inside the gate against the gradient of a classifier's loss at the estimate."""
    return case.walk(gates=True, pull=lambda estimate, x, t: scale * case.gradient(estimate))


def banded(case: Case, *, keep: float = 0.4, coarse: float = 6.0, scale: float = 0.0) -> jax.Array:
    """Ours: `time_gated` of what is coarse, from afar, and of what is fine from near alone.

    An opaque lung is coarse and only gives way to a far walk, which draws another patient's ribs and vessels along with
    it. Here fine waves stay the film's own, noised to each step's time, until a share of lambda is left; then the
    network draws all of it, which fits the fine to the coarse.

    Args:
      case: what to treat.
      keep: that share; at 1 this is `time_gated`, at 0 fine waves are the film's to the end.
      coarse: waves of fewer cycles to a film's side are coarse.
      scale: of a pull as in `gated_pull`; 0 is none.
    """

    def keep_fine(new: jax.Array, estimate: jax.Array, known: jax.Array, t: jax.Array, s: jax.Array) -> jax.Array:
        near = (t <= keep * case.lam)[:, None, None, None]
        return jnp.where(near, new, known + low_pass(new - known, coarse))

    pull = (lambda estimate, x, t: scale * case.gradient(estimate)) if scale else None
    return case.walk(gates=True, pull=pull, merge=keep_fine)


def low_pass(x: jax.Array, cycles: float) -> jax.Array:
    """The waves of films (b, h, w, c) of fewer than `cycles` to a side: an orthogonal projection, so that the coarse of
    one draw of white noise and the fine of another are white together."""
    h, w = x.shape[1:3]
    far = jnp.hypot(jnp.fft.fftfreq(h, 1 / h)[:, None], jnp.fft.rfftfreq(w, 1 / w)[None, :])
    waves = jnp.fft.rfft2(x, axes=(1, 2)) * (far < cycles)[None, :, :, None]
    return jnp.fft.irfft2(waves, s=(h, w), axes=(1, 2))


def dilated(x: jax.Array, side: int) -> jax.Array:
    """The largest value (b, h, w, 1) within a square of an odd `side` about each pixel."""
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, side, side, 1), (1, 1, 1, 1), "SAME")


def _pixels(share: float, x: jax.Array) -> int:
    """The odd number of pixels nearest to a share of a film's side."""
    return 2 * round((share * x.shape[2] - 1) / 2) + 1
