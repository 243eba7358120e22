"""Results of measurements."""

from ddr_tf.benchmarking import measure
from ddr_tf.model.ddr import DDR
from tiny import SIZES


def test_latencies_of_a_model():
    ddr = DDR((16, 16, 1), **SIZES)
    latencies = measure.latency(ddr.get_config(), num_calls=3, frame_counts=(1, 2))
    assert list(latencies) == ["encode_2_frames", "encode_1_frames", "decode_2_frames", "decode_1_frames"]
    assert all(0 < latency["median_ms"] <= latency["p90_ms"] for latency in latencies.values())
