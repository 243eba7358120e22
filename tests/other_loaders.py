"""A program that loads a SavedModel as others do, without ddr_tf: `python other_loaders.py REQUESTS ANSWERS`.

REQUESTS is a pickled list of (directory of a SavedModel, signature, inputs as name -> array). ANSWERS is a pickled list
of a dictionary each: name of the loader -> outputs as name -> array, or the text of an error.
"""

import ctypes
import functools
import pickle
import sys
from pathlib import Path

sys.modules["ddr_tf"] = None  # an import of it is an error

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from tensorflow.core.protobuf import saved_model_pb2  # noqa: E402

signatures_2 = functools.cache(lambda directory: tf.saved_model.load(directory).signatures)


def load_2(directory, signature, inputs):
    """`tf.saved_model.load`."""
    outputs = signatures_2(directory)[signature](**{name: tf.constant(value) for name, value in inputs.items()})
    return {name: value.numpy() for name, value in outputs.items()}


@functools.cache
def session_1(directory):
    with tf.Graph().as_default():
        session = tf.compat.v1.Session()
        return session, tf.compat.v1.saved_model.load(session, ["serve"], directory).signature_def


def load_1(directory, signature, inputs):
    """The loader of TensorFlow 1."""
    session, signatures = session_1(directory)
    feeds = {signatures[signature].inputs[name].name: value for name, value in inputs.items()}
    return session.run({name: tensor.name for name, tensor in signatures[signature].outputs.items()}, feeds)


class Output(ctypes.Structure):
    """`TF_Output`."""

    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


class CApi:
    """`TF_LoadSessionFromSavedModel`, the loader that TensorFlow Serving is built on; numbers only, no strings."""

    def __init__(self):
        self._library = ctypes.CDLL(str(Path(tf.__file__).parent / "libtensorflow_cc.so.2"))
        pointers = ("TF_NewStatus", "TF_NewGraph", "TF_NewSessionOptions", "TF_LoadSessionFromSavedModel")
        for name in (*pointers, "TF_GraphOperationByName", "TF_AllocateTensor", "TF_TensorData"):
            getattr(self._library, name).restype = ctypes.c_void_p
        self._library.TF_Message.restype = ctypes.c_char_p
        self._library.TF_Dim.restype = ctypes.c_int64
        self._status = ctypes.c_void_p(self._library.TF_NewStatus())

    def _check(self):
        if self._library.TF_GetCode(self._status):
            raise RuntimeError(self._library.TF_Message(self._status).decode())

    def _output(self, graph, name):
        operation, index = name.split(":")
        found = self._library.TF_GraphOperationByName(graph, operation.encode())
        assert found, name
        return Output(found, int(index))

    def _tensor(self, array, dtype):
        array = np.array(array, order="C")
        sizes = (ctypes.c_int64 * array.ndim)(*array.shape)
        tensor = self._library.TF_AllocateTensor(dtype, sizes, array.ndim, ctypes.c_size_t(array.nbytes))
        data = self._library.TF_TensorData(ctypes.c_void_p(tensor))
        ctypes.memmove(data, array.ctypes.data, array.nbytes)
        return tensor

    def _array(self, tensor):
        tensor = ctypes.c_void_p(tensor)
        assert self._library.TF_TensorType(tensor) == tf.float32.as_datatype_enum
        shape = [self._library.TF_Dim(tensor, i) for i in range(self._library.TF_NumDims(tensor))]
        data = ctypes.cast(self._library.TF_TensorData(tensor), ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(data, shape).copy()

    @functools.cache  # noqa: B019
    def _session(self, directory):
        """Session, graph and signatures."""
        graph = ctypes.c_void_p(self._library.TF_NewGraph())
        options = ctypes.c_void_p(self._library.TF_NewSessionOptions())
        tags = (ctypes.c_char_p * 1)(b"serve")
        session = self._library.TF_LoadSessionFromSavedModel(
            options, None, directory.encode(), tags, 1, graph, None, self._status
        )
        self._check()
        meta = saved_model_pb2.SavedModel.FromString((Path(directory) / "saved_model.pb").read_bytes()).meta_graphs[0]
        return ctypes.c_void_p(session), graph, meta.signature_def

    def __call__(self, directory, signature, inputs):
        session, graph, signatures = self._session(directory)
        wanted = signatures[signature]
        feeds = [self._output(graph, wanted.inputs[name].name) for name in inputs]
        tensors = [self._tensor(value, wanted.inputs[name].dtype) for name, value in inputs.items()]
        fetches = [self._output(graph, tensor.name) for tensor in wanted.outputs.values()]
        results = (ctypes.c_void_p * len(fetches))()
        self._library.TF_SessionRun(
            session,
            None,
            (Output * len(feeds))(*feeds),
            (ctypes.c_void_p * len(tensors))(*tensors),
            len(feeds),
            (Output * len(fetches))(*fetches),
            results,
            len(fetches),
            None,
            0,
            None,
            self._status,
        )
        self._check()
        return {name: self._array(result) for name, result in zip(wanted.outputs, results, strict=True)}


def main():
    requests = pickle.loads(Path(sys.argv[1]).read_bytes())
    loaders = {"tf.saved_model.load": load_2, "TensorFlow 1": load_1, "C API": CApi()}
    answers = []
    for directory, signature, inputs in requests:
        found = {}
        for name, loader in loaders.items():
            if name == "C API" and any(value.dtype.kind in "OS" for value in inputs.values()):
                continue
            try:
                found[name] = loader(directory, signature, inputs)
            except Exception as error:
                found[name] = f"{type(error).__name__}: {error}"
        answers.append(found)
    Path(sys.argv[2]).write_bytes(pickle.dumps(answers))


if __name__ == "__main__":
    main()
