"""What an exported model holds: the signatures as a SavedModel, and beside them all that is known of the model."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ddr_tf.data.sequence_dataset import SequenceDataset
from ddr_tf.errors import UserError
from ddr_tf.model.ddr import DDR
from ddr_tf.runs import BEST, CONFIG, DATASET, MODEL, RECORD, load_model, load_sequences, write_densities
from ddr_tf.serving.examples import FOLDER, write_examples
from ddr_tf.serving.keras_file import write_keras_file
from ddr_tf.serving.model_card import model_card, write_card
from ddr_tf.serving.saved_model import EXTRA, versions, write_checksums, write_version
from ddr_tf.serving.signatures import Signatures

WARMUP = "tf_serving_warmup_requests"  # as TF Serving names it
EXAMPLE_FRAMES = 8


def write_saved_model(model: DDR, directory: Path, weights: str = "float32") -> None:
    """Writes the signatures of a model as a SavedModel.

    Args:
      model: A trained model.
      directory: An empty folder.
      weights: See `Signatures`.

    Raises:
      UserError: If it cannot be written, as on a full disk.
    """
    signatures = Signatures(model, weights)
    root = tf.Module()
    root.weights = signatures.weights  # what the functions use must be reachable from what is saved
    try:
        tf.saved_model.save(root, str(directory), signatures=signatures.functions())
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"{directory} could not be written: {str(error).splitlines()[0]}") from error


def example_inputs(model: DDR) -> dict[str, dict[str, Any]]:
    """A small request for each signature that takes numbers, of `EXAMPLE_FRAMES` grey frames: signature -> inputs."""
    frames = {"frames": np.full([1, EXAMPLE_FRAMES, *model.frame_shape], 0.5, np.float32)}
    static = {"static": np.zeros([1, model.static_dim], np.float32)}
    dynamic = {"dynamic": np.zeros([1, EXAMPLE_FRAMES, model.dynamic_dim], np.float32)}
    counts = {"count": np.int32(1), "frames_per_sequence": np.int32(EXAMPLE_FRAMES), "seed": np.zeros(2, np.int32)}
    return {
        "serving_default": frames,
        "encode": frames,
        "encode_dynamic": frames | static,
        "decode": static | dynamic,
        "reconstruct": frames,
        "swap": {"static_frames": frames["frames"], "dynamic_frames": frames["frames"]},
        "prior": static,
        "sample": counts,
        "sample_standard": counts,
    }


def _constant_proto(value: np.ndarray) -> Any:
    """A tensor of equal numbers as a message that has the number once."""
    return tf.make_tensor_proto(value.flat[0], dtype=value.dtype, shape=value.shape)


def write_warmup(model: DDR, name: str, path: Path) -> None:
    """Writes requests that TF Serving runs before it answers others, a record for each signature.

    Args:
      model: The model.
      name: By which it will be served.
      path: `assets.extra/tf_serving_warmup_requests` of its SavedModel.

    Raises:
      ImportError: If tensorflow-serving-api is not installed.
    """
    from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

    with tf.io.TFRecordWriter(str(path)) as file:
        for signature, inputs in example_inputs(model).items():
            request = predict_pb2.PredictRequest(
                model_spec=model_pb2.ModelSpec(name=name, signature_name=signature),
                inputs={key: _constant_proto(np.asarray(value)) for key, value in inputs.items()},
            )
            log = prediction_log_pb2.PredictLog(request=request)
            file.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())


def export(
    run_dir: Path,
    directory: Path,
    weights: str = "float32",
    examples: bool | None = None,
    keras_model: bool = False,
    progress: Callable[[str], None] = lambda _: None,
    checkpoint: str = BEST,
    data_dir: str | None = None,
) -> Path:
    """Writes the next version of an exported model.

    Its `assets.extra` holds the run's `config.gin`, `run.json` and `dataset.json`, checksums, the densities that
    samples are drawn from, `model_card.json` and `.md`, example frames (see `examples`), and, if
    tensorflow-serving-api is installed, `tf_serving_warmup_requests`. Its arithmetic is float32, since bfloat16 is slow
    wherever the processor does not have it.

    Args:
      run_dir: Folder of a finished run.
      directory: `saved_models/<name>`.
      weights: See `Signatures`.
      examples: Whether to write frames of two held-out sequences; None: if the licence of the data lets everybody pass
        them on, and the data are there.
      keras_model: Whether to write `model.keras`, too, with the same weights, so that others can train it further.
      progress: Called with a line about what is left out.
      checkpoint: See `runs.load_model`.
      data_dir: Where example frames are; see `runs.load_sequences`.

    Returns:
      `saved_models/<name>/<version>`.

    Raises:
      UserError: If the run has not finished or is not complete, or the version cannot be written.
    """
    check_name(directory)
    name = directory.absolute().name
    model = load_model(run_dir, checkpoint).in_float32()
    card = model_card(model, run_dir, name, weights, checkpoint)
    example_dataset = _example_dataset(run_dir, examples, progress, data_dir)

    def write(version: Path) -> None:
        write_saved_model(model, version, weights)
        extra = version / EXTRA
        extra.mkdir()
        if keras_model:
            write_keras_file(model, extra / MODEL, weights)
        for file in (CONFIG, RECORD, DATASET):
            if (run_dir / file).exists():  # runs of earlier versions have no dataset.json
                shutil.copyfile(run_dir / file, extra / file)
        write_checksums(version)
        write_densities(extra, model)
        write_card(card, extra)
        if example_dataset:
            write_examples(example_dataset, extra / FOLDER)
        try:
            write_warmup(model, name, extra / WARMUP)
        except ImportError as error:
            progress(f"without warm-up requests for TF Serving ({error}); pip install -e '.[serving]' for them.")

    return write_version(write, directory)


def check_name(directory: Path) -> None:
    """Raises UserError if this is the folder of all exported models, whose own name was forgotten."""
    holds_models = directory.is_dir() and not versions(directory) and any(map(versions, directory.iterdir()))
    if directory.absolute().name in ("", "saved_models") or holds_models:
        raise UserError(f"--out {directory} lacks the name of the model; give one, as {directory / 'puppets'}.")


def _example_dataset(
    run_dir: Path, examples: bool | None, progress: Callable[[str], None], data_dir: str | None
) -> SequenceDataset | None:
    """The dataset to take example frames from, if they are wanted."""
    if examples is False:
        return None
    try:
        dataset = load_sequences(run_dir, data_dir)
    except UserError as error:
        if examples:
            raise
        progress(f"without example frames for the explorer: {error}")
        return None
    if examples is None and not dataset.open_licence:
        progress(
            f"without example frames for the explorer (licence: {dataset.licence or 'not stated'}); see --examples"
        )
        return None
    return dataset
