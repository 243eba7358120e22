import os
import sys
import tempfile
from pathlib import Path

import gin
import pytest

from conftest import GIN, RandomDataset, draw_image
from ddr_tf import config
from ddr_tf.data.augmentation import Augmentation
from ddr_tf.data.shards import write_shards
from ddr_tf.errors import UserError
from ddr_tf.training.loop import train


@pytest.fixture
def gin_file(tmp_path):
    def write(text, name="some.gin"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# comment\ntrain.stepz = 3", ["some.gin, line 2", "stepz", "did you mean steps?"]),
        ("DDRR.width = 3", ["some.gin, line 1", "DDRR", "did you mean DDR?"]),
        ("DDR.widht = 3", ["some.gin, line 1", "widht", "did you mean width?"]),
        ("Muon.momentumm = 0.8", ["some.gin, line 1", "momentumm", "did you mean momentum?"]),
        ("train.sequences = @Puppet", ["some.gin, line 1", "did you mean Puppets?"]),
        ("train.steps =", ["some.gin, line 1: train.steps is given no value."]),
        ("\ntrain.steps = 'many'", ["some.gin, line 2", "train.steps must be int, got 'many'"]),
        ("train.steps = 1.5", ["must be int", "some.gin, line 1"]),
        ("train.steps = True", ["must be int"]),
        ("DDR.gradient_clip_norm = None", ["must be float, got None"]),
        ("train.smaller_config = 3", ["must be str or None, got 3"]),
        ("train.sequences = 'Puppets'", ["train.sequences must be a name with @", "some.gin, line 1"]),
        ("train.sequences = @Puppets()", ["must be a name with @ and without ()"]),
        ("train.augmentation = 'Augmentation'", ["train.augmentation must be a name with @", "some.gin, line 1"]),
        ("train.augmentation = Augmentation", ["write train.augmentation = @Augmentation."]),
        ("train.steps = @Puppets", ["train.steps must be int, got @Puppets"]),
        ("train.steps = %missing", ["%missing", "no value"]),
        ("train.run_dir = 'x'", ["run_dir"]),
        ("DDR.noise_seed = 1", ["noise_seed"]),
        ("include 'nothing.gin'", ["some.gin, line 1", "nothing.gin"]),
        ("include 'some.gin'", ["some.gin, line 1", "is included while it is read."]),
        ("import nothing_at_all", ["some.gin, line 1", "nothing_at_all"]),
        ("# one\nsteps = 10", ["some.gin, line 2: nothing uses steps; did you mean train.steps?"]),
        ("learning_rat = 1e-4", ["nothing uses learning_rat; did you mean train.learning_rate?"]),
        ("xyzzy = 1", ["nothing uses xyzzy; write %xyzzy where its value belongs."]),
        ("FrameFolders.root = my_frames", ["some.gin, line 1: ", "write FrameFolders.root = 'my_frames'."]),
        ("FrameFolders.root = ~/my frames  # mine", ["write FrameFolders.root = '~/my frames'."]),
        ("FrameFolders.root =", ["some.gin, line 1: ", "FrameFolders.root is given no value."]),
        ("data_dir = /x", ["some.gin, line 1: ", "The folder of datasets is given with --data_dir /x."]),
        ("train.optimizer = Muon", ["some.gin, line 1: ", "write train.optimizer = @Muon."]),
        ("train.sequences = puppets", ["write train.sequences = @Puppets."]),
        ("\ntrain.steps = ten", ["some.gin, line 2: train.steps must be int, got ten."]),
        (r"FrameFolders.root = 'C:\Users\x'", [r"write r'C:\Users\x', or / instead."]),
        ("include quickstart.gin", ["some.gin, line 1: ", "needs quotes; write include 'quickstart.gin'."]),
        ("train.steps = (5", ["some.gin", "A bracket or a quotation mark is not closed."]),
        ("ddr.width = 4", ["some.gin, line 1", "did you mean DDR?"]),
        ("FrameFolders.held_out = 3", ["must be str or None, got 3"]),
        ("DDR.dtype = 3", ["DDR.dtype must be str, got 3"]),
        ("big/train.steps = 9", ["some.gin, line 1: nothing uses the scope big; write train.steps."]),
        ("train.model = @Puppets", ["train.model must be one of @DDR; got @Puppets", "some.gin, line 1"]),
        ("train.optimizer = @DDR", ["train.optimizer must be one of @Adam, @Muon; got @DDR"]),
        ("train.sequences = @Muon", ["train.sequences must be one of @AffWild, @FrameFolders, ", "; got @Muon"]),
        ("train.augmentation = @Puppets", ["train.augmentation must be one of @Augmentation; got @Puppets"]),
        (r"FrameFolders.root = 'C:\new'", ["FrameFolders.root holds a control character", "write r'..'"]),
    ],
)
def test_mistakes_in_a_file_are_one_line_with_place_and_remedy(gin_file, text, expected):
    with pytest.raises(UserError) as error:
        config.load([gin_file(text)])
    message = str(error.value)
    assert "\n" not in message
    for part in expected:
        assert part in message
    assert config.explain(message) == message  # as the commands do, which then name a place once


def test_a_byte_order_mark_is_passed_over(gin_file):
    config.load([gin_file("\ufefftrain.steps = 9")])
    assert gin.query_parameter("train.steps") == 9


def test_scopes_that_are_used_may_be_bound(gin_file):
    config.load([gin_file("train.optimizer = @large/Muon\nlarge/Muon.momentum = 0.9")])


def test_mistakes_in_a_binding_name_the_flag(gin_file):
    with pytest.raises(UserError, match=r"--gin_param 'train.stepz=3'.*did you mean steps\?"):
        config.load([gin_file("")], ["train.stepz=3"])
    with pytest.raises(UserError, match=r"train.steps must be int, got 'x'.*--gin_param 'train.steps=\"x\"'"):
        config.load([gin_file("")], ['train.steps="x"'])


@pytest.mark.parametrize(
    ("binding", "value"),
    [
        ("FrameFolders.root=my_frames", "my_frames"),
        ("FrameFolders.root = C:\\my data", "C:\\my data"),
        ("FrameFolders.root='my_frames'", "my_frames"),
        ("FrameFolders.root=2024", "2024"),
        ("DDR.dtype=mixed_bfloat16", "mixed_bfloat16"),
        ("train.smaller_config=None", None),
    ],
)
def test_quotes_may_be_left_out_in_a_binding(gin_file, binding, value):
    config.load([gin_file("")], [binding])
    assert gin.query_parameter(binding.split("=")[0].strip()) == value


def test_a_macro_of_a_binding_that_nothing_uses_is_refused(gin_file):
    with pytest.raises(UserError, match=r"^--gin_param 'steps=10': nothing uses steps; did you mean train.steps\?$"):
        config.load([gin_file("")], ["steps=10"])
    config.load([gin_file("train.steps = %budget")], ["budget=10"])
    assert gin.get_bindings("train")["steps"] == 10


@pytest.mark.parametrize("binding", ["FrameFolders.root=my_frames", "Adam.epsilon=1e-5", "Augmentation.flip=False"])
def test_a_binding_of_what_the_run_does_not_use_is_remarked_on(binding, capsys):
    words = f"--gin_param '{binding}' has no effect: the run does not use {binding.partition('.')[0]}, but DDR, Muon, "
    assert words in warnings_of(capsys, "quickstart.gin", binding)


def warnings_of(capsys, name, *bindings):
    config.load([name], bindings)
    config.warn_of_no_effect(bindings)
    return capsys.readouterr().err


def test_a_binding_may_choose_what_another_sets(capsys):
    for chosen in ("train.sequences=@FrameFolders", "train.sequences=%mine"):
        others = ["mine=@FrameFolders", "train.augmentation=@Augmentation", "Augmentation.flip=False"]
        bindings = [chosen, "FrameFolders.root=x", *(others if "%" in chosen else [])]
        assert warnings_of(capsys, "quickstart.gin", *bindings) == ""
    config.load(["quickstart.gin", "shards.gin"], shards := ["TFRecords.folder=x", "Puppets.size=16"])
    config.warn_of_no_effect(shards)
    assert capsys.readouterr().err == ""
    assert warnings_of(capsys, str(GIN / "frame_folders.gin"), "train.augmentation=None", "FrameFolders.root=x") == ""


def test_includes_are_relative_to_the_file_that_has_them(gin_file, tmp_path, monkeypatch):
    (tmp_path / "a/b").mkdir(parents=True)
    top = gin_file("include 'quickstart.gin'\ninclude 'a/one.gin'")
    gin_file("include 'b/two.gin'\ntrain.steps = 7", "a/one.gin")
    gin_file("include '../three.gin'", "a/b/two.gin")
    gin_file("train.seed = 3", "a/three.gin")
    monkeypatch.chdir("/")
    config.load([top])
    assert config.locate("train.seed") == f"{tmp_path}/a/three.gin, line 1"
    assert gin.query_parameter("train.sequences").selector.endswith("Puppets")


@pytest.mark.parametrize("name", ["quickstart.gin", "gin/quickstart.gin", "baselines/pooled.gin"])
def test_shipped_files_are_found_from_any_folder(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    config.load([name])
    assert config.find_gin_file(name).is_absolute()


def test_modules_are_imported_from_the_folder_of_the_file(gin_file, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "beside_gin.py").write_text("")
    config.load([gin_file("import beside_gin")])
    assert sys.path[-1] == str(tmp_path)
    assert "beside_gin" in sys.modules


def test_without_a_home_data_are_in_a_temporary_folder(monkeypatch):
    monkeypatch.delenv("DDR_TF_DATA", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert config.default_data_dir() == str(Path(tempfile.gettempdir()) / f"ddr_tf_{os.getuid()}")


def test_a_missing_file_suggests_its_neighbour(gin_file):
    path = gin_file("", "quickstart.gin")
    with pytest.raises(UserError, match=r"There is no gin file .*quikstart.gin; did you mean quickstart.gin\?"):
        config.load([path.replace("quickstart", "quikstart")])


def test_an_error_in_an_included_file_names_that_file(gin_file):
    gin_file("\n\ntrain.stepz = 1", "base.gin")
    with pytest.raises(UserError, match=r"base.gin, line 3: .*stepz"):
        config.load([gin_file("include 'base.gin'")])


def test_later_files_and_bindings_win_and_their_place_is_named(gin_file):
    files = [gin_file("train.steps = 1", "a.gin"), gin_file("\ntrain.steps = 2", "b.gin")]
    config.load(files)
    assert gin.query_parameter("train.steps") == 2
    assert config.locate("train.steps").endswith("b.gin, line 2")
    assert config.locate("train.seed") is None
    config.load(files, ["train.steps=3"])
    assert gin.query_parameter("train.steps") == 3
    assert "--gin_param" in config.explain("train.steps is wrong.")
    for said in ("a.gin, line 1: train.steps is wrong.", "--gin_param 'steps=3': did you mean train.steps?"):
        assert config.explain(said) == said


def test_an_int_is_a_float_and_the_data_dir_is_a_macro(gin_file, monkeypatch):
    config.load([gin_file("DDR.gradient_clip_norm = 5\nSprites.data_dir = %data_dir")], data_dir="/there")
    assert gin.get_bindings("Sprites")["data_dir"] == "/there"
    monkeypatch.setenv("DDR_TF_DATA", "/elsewhere")
    config.load([gin_file("Sprites.data_dir = %data_dir")])
    assert gin.get_bindings("Sprites")["data_dir"] == "/elsewhere"
    monkeypatch.delenv("DDR_TF_DATA")
    assert config.default_data_dir().endswith("/.cache/ddr_tf")


def test_a_setting_of_what_is_named_must_be_given(gin_file):
    with pytest.raises(UserError, match=r"^FrameFolders.root is not set; set it in a gin file or with --gin_param\.$"):
        config.load([str(GIN / "frame_folders.gin")])


def test_a_setting_without_default_must_be_given(gin_file):
    config.load([gin_file("train.steps = 3")])
    with pytest.raises(UserError, match=r"train.sequences is not set"):
        config.call(train, run_dir="x")


@pytest.fixture(scope="session")
def bindings(drawn_data):
    """What users must say: where their own folders are. And smaller numbers, for speed."""
    write_shards(RandomDataset(), drawn_data / "shards")
    return [
        f"FrameFolders.root = '{drawn_data / 'faces'}'",
        f"TFRecords.folder = '{drawn_data / 'shards'}'",
        "MovingMNIST.num_train = 40",
        "MovingMNIST.num_held_out = 10",
    ]


# To composite the sheets once, and to build what changes most of the model, is enough.
SLOW = ("sprites_small.gin", "sprites_short.gin", "ml_vae.gin", "pooled.gin", "distinct_frames.gin")


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.name, marks=[pytest.mark.slow] if path.name in SLOW else [])
        for path in sorted(GIN.rglob("*.gin"))
    ],
)
def test_shipped_files_build_what_they_name(path, drawn_data, bindings, tmp_path):
    if path.name == "cmu_faces.gin":  # whose names say what they show
        for number, name in enumerate(("anna/left", "anna/up", "bob/left", "bob/up")):
            draw_image(tmp_path / f"{name}_happy_open.png", number)
        bindings = [*bindings, f"FrameFolders.root = {str(tmp_path)!r}"]
    second = path.name == "shards.gin" or path.parent.name == "baselines"
    files = [GIN / "quickstart.gin", path] if second else [path]
    (tmp_path / "bindings.gin").write_text("\n".join(bindings))
    config.load(list(map(str, [*files, tmp_path / "bindings.gin"])), data_dir=str(drawn_data))
    assert config.locate("DDR.dynamic_dim")
    if path.name in ("base.gin", "photographs.gin"):
        return
    settings = gin.get_bindings("train")
    sequences = settings["sequences"]()
    model = settings["model"](frame_shape=sequences.frame_shape, noise_seed=0)
    frames = next(iter(sequences.batches("train", 1, settings["num_frames"], seed=0)))
    assert model(frames)["reconstruction"].shape == frames.shape
    assert model.get_config()["static_dim"] == gin.query_parameter("DDR.static_dim")
    assert {"steps", "batch_size", "learning_rate", "checkpoint_every"} <= settings.keys()


def test_a_folder_is_no_gin_file():
    with pytest.raises(UserError, match="is a folder; name a gin file"):
        config.find_gin_file(str(GIN))


def test_macros_are_recorded_as_their_values(gin_file):
    config.load([gin_file("part = 0.25\nAugmentation.blend = %part\n")])
    config.call(Augmentation)
    recorded = config.operative()
    assert recorded["Augmentation.blend"] == "0.25"
    assert "part" not in recorded
