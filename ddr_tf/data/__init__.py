"""Datasets: what a dataset provides, how batches are sampled from it, and one module a dataset."""

from ddr_tf.data.aff_wild import AffWild
from ddr_tf.data.arrays import ArrayDataset
from ddr_tf.data.frame_folders import FrameFolders
from ddr_tf.data.moving_mnist import MovingMNIST, PublishedMovingMNIST
from ddr_tf.data.puppets import Puppets
from ddr_tf.data.sequence_dataset import SequenceDataset
from ddr_tf.data.sprites import Sprites
from ddr_tf.data.tfrecords import TFRecords

__all__ = [
    "AffWild",
    "ArrayDataset",
    "FrameFolders",
    "MovingMNIST",
    "PublishedMovingMNIST",
    "Puppets",
    "SequenceDataset",
    "Sprites",
    "TFRecords",
]
