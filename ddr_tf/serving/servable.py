"""One version of an exported model, loaded to be served."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from ddr_tf.errors import UserError
from ddr_tf.serving.calls import call
from ddr_tf.serving.saved_model import SAVED_MODEL, find_saved_model, load_signatures


class Servable:
    """A loaded version of an exported model.

    Attributes:
      name, version: As in `saved_models/<name>/<version>`; the version is 1 if the folder's name is not a number.
      directory: Of this version.
      signature_def: Signature -> names, types and shapes of its inputs and outputs, as the SavedModel has them.
    """

    def __init__(self, directory: Path) -> None:
        """Loads it.

        Args:
          directory: `saved_models/<name>`, for its newest version, or `saved_models/<name>/<version>`.

        Raises:
          UserError: If it cannot be loaded.
        """
        version = self.directory = find_saved_model(directory.absolute())
        numbered = version.name.isdecimal()
        self.name, self.version = (version.parent.name, int(version.name)) if numbered else (version.name, 1)
        try:
            saved = saved_model_pb2.SavedModel.FromString((version / SAVED_MODEL).read_bytes())
        except (OSError, DecodeError) as error:
            raise UserError(f"{version / SAVED_MODEL} cannot be loaded ({error}); export the model again.") from error
        self._loaded = load_signatures(version)  # signatures live as long as this does
        self.signature_def = saved.meta_graphs[0].signature_def

    def inputs(self, signature: str) -> Mapping[str, meta_graph_pb2.TensorInfo]:
        """Name of an input -> its type and shape.

        Raises:
          UserError: If there is no such signature.
        """
        if signature not in self._loaded.signatures:
            raise UserError(
                f'Serving signature name: "{signature}" not found in signature def; there are: '
                f"{', '.join(sorted(self._loaded.signatures))}"
            )
        return self.signature_def[signature].inputs

    def values_per_frame(self, signature: str) -> int:
        """How many numbers all outputs of a signature have for each frame: those beyond `[B, N]`."""
        shapes = [info.tensor_shape.dim for info in self.signature_def[signature].outputs.values()]
        return sum(math.prod(max(1, size.size) for size in shape[2:]) for shape in shapes)

    def __call__(self, signature: str, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs a signature.

        Raises:
          UserError: With what its own checks say.
        """
        return call(self._loaded.signatures[signature], tensors)
