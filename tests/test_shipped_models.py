"""The models that come with ddr_tf are what their cards say."""

import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ddr_tf
from ddr_tf import config
from ddr_tf.data.moving_mnist import MovingMNIST
from ddr_tf.data.puppets import Puppets
from ddr_tf.data.sprites import Sprites
from ddr_tf.evaluation.image_quality import psnr
from ddr_tf.serving.saved_model import CHECKSUMS, EXTRA, write_checksums
from ddr_tf.training import train

SHIPPED = Path(__file__).parents[1] / "saved_models"
PUPPETS, SPRITES, MOVING_MNIST = (SHIPPED / name for name in ("puppets", "sprites", "moving_mnist"))


@pytest.fixture(scope="module")
def model():
    return ddr_tf.load(str(PUPPETS))


def swap_psnr(model, sequences, num_pairs):
    """Of 8 frames of pairs of held-out sequences that share their poses, against the nearest true frame."""
    random = np.random.RandomState(0)
    a, b = random.choice(sequences.splits["held_out"], (2, num_pairs))
    poses = np.array([random.permutation(sequences.frame_counts[0])[:8] for _ in a])
    frames = [sequences.swap_truth(who[:, None], who[:, None], poses[:, ::step]) for who, step in ((a, -1), (b, 1))]
    truths = sequences.swap_truths(a[:, None], b[:, None], poses)
    swapped = model.swap(*frames)
    return np.max([psnr(swapped, truth / np.float32(255)) for truth in truths], axis=0).mean()


def test_puppets_are_swapped_as_well_as_their_card_says(model):
    card = json.loads((PUPPETS / "1/assets.extra/model_card.json").read_text())
    assert card["dataset"]["licence"].startswith("Apache-2.0")
    swapped = swap_psnr(model, Puppets(size=32, num_poses=16), num_pairs=12)
    assert swapped == pytest.approx(card["evaluation"]["swap_conditioned_psnr"]["value"], abs=1.0)


@pytest.mark.parametrize("folder", sorted(SHIPPED.glob("*/1")), ids=lambda folder: folder.parent.name)
def test_the_settings_that_a_model_was_trained_with_are_still_taken(folder):
    config.load([str(folder / "assets.extra/config.gin")])


@pytest.mark.parametrize("folder", sorted(SHIPPED.glob("*/1")), ids=lambda folder: folder.parent.name)
def test_the_files_are_those_that_were_exported(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "1")
    write_checksums(copy)
    assert (folder / EXTRA / CHECKSUMS).read_bytes() == (copy / EXTRA / CHECKSUMS).read_bytes()


def test_samples_of_the_fitted_density_are_frames_that_the_model_knows(model):
    samples = {density: model.sample(50, 4, seed=0, density=density).frames for density in ("fitted", "standard")}
    assert samples["fitted"].shape == (50, 4, 32, 32, 3)
    decoded_again = {density: psnr(model.reconstruct(frames), frames).mean() for density, frames in samples.items()}
    assert decoded_again["fitted"] > 30 > 25 > decoded_again["standard"]  # 36.3 and 20.0 dB when it was exported


@pytest.mark.slow
@pytest.mark.usefixtures("without_pictures")
def test_training_further_begins_at_the_bound_of_the_card(tmp_path):
    still = dict(learning_rate=1e-12, final_learning_rate=1e-12)
    batches = dict(batch_size=8, num_frames=8, held_out_batches=12)
    steps = dict(steps=1, checkpoint_every=1, log_every=1, steps_per_execution=1)
    sequences = functools.partial(Puppets, size=32, num_poses=256)
    train(str(tmp_path / "run"), sequences=sequences, initial_model="puppets", **still, **batches, **steps)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    begins = next(line["elbo"] for line in lines if line["split"] == "held_out")
    card = json.loads((PUPPETS / "1/assets.extra/model_card.json").read_text())
    assert begins == pytest.approx(card["evaluation"]["elbo_nats_per_frame"]["value"], abs=5)


@pytest.fixture(scope="module")
def sprites_model():
    return ddr_tf.load(str(SPRITES))


def test_sprites_are_swapped_as_well_as_their_card_says(sprites_model, real_data):
    card = json.loads((SPRITES / "1/assets.extra/model_card.json").read_text())
    assert "CC-BY-SA 3.0 and GPL 3.0" in card["dataset"]["licence"]
    assert "Luke Mehl" in (SPRITES / "1/assets.extra/AUTHORS.txt").read_text()
    swapped = swap_psnr(sprites_model, Sprites(str(real_data)), num_pairs=8)
    assert swapped == pytest.approx(card["evaluation"]["swap_conditioned_psnr"]["value"], abs=1.5)


@pytest.mark.parametrize(("folder", "least_psnr"), [(SPRITES, 25), (MOVING_MNIST, 16)])
def test_models_reconstruct_their_example_frames(folder, least_psnr):
    model = ddr_tf.load(str(folder))
    for sequence in "AB":
        files = sorted((folder / "1/assets.extra/examples").glob(f"{sequence}-*.png"))
        frames = np.stack([np.asarray(Image.open(file)).reshape(model.frame_shape) for file in files])
        assert psnr(model.reconstruct(frames), frames / np.float32(255)).mean() > least_psnr


def test_moving_mnist_is_swapped_as_well_as_its_card_says(real_data):
    card = json.loads((MOVING_MNIST / "1/assets.extra/model_card.json").read_text())
    assert card["dataset"]["licence"].startswith("CC-BY-SA 3.0")
    sequences = MovingMNIST(str(real_data), num_train=1, num_held_out=50)
    swapped = swap_psnr(ddr_tf.load(str(MOVING_MNIST)), sequences, num_pairs=12)
    assert swapped == pytest.approx(card["evaluation"]["swap_conditioned_psnr"]["value"], abs=1.5)


def test_shipped_models_are_small():
    sizes = {
        folder.name: sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        for folder in (PUPPETS, SPRITES, MOVING_MNIST)
    }
    assert max(sizes.values()) < 8e6 and sum(sizes.values()) < 20e6, sizes
