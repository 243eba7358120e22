"""What the measurements depend on."""

import json
import platform

import ddr_tf
from ddr_tf.benchmarking.machine import machine, onednn_is_on, versions


def test_it_can_be_written_as_json():
    described = json.loads(json.dumps(machine()))
    assert described["cores"] >= 1
    assert described["ram_gb"] > 0
    assert described["onednn"] == onednn_is_on()
    assert versions()["ddr_tf"] == ddr_tf.__version__
    assert versions()["python"] == platform.python_version()
