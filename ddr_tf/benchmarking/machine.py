"""What the measurements depend on: the machine and the versions of libraries."""

import contextlib
import importlib.util
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import tensorflow as tf

import ddr_tf
from ddr_tf.training import devices

PACKAGES = ("tensorflow", "keras", "tensorflow-probability", "numpy")


def machine() -> dict[str, Any]:
    """What this process computes on."""
    gpus = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    return {
        "cpu": _cpu(),
        "cores": devices.num_cores(),
        "cores_of_an_operation": tf.config.threading.get_intra_op_parallelism_threads() or "all",
        "ram_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "gpus": [details.get("device_name", "GPU") for details in gpus],
        "system": platform.platform(),
        "onednn": onednn_is_on(),
        "TF_ENABLE_ONEDNN_OPTS": os.environ.get("TF_ENABLE_ONEDNN_OPTS"),
    }


def _cpu() -> str:
    with contextlib.suppress(OSError):  # not Linux
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def onednn_is_on() -> bool | None:
    """Whether TensorFlow computes with oneDNN here; None if it does not tell (it has no public name for that)."""
    if importlib.util.find_spec("tensorflow.python.util._pywrap_util_port") is None:
        return None
    from tensorflow.python.util import _pywrap_util_port

    return bool(_pywrap_util_port.IsMklEnabled())


def versions() -> dict[str, str]:
    """Package -> its version, and Python's."""
    return {"ddr_tf": ddr_tf.__version__, "python": platform.python_version()} | {
        name: metadata.version(name) for name in PACKAGES
    }
