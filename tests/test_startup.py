"""How TensorFlow and Keras are started: in programs of their own, since this one has started them."""

import json
import os
import subprocess
import sys

import pytest

BUILD = """
import numpy as np
from ddr_tf import DDR
model = DDR((16, 16, 1), static_dim=4, width=4, pair_width=4, dense_units=8)
out = model(np.zeros((1, 2, 16, 16, 1), np.uint8))["reconstruction"]
print(out.shape, out.dtype.name)
"""


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=os.environ | environment
    )


def test_nothing_of_tensorflows_shows(tmp_path):
    answer = run(
        "from ddr_tf import startup; startup.import_tensorflow(); import tensorflow as tf; print(tf.Variable(1))"
    )
    assert answer.stdout.startswith("<tf.Variable")
    assert answer.stderr == ""


def test_its_notes_show_if_it_cannot_be_imported(tmp_path):
    (tmp_path / "tensorflow.py").write_text(
        "import os; os.write(2, b'a note\\n'); raise ImportError('no such library')"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    answer = run("from ddr_tf import startup; startup.import_tensorflow()", PYTHONPATH=path)
    assert answer.returncode == 1
    assert answer.stderr.startswith("a note\n")
    assert answer.stderr.endswith("ImportError: no such library\n")


def test_the_settings_of_keras_for_other_programs_are_overruled(tmp_path):
    settings = {"backend": "jax", "image_data_format": "channels_first", "floatx": "float16", "epsilon": 1e-7}
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    answer = run(BUILD, KERAS_BACKEND="jax", KERAS_HOME=str(tmp_path))
    assert answer.stdout == "(1, 2, 16, 16, 1) float32\n", answer.stderr


def test_keras_on_another_backend_is_refused_in_a_line():
    code = "import types, sys\nkeras = types.ModuleType('keras')\nsys.modules['keras'] = keras\n"
    code += "keras.config = types.SimpleNamespace(backend=lambda: 'jax')\nimport ddr_tf.model"
    answer = run(code)
    assert answer.stderr.endswith(
        "ImportError: ddr_tf needs Keras on TensorFlow, not on jax: import ddr_tf before keras.\n"
    )


def test_names_are_imported_when_they_are_asked_for():
    code = "import ddr_tf, sys\nassert 'tensorflow' not in sys.modules and 'gin' not in sys.modules\n"
    code += "from ddr_tf import DDR, FrameFolders, Puppets, Sprites, load\n"
    code += "print(DDR.__module__, set(ddr_tf.__all__) <= set(dir(ddr_tf)))"
    assert run(code).stdout == "ddr_tf.model.ddr True\n"


def test_a_name_that_is_not_there_is_an_attribute_error():
    import ddr_tf

    with pytest.raises(AttributeError, match="has no attribute 'Puppet'"):
        _ = ddr_tf.Puppet


def test_programs_import_keras_without_what_only_its_wrappers_use():
    code = "import sys; from ddr_tf import startup; startup.import_for_program()\n"
    code += "print({'sklearn', 'matplotlib'} & set(sys.modules)); import keras, matplotlib, sklearn"
    answer = run(code)
    assert (answer.stdout, answer.returncode) == ("set()\n", 0), answer.stderr


def test_other_lines_than_those_of_onednn_show():
    code = "import os; from ddr_tf import startup\nwith startup.without_onednn_notes():\n"
    code += "    os.write(2, b'one\\nE0000 oneDNN supports DT_HALF only on others\\ntwo')"
    assert run(code).stderr == "one\ntwo"


def test_an_exported_model_is_read_without_what_only_training_needs():
    code = "import ddr_tf, sys\nprint(len(ddr_tf.load('puppets').sample(2).frames))\n"
    code += "print({'tensorflow_probability', 'tf_keras', 'ddr_tf.model.ddr'} & set(sys.modules))"
    code += "\nfrom ddr_tf.model import DDR; print(DDR.__name__)"
    assert run(code).stdout == "2\nset()\nDDR\n"
