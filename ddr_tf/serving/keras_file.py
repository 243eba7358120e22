"""`.keras` files in exported models, from which others train further."""

import io
import tempfile
import zipfile
from pathlib import Path

import h5py

from ddr_tf.model.ddr import DDR


def write_keras_file(model: DDR, path: Path, weights: str = "float32") -> None:
    """Writes a model as `keras.Model.save` does, but compressed.

    Args:
      model: A model without an optimizer, whose moments would take more space than the weights.
      path: Of the file, which `keras.models.load_model` and `runs.load_keras_model` read.
      weights: "float32", or another to keep them as float16, in half the space; they are float32 when they are read.
    """
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "model.keras"
        model.save(plain)
        with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
            for name in source.namelist():
                content = source.read(name)
                target.writestr(name, _rounded(content) if weights != "float32" and name.endswith(".h5") else content)


def _rounded(content: bytes) -> bytes:
    """An HDF5 file with its arrays in float16."""
    target = io.BytesIO()
    with h5py.File(io.BytesIO(content)) as whole, h5py.File(target, "w") as half:

        def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Dataset):
                half[name] = item[()].astype("float16")
            else:
                half.require_group(name).attrs.update(item.attrs)

        whole.visititems(copy)
    return target.getvalue()
