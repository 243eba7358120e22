"""Measures how fast a running server (ddr_tf.serve or TF Serving) answers, with a few clients that never pause."""

import argparse
import io
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ddr_tf import cli
from ddr_tf.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from ddr_tf.serving.client import Client

WARM_UP_REQUESTS = 3


def requests_of(client: "Client", num_frames: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """What is measured -> signature and inputs, of frames that the model itself has drawn."""
    import numpy as np
    from PIL import Image

    drawn = client.predict("sample", count=1, frames_per_sequence=num_frames, seed=[0, 0])
    files = []
    for frame in np.round(drawn["frames"][0] * 255).astype(np.uint8):
        file = io.BytesIO()
        Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame).save(file, "PNG")
        files.append(file.getvalue())
    static, dynamic, frames = drawn["static"], drawn["dynamic"], drawn["frames"]
    return {
        "decode, 1 frame": ("decode", {"static": static, "dynamic": dynamic[:, :1]}),
        f"decode, {num_frames} frames": ("decode", {"static": static, "dynamic": dynamic}),
        f"encode, {num_frames} frames": ("encode", {"frames": frames}),
        f"encode_bytes, {num_frames} frames": ("encode_bytes", {"encoded_frames": [files]}),
    }


def measure(
    clients: "list[Client]", seconds: float, signature: str, inputs: dict[str, Any]
) -> "tuple[float, np.ndarray]":
    """Requests/s of all clients together, and the seconds that each request took, as the client sees it."""
    import numpy as np

    def ask(client: "Client", end: float) -> list[float]:
        took = []
        while (start := time.perf_counter()) < end:
            client.predict(signature, **inputs)
            took.append(time.perf_counter() - start)
        return took

    for client in clients:
        for _ in range(WARM_UP_REQUESTS):
            client.predict(signature, **inputs)
    with ThreadPoolExecutor(len(clients)) as pool:
        start = time.perf_counter()
        took = [one for times in pool.map(ask, clients, [start + seconds] * len(clients)) for one in times]
        return len(took) / (time.perf_counter() - start), np.array(took)


def main() -> int:
    """Returns the exit status."""
    flags = argparse.ArgumentParser(
        description=__doc__, epilog="example: python tools/benchmark_serving.py --model puppets"
    )
    flags.add_argument("--model", required=True, metavar="NAME", help="as in saved_models/NAME")
    flags.add_argument("--url", default="http://127.0.0.1:8501", help="default: %(default)s")
    flags.add_argument("--frames", type=int, default=8, help="in a request (default: %(default)s)")
    flags.add_argument("--clients", type=int, nargs="+", default=[1, 4], help="at once (default: 1 4)")
    flags.add_argument("--seconds", type=float, default=5, help="for each line (default: %(default)s)")
    given = flags.parse_args()

    def body() -> None:
        if min(given.frames, *given.clients) < 1 or not given.seconds > 0:
            raise UserError("--frames and --clients must be at least 1, and --seconds above 0.")
        import numpy as np

        from ddr_tf.serving.client import Client

        clients = [Client(given.model, given.url) for _ in range(max(given.clients))]
        requests = requests_of(clients[0], given.frames)
        print("| request | clients | requests/s | p50, ms | p99, ms |\n| --- | --- | --- | --- | --- |")
        for name, (signature, inputs) in requests.items():
            for count in given.clients:
                speed, took = measure(clients[:count], given.seconds, signature, inputs)
                p50, p99 = np.percentile(took, [50, 99]) * 1000
                print(f"| {name} | {count} | {speed:.0f} | {p50:.1f} | {p99:.1f} |", flush=True)

    return cli.run(body)


if __name__ == "__main__":
    sys.exit(main())
