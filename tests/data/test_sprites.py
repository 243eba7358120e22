import functools
import hashlib
import http.server
import shutil
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddr_tf.data import sprites
from ddr_tf.data.characters import attribute_values
from ddr_tf.data.sprites import SHEETS, Sprites, download_sheets, poses
from ddr_tf.errors import UserError


@pytest.fixture
def served(drawn_sheets, monkeypatch):
    """The drawn sheets on a web server, expected by their checksums; (folder, URL)."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    def checksum(path):
        return hashlib.sha256((drawn_sheets / "lpc" / path).read_bytes()).hexdigest()

    sheets = {name: tuple((path, checksum(path)) for path, _ in values) for name, values in SHEETS.items()}
    monkeypatch.setattr(sprites, "SHEETS", sheets)
    handler = functools.partial(Quiet, directory=str(drawn_sheets / "lpc"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield drawn_sheets / "lpc", f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_178_poses():
    labels = poses()
    assert len(labels["row"]) == 178
    assert labels["row"].max() == 20
    assert [(labels["action"] == action).sum() for action in range(6)] == [28, 32, 36, 24, 52, 6]
    assert (labels["row"][28], labels["step"][28], labels["direction"][28]) == (4, 0, 0)  # the first of "thrust"
    assert labels["direction"][-1] == 2


def test_frames_are_cut_from_the_composited_sheets_and_labels_have_names(drawn_sheets):
    dataset = Sprites(str(drawn_sheets))
    assert dataset.frame_shape == (64, 64, 3)
    assert (dataset.frame_counts == 178).all()
    labels = poses()
    for identity in (0, 700, 1295):
        sheet = Image.new("RGBA", sprites.SHEET_SIZE, (0, 0, 0, 255))
        for sheets, value in zip(SHEETS.values(), attribute_values(np.array(identity)), strict=True):
            sheet = Image.alpha_composite(sheet, Image.open(drawn_sheets / "lpc" / sheets[value][0]).convert("RGBA"))
        sheet = np.array(sheet)[..., :3]
        for pose in (0, 30, 177):
            top, left = labels["row"][pose] * 64, labels["step"][pose] * 64
            frame = dataset.render(np.array(identity), np.array(pose))
            np.testing.assert_array_equal(frame, sheet[top : top + 64, left : left + 64])
    assert dataset.label_names["torso"][2:4] == ("white_longsleeve", "plate")
    assert dataset.label_names["legs"][0] == "white_pants"
    assert dataset.label_names["action"][-1] == "hurt"
    for name, words in dataset.label_names.items():
        labels = {**dataset.static_labels, **dataset.frame_labels}[name]
        assert len(set(words)) == len(words) == labels.max() + 1


def test_only_missing_sheets_are_downloaded_and_each_is_checked(served, tmp_path):
    source, url = served
    body = tmp_path / "body/male/light.png"
    body.parent.mkdir(parents=True)
    body.write_bytes(b"mine")
    download_sheets(tmp_path, url)
    assert body.read_bytes() == b"mine"
    assert len(list(tmp_path.rglob("*.png"))) == 24
    assert not list(tmp_path.rglob("*.part"))
    hair = "hair/male/bangs/white.png"
    assert (tmp_path / hair).read_bytes() == (source / hair).read_bytes()


def test_a_changed_sheet_on_the_server_is_not_kept(served, tmp_path, monkeypatch):
    _, url = served
    monkeypatch.setattr(sprites, "SHEETS", {"body": (("body/male/light.png", "0" * 64),)})
    with pytest.raises(UserError, match=r"body/male/light.png is not the expected sheet"):
        download_sheets(tmp_path, url)
    assert not list(tmp_path.rglob("*.p*"))


def test_without_a_network_the_error_says_where_to_put_them(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise urllib.error.URLError("Network is unreachable")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(UserError) as error:
        Sprites(str(tmp_path))
    assert str(tmp_path / "lpc") in str(error.value)
    assert "24 missing sheets" in str(error.value)
    assert "--data_dir" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_truncated_sheet_is_named(drawn_sheets, tmp_path):
    path = tmp_path / "a.png"
    content = (drawn_sheets / "lpc/body/male/light.png").read_bytes()
    for kept in (len(content) // 2, 100, 0):
        path.write_bytes(content[:kept])
        with pytest.raises(UserError, match=r"a\.png cannot be read"):
            sprites.read_sheet(path)


def test_a_sheet_of_another_size_is_named(tmp_path):
    path = tmp_path / "b.png"
    Image.new("RGBA", (832, 1280)).save(path)
    with pytest.raises(UserError, match=r"b\.png is 832 x 1280 pixels, not 832 x 1344"):
        sprites.read_sheet(path)


@pytest.mark.real_data
def test_the_real_sheets(real_data):
    for sheets in SHEETS.values():
        for path, checksum in sheets:
            assert hashlib.sha256((real_data / "lpc" / path).read_bytes()).hexdigest() == checksum
    dataset = Sprites(str(real_data))
    distinct = {frame.tobytes() for frame in dataset.render(np.full(178, 42), np.arange(178))}
    assert 164 <= len(distinct) <= 176


@pytest.mark.slow
def test_the_tool_checks_the_sheets(drawn_sheets, tmp_path):
    tool = Path(__file__).parents[2] / "tools" / "prepare_sprites.py"

    def run(data_dir):
        return subprocess.run([sys.executable, tool, "--data_dir", data_dir], capture_output=True, text=True)

    answer = run(drawn_sheets)
    assert (answer.returncode, answer.stdout) == (0, f"{drawn_sheets / 'lpc'}: 24 sheets of 178 frames each\n")
    shutil.copytree(drawn_sheets, tmp_path, dirs_exist_ok=True)
    (tmp_path / "lpc/hair/male/bangs/white.png").write_bytes(b"")
    answer = run(tmp_path)
    assert answer.returncode == 2
    assert "bangs/white.png cannot be read" in answer.stderr
    assert "Traceback" not in answer.stderr
