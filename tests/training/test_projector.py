import numpy as np
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

from conftest import RandomDataset
from ddr_tf.data import Puppets
from ddr_tf.model.ddr import DDR
from ddr_tf.training.projector import FRAMES_PER_SEQUENCE, MAX_SEQUENCES, THUMBNAIL, write_projector
from tiny import SIZES


def table(path):
    return [line.split("\t") for line in path.read_text().splitlines()]


def test_points_have_their_labels_and_pictures(tmp_path):
    puppets = Puppets(16, num_poses=4)
    ddr = DDR(puppets.frame_shape, **SIZES)
    write_projector(tmp_path, ddr, puppets, seed=0)
    config = text_format.Parse((tmp_path / "projector_config.pbtxt").read_text(), ProjectorConfig())
    assert [each.tensor_name for each in config.embeddings] == ["f", "z"]
    counts = [MAX_SEQUENCES, MAX_SEQUENCES * FRAMES_PER_SEQUENCE]
    for each, count, dim in zip(config.embeddings, counts, (4, 3), strict=True):
        points, labels = (table(tmp_path / path) for path in (each.tensor_path, each.metadata_path))
        assert (len(points), len(points[0]), len(labels)) == (count, dim, count + 1)
        assert dim == 4 or all(float(point[2]) == 0 for point in points)
        assert labels[0][:2] == ["sequence", "skin"]
        with Image.open(tmp_path / each.sprite.image_path) as image:
            side = int(np.ceil(count**0.5)) * THUMBNAIL
            assert image.size == (side, side)
            assert np.asarray(image)[:THUMBNAIL, :THUMBNAIL].std() > 0
    assert table(tmp_path / "z_labels.tsv")[0][-2:] == ["arms", "lean"]


def test_few_grey_sequences_without_labels(tmp_path):
    dataset = RandomDataset()
    ddr = DDR(dataset.frame_shape, **SIZES)
    write_projector(tmp_path, ddr, dataset, seed=-1)
    assert table(tmp_path / "f_labels.tsv") == [["4"], ["5"]]
