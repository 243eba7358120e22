"""A client of a served model, by TF Serving's REST API: NumPy arrays in and out, without TensorFlow."""

import base64
import functools
from typing import Any
from urllib.parse import quote

import numpy as np

from ddr_tf.errors import UserError

try:
    import orjson
    import requests
except ImportError as missing:
    raise UserError(f"The client needs requests and orjson ({missing}); pip install -e '.[serving]'.") from missing

TYPES = {"DT_FLOAT": np.float32, "DT_INT32": np.int32, "DT_STRING": object}


class Client:
    """One model of one server. All methods raise `UserError` with what the server says, or if it does not answer."""

    def __init__(self, name: str, url: str = "http://127.0.0.1:8501", timeout: float = 60) -> None:
        """Sends nothing yet.

        Args:
          name: Of the model.
          url: Of `ddr_tf.serve` or TF Serving; http:// may be left out.
          timeout: Seconds to wait for an answer.
        """
        url = url if "://" in url else f"http://{url}"
        self._model = f"{url.rstrip('/')}/v1/models/{quote(name, safe='')}"
        self._timeout = timeout
        self._session = requests.Session()

    def versions(self) -> dict[int, str]:
        """Version -> its state, such as "AVAILABLE"."""
        versions = self._ask("GET", self._model)["model_version_status"]
        return {int(version["version"]): version["state"] for version in versions}

    @functools.cached_property
    def signatures(self) -> dict[str, dict]:
        """Signature -> names, types and shapes of its inputs and outputs, as TF Serving's metadata has them."""
        return self._ask("GET", f"{self._model}/metadata")["metadata"]["signature_def"]["signature_def"]

    def predict(self, signature: str, **inputs: Any) -> dict[str, np.ndarray]:
        """Runs a signature; `ddr_tf.serving.signatures` lists what each takes and returns.

        Args:
          signature: Such as "encode".
          inputs: Arrays, or what NumPy makes arrays of; files as `bytes`.

        Returns:
          Name of an output -> array.
        """
        if signature not in self.signatures:
            raise UserError(f"The model has no signature {signature}; it has: {', '.join(sorted(self.signatures))}.")
        types = self.signatures[signature]["inputs"]
        if inputs.keys() != types.keys():
            raise UserError(f"{signature} takes {', '.join(sorted(types))}; got {', '.join(inputs) or 'nothing'}.")
        columns = {name: _column(value, name, types[name]["dtype"]) for name, value in inputs.items()}
        body = orjson.dumps({"signature_name": signature, "inputs": columns}, option=orjson.OPT_SERIALIZE_NUMPY)
        outputs = self._ask("POST", f"{self._model}:predict", body)["outputs"]
        returned = self.signatures[signature]["outputs"]
        if len(returned) == 1:  # JSON gives a single output without its name
            outputs = {next(iter(returned)): outputs}
        return {name: np.array(value, TYPES[returned[name]["dtype"]]) for name, value in outputs.items()}

    def _ask(self, method: str, url: str, body: bytes | None = None) -> Any:
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            answer = self._session.request(method, url, data=body, headers=headers, timeout=self._timeout)
            document = orjson.loads(answer.content)
        except (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL) as error:
            raise UserError(f"{url} is not the address of a server; give one such as http://127.0.0.1:8501.") from error
        except requests.RequestException as error:
            raise UserError(f"{url} does not answer ({type(error).__name__}); is the server running?") from error
        except orjson.JSONDecodeError as error:
            raise UserError(f"{url} answers with something else than JSON (status {answer.status_code}).") from error
        if not answer.ok:
            raise UserError(f"{url} answers with status {answer.status_code}: {document.get('error', document)}")
        return document


def _column(value: Any, name: str, dtype: str) -> Any:
    """An input as it goes into the request."""
    if dtype == "DT_STRING":
        return _in_base64(value)
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise UserError(f"{name} must be numbers; got {array.dtype}.")
    return np.asarray(array, TYPES[dtype], order="C") if array.ndim else array.item()


def _in_base64(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    return [_in_base64(item) for item in value]
