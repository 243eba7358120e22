"""Encoder and decoder as ONNX files, for onnxruntime and the like.

    encode.onnx     frames [B, N, H, W, C] -> static_mean, static_stddev [B, F], dynamic_mean, dynamic_stddev [B, N, Z]
    decode.onnx     static [B, F], dynamic [B, N, Z] -> frames [B, N, H, W, C]

The signatures `encode` and `decode` of `serving`, but without its checks, which ONNX cannot express: frames must be
in [0, 1]. Arithmetic is float32, also of a model that was trained in bfloat16. All frames are encoded at once.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from ddr_tf import files
from ddr_tf.errors import UserError
from ddr_tf.model.ddr import DDR
from ddr_tf.runs import BEST, load_model
from ddr_tf.serving.model_card import model_card, write_card
from ddr_tf.serving.saved_model import folder_for

OPSET = 17


def onnx_models(model: DDR) -> dict[str, Any]:
    """`encode` and `decode` as ONNX models.

    Raises:
      UserError: If tf2onnx is not installed.
    """
    try:
        import tf2onnx
    except ImportError as error:
        raise UserError(f"ONNX needs tf2onnx ({error}); pip install -e '.[onnx]'.") from error
    float32 = DDR.from_config(model.get_config() | {"dtype": "float32"})
    float32.set_weights(model.get_weights())
    models = {}
    for function, inputs in _functions(float32).items():
        traced = tf.function(function, input_signature=inputs, autograph=False)
        proto, _ = tf2onnx.convert.from_function(traced, inputs, opset=OPSET)
        _name_dimensions(proto)
        models[function.__name__] = proto
    return models


def _functions(model: DDR) -> dict[Callable[..., dict[str, tf.Tensor]], list[tf.TensorSpec]]:
    """`encode` and `decode` without checks -> their inputs."""

    def encode(frames: tf.Tensor) -> dict[str, tf.Tensor]:
        features = model.features(frames)
        static = model.static_posterior(features)
        dynamic = model.dynamic_posterior(features, static.mean())
        return {
            "static_mean": static.mean(),
            "static_stddev": static.stddev(),
            "dynamic_mean": dynamic.mean(),
            "dynamic_stddev": dynamic.stddev(),
        }

    def decode(static: tf.Tensor, dynamic: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"frames": model.likelihood(static, dynamic).mean()}

    frames = tf.TensorSpec([None, None, *model.frame_shape], tf.float32, "frames")
    static = tf.TensorSpec([None, model.static_dim], tf.float32, "static")
    dynamic = tf.TensorSpec([None, None, model.dynamic_dim], tf.float32, "dynamic")
    return {encode: [frames], decode: [static, dynamic]}


def _name_dimensions(proto: Any) -> None:
    """Names the first two dimensions B and N where they may have any size."""
    for tensor in (*proto.graph.input, *proto.graph.output):
        for size, letter in zip(tensor.type.tensor_type.shape.dim, "BN", strict=False):
            if not size.HasField("dim_value"):
                size.dim_param = letter


def export(run_dir: Path, directory: Path, checkpoint: str = BEST) -> Path:
    """Writes `encode.onnx`, `decode.onnx` and the model card, in place of what there was.

    Args:
      run_dir: Folder of a finished run.
      directory: Made if it does not exist.
      checkpoint: See `runs.load_model`.

    Returns:
      The directory.

    Raises:
      UserError: If the run has not finished, the files cannot be written, or tf2onnx is not installed.
    """
    model = load_model(run_dir, checkpoint)
    card = model_card(model, run_dir, directory.absolute().name, "float32", checkpoint)
    with folder_for(directory) as partial:
        for name, proto in onnx_models(model).items():
            (partial / f"{name}.onnx").write_bytes(proto.SerializeToString())
        write_card(card, partial)
        directory.mkdir(parents=True, exist_ok=True)
        for path in [*partial.glob("*.onnx"), *partial.glob("model_card.*")]:
            files.put_in_place(path, directory / path.name)
    return directory
