"""The models that come with ddr_tf are what their cards say."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ddr_tf
from ddr_tf.data.puppets import Puppets
from ddr_tf.data.sprites import Sprites
from ddr_tf.evaluation.image_quality import psnr
from ddr_tf.training import train

SHIPPED = Path(__file__).parents[1] / "saved_models"
PUPPETS, SPRITES = SHIPPED / "puppets", SHIPPED / "sprites"


@pytest.fixture(scope="module")
def model():
    return ddr_tf.load(str(PUPPETS))


def test_puppets_are_swapped_as_well_as_their_card_says(model):
    card = json.loads((PUPPETS / "1/assets.extra/model_card.json").read_text())
    assert card["dataset"]["licence"].startswith("Apache-2.0")
    puppets, random = Puppets(size=32, num_poses=16), np.random.RandomState(0)
    a, b = random.choice(puppets.splits["held_out"], (2, 12))
    poses = np.array([random.permutation(16)[:8] for _ in a])
    frames = [puppets.swap_truth(who[:, None], who[:, None], poses[:, ::step]) for who, step in ((a, -1), (b, 1))]
    truth = puppets.swap_truth(a[:, None], b[:, None], poses) / np.float32(255)
    swapped = psnr(model.swap(*frames), truth).mean()
    assert swapped == pytest.approx(card["evaluation"]["swap_conditioned_psnr"]["value"], abs=1.0)


def test_samples_of_the_fitted_density_are_frames_that_the_model_knows(model):
    samples = {density: model.sample(50, 4, seed=0, density=density).frames for density in ("fitted", "standard")}
    assert samples["fitted"].shape == (50, 4, 32, 32, 3)
    decoded_again = {density: psnr(model.reconstruct(frames), frames).mean() for density, frames in samples.items()}
    assert decoded_again["fitted"] > 30 > 25 > decoded_again["standard"]  # 36.3 and 20.0 dB when it was exported


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


def test_sprites_are_swapped_as_well_as_their_card_says(sprites_model, shared_data):
    card = json.loads((SPRITES / "1/assets.extra/model_card.json").read_text())
    assert "CC-BY-SA 3.0 and GPL 3.0" in card["dataset"]["licence"]
    assert "Luke Mehl" in (SPRITES / "1/assets.extra/AUTHORS.txt").read_text()
    sprites, random = Sprites(str(shared_data)), np.random.RandomState(0)
    a, b = random.choice(sprites.splits["held_out"], (2, 8))
    poses = np.array([random.permutation(178)[:8] for _ in a])
    frames = [sprites.swap_truth(who[:, None], who[:, None], poses[:, ::step]) for who, step in ((a, -1), (b, 1))]
    truth = sprites.swap_truth(a[:, None], b[:, None], poses) / np.float32(255)
    swapped = psnr(sprites_model.swap(*frames), truth).mean()
    assert swapped == pytest.approx(card["evaluation"]["swap_conditioned_psnr"]["value"], abs=1.5)


def test_sprites_reconstruct_their_example_frames(sprites_model):
    for sequence in "AB":
        files = sorted((SPRITES / "1/assets.extra/examples").glob(f"{sequence}-*.png"))
        frames = np.stack([np.asarray(Image.open(file)) for file in files])
        assert psnr(sprites_model.reconstruct(frames), frames / np.float32(255)).mean() > 25


def test_shipped_models_are_small():
    sizes = {
        folder.name: sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        for folder in (PUPPETS, SPRITES)
    }
    assert max(sizes.values()) < 8e6 and sum(sizes.values()) < 20e6, sizes
