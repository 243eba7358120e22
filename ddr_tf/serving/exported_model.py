"""An exported model with the densities of `DDR`, computed from the answers of its signatures alone."""

from pathlib import Path

import tensorflow as tf

from ddr_tf import files, shipped
from ddr_tf.data.sequence_dataset import SequenceDataset
from ddr_tf.errors import UserError
from ddr_tf.model import densities
from ddr_tf.model.bounds import Bounds, as_float
from ddr_tf.model.densities import tfd
from ddr_tf.runs import load_sequences, read_densities
from ddr_tf.serving.saved_model import EXTRA, find_saved_model, load_signatures

MIN_PROBABILITY = 1e-7  # probability of a pixel; float32 cannot tell less from 0


class ExportedModel(Bounds):
    """The densities and bounds of `DDR`, from the signatures of a SavedModel.

    Attributes:
      frame_shape: (H, W, C).
      static_dim, dynamic_dim: F, Z.
      static_density, dynamic_density: What samples are drawn from; None: p(f) and p(z | f), as in models of before
        0.3.0.
      pixel_stddev: Of a normal p(x | f, z), as the model's card has it; None: it is a Bernoulli.
      extra: The folder of what lies beside the SavedModel; see `exporting`.
    """

    def __init__(self, saved_model: Path) -> None:
        """Loads a SavedModel that `exporting.export` wrote: `saved_models/<name>/<version>`."""
        self._root = load_signatures(saved_model)
        decode = self._root.signatures["decode"]
        inputs = decode.structured_input_signature[1]
        self.static_dim, self.dynamic_dim = inputs["static"].shape[-1], inputs["dynamic"].shape[-1]
        self.frame_shape = tuple(decode.structured_outputs["frames"].shape[2:])
        self.extra = saved_model / EXTRA
        read_densities(self.extra, self)
        self.pixel_stddev = _pixel_stddev(self.extra / "model_card.json")

    def _answer(self, signature: str, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._root.signatures[signature](**{name: tf.convert_to_tensor(value) for name, value in inputs.items()})

    def encode(self, frames: tf.Tensor) -> dict[str, tf.Tensor]:
        codes = self._answer("encode", frames=as_float(tf.convert_to_tensor(frames)))
        prior = self._answer("prior", static=codes["static_mean"])
        return codes | {f"prior_{name}": value for name, value in prior.items()}

    def decode(self, static: tf.Tensor, dynamic: tf.Tensor) -> tf.Tensor:
        return self._answer("decode", static=static, dynamic=dynamic)["frames"]

    def static_prior(self) -> tfd.Distribution:
        return densities.static_prior(self.static_dim)

    def dynamic_prior(self, static: tf.Tensor) -> tfd.Distribution:
        prior = self._answer("prior", static=static)
        return densities.diagonal_normal(prior["mean"][:, None], prior["stddev"][:, None])

    def likelihood(self, static: tf.Tensor, dynamic: tf.Tensor) -> tfd.Distribution:
        mean = tf.clip_by_value(self.decode(static, dynamic), MIN_PROBABILITY, 1 - MIN_PROBABILITY)
        return densities.pixel_likelihood(tf.math.log(mean) - tf.math.log1p(-mean), self.pixel_stddev)

    def features(self, frames: tf.Tensor) -> tf.Tensor:
        """The frames themselves, since no signature returns the features between frames and codes."""
        return as_float(tf.convert_to_tensor(frames))

    def static_posterior(self, features: tf.Tensor) -> tfd.Distribution:
        codes = self._answer("encode", frames=features)
        return densities.diagonal_normal(codes["static_mean"], codes["static_stddev"])

    def dynamic_posterior(self, features: tf.Tensor, static: tf.Tensor) -> tfd.Distribution:
        codes = self._answer("encode_dynamic", frames=features, static=static)
        return densities.diagonal_normal(codes["dynamic_mean"], codes["dynamic_stddev"])


def open_exported(path: Path, data_dir: str | None = None) -> tuple[ExportedModel, SequenceDataset]:
    """An exported model and the dataset that it was trained on; of a run, `runs.load_run` gives both.

    Args:
      path: `saved_models/<name>`, one of its versions, or a name; see `shipped.resolve`.
      data_dir: As of `runs.load_sequences`.

    Raises:
      UserError: If there is no such model, or as `runs.load_sequences`.
    """
    folder = shipped.resolve(path)
    if shipped.is_run(folder):
        raise UserError(f"{folder} is a run; give it as --run_dir.")
    version = find_saved_model(folder)
    sequences = load_sequences(version / EXTRA, data_dir)
    return ExportedModel(version), sequences


def _pixel_stddev(card: Path) -> float | None:
    """Of a normal p(x | f, z); None: it is a Bernoulli, as of all models whose card says nothing of it.

    Raises:
      UserError: If the card is damaged.
    """
    if not card.exists():
        return None
    try:
        stddev = files.read_json(card)["model"].get("pixel_stddev")
        return None if stddev is None else float(stddev)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{card} cannot be read ({type(error).__name__}: {error}); export the model again.") from error
