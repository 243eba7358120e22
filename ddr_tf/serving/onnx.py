"""Encoder and decoder as ONNX files, for onnxruntime and its kind.

    encode.onnx     frames [B, N, H, W, C] -> static_mean, static_stddev [B, F], dynamic_mean, dynamic_stddev [B, N, Z]
    decode.onnx     static [B, F], dynamic [B, N, Z] -> frames [B, N, H, W, C]

The signatures `encode` and `decode` of `serving`, but without its checks, for which ONNX has no words: frames must be
in [0, 1]. Arithmetic is float32, also of a model that was trained in bfloat16. All frames are encoded at once.
"""

import json
from pathlib import Path
from typing import Any

import tensorflow as tf

from ddr_tf.errors import UserError
from ddr_tf.model.ddr import DDR
from ddr_tf.runs import load_model
from ddr_tf.serving.model_card import markdown, model_card
from ddr_tf.serving.saved_model import beside

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
    whole = DDR.from_config(model.get_config() | {"dtype": "float32"})
    whole.set_weights(model.get_weights())

    def encode(frames: tf.Tensor) -> dict[str, tf.Tensor]:
        features = whole.features(frames)
        static = whole.static_posterior(features)
        dynamic = whole.dynamic_posterior(features, static.mean())
        return {
            "static_mean": static.mean(),
            "static_stddev": static.stddev(),
            "dynamic_mean": dynamic.mean(),
            "dynamic_stddev": dynamic.stddev(),
        }

    def decode(static: tf.Tensor, dynamic: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"frames": whole.likelihood(static, dynamic).mean()}

    frames = tf.TensorSpec([None, None, *model.frame_shape], tf.float32, "frames")
    static = tf.TensorSpec([None, model.static_dim], tf.float32, "static")
    dynamic = tf.TensorSpec([None, None, model.dynamic_dim], tf.float32, "dynamic")
    found = {}
    for function, inputs in ((encode, [frames]), (decode, [static, dynamic])):
        traced = tf.function(function, input_signature=inputs, autograph=False)
        proto, _ = tf2onnx.convert.from_function(traced, inputs, opset=OPSET)
        for tensor in (*proto.graph.input, *proto.graph.output):
            for size, letter in zip(tensor.type.tensor_type.shape.dim, "BN", strict=False):
                if not size.HasField("dim_value"):
                    size.dim_param = letter
        found[function.__name__] = proto
    return found


def export(run_dir: Path, directory: Path) -> Path:
    """Writes `encode.onnx`, `decode.onnx` and the model card, in place of what there was.

    Args:
      run_dir: Folder of a finished run.
      directory: Made if it does not exist.

    Returns:
      The directory.

    Raises:
      UserError: If the run has not finished, the files cannot be written, or tf2onnx is not installed.
    """
    model = load_model(run_dir)
    card = model_card(model, run_dir, directory.absolute().name, "float32")
    with beside(directory) as partial:
        for name, proto in onnx_models(model).items():
            (partial / f"{name}.onnx").write_bytes(proto.SerializeToString())
        (partial / "model_card.json").write_text(json.dumps(card, indent=2) + "\n")
        (partial / "model_card.md").write_text(markdown(card))
        directory.mkdir(parents=True, exist_ok=True)
        for path in partial.iterdir():
            path.replace(directory / path.name)
    return directory
