"""What the documentation tells people to write works as it stands."""

import argparse
import configparser
import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tensorflow as tf
from PIL import Image

import ddr_tf
from conftest import GIN, draw_image
from ddr_tf.pictures import gallery
from ddr_tf.training.devices import read_tf_config
from tiny import SIZE_BINDINGS

DOCS = Path(__file__).parents[1] / "docs"
TINY = [
    *("train.steps=4", "train.checkpoint_every=2", "train.log_every=2", "train.held_out_batches=1"),
    *("train.batch_size=2", "train.num_frames=2", "RotatedDigits.num_digits=20", "RotatedDigits.num_angles=4"),
    *SIZE_BINDINGS,
]


@pytest.mark.slow
def test_the_dataset_that_the_page_adds_trains(tmp_path, drawn_data):
    page = (DOCS / "datasets.md").read_text()
    python, gin = re.search(r"```python\n(.*?)```.*?```\n(.*?)```", page, re.DOTALL).groups()
    (tmp_path / "rotated_digits.py").write_text(python)
    (tmp_path / "rotated_digits.gin").write_text(gin)
    bindings = [part for binding in TINY for part in ("--gin_param", binding)]
    command = [sys.executable, "-m", "ddr_tf.train", "--gin_file", GIN / "quickstart.gin", "--gin_file"]
    command += ["rotated_digits.gin", "--data_dir", drawn_data, *bindings]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert "rotated_digits: 18 train and 2 held-out sequences" in answer.stdout
    assert (tmp_path / "runs/rotated_digits/model.keras").exists()


def test_every_picture_of_the_tour_is_a_figure_that_a_command_draws():
    pictures = set(re.findall(r"\]\(tour/(\w+)\.\w+\)", (DOCS / "tour.md").read_text()))
    assert pictures - {"interpolation_dynamic"} <= gallery.PLOTS.keys()
    assert {path.stem for path in (DOCS / "tour").iterdir()} == pictures
    assert sum(path.stat().st_size for path in (DOCS / "tour").iterdir()) < 1_200_000


PAGE = (DOCS / "serving.md").read_text()
CURL = re.findall(r"```bash\n(curl.*?|.*?\| *\n? *curl.*?)```\n```json\n(.*?)```", PAGE, re.DOTALL)
PYTHON = dict(zip(["REST", "gRPC"], re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[-2:], strict=True))


@pytest.fixture(scope="module")
def folder_with_a_frame(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serving")
    draw_image(folder / "frame.png", size=(16, 16))
    return folder


def adapted(text, server_url):
    """The examples are about a model of 32 x 32 x 3, F = 64, version 1; that of the tests is smaller."""
    return text.replace("http://127.0.0.1:8501", server_url).replace("(1, 64)", "(1, 4)")


@pytest.mark.parametrize("number", range(len(CURL)))
def test_curl_examples_are_answered_as_the_page_says(server_url, folder_with_a_frame, number):
    command, shown = CURL[number]
    answer = subprocess.run(
        ["bash", "-c", adapted(command, server_url)],
        cwd=folder_with_a_frame,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.returncode == 0, answer.stderr
    said = answer.stdout or (folder_with_a_frame / "drawn.json").read_text()
    names = set(re.findall(r'"(\w+)":', shown))
    assert names <= set(re.findall(r'"(\w+)":', said)), said
    assert set(json.loads(said)) == {re.match(r'\{"(\w+)"', shown)[1]} | ({"metadata"} & names)


def test_every_curl_is_tried():
    assert len(CURL) == len(re.findall(r"^ *curl ", PAGE, re.MULTILINE)) == 6


def test_the_python_example(server_url, folder_with_a_frame):
    program = [sys.executable, "-c", adapted(PYTHON["REST"], server_url)]
    answer = subprocess.run(program, cwd=folder_with_a_frame, capture_output=True, text=True)
    lines = ["{3: 'AVAILABLE'}", "(1, 4) (1, 1, 2)", "(1, 3, 16, 16, 3) float32"]
    assert answer.stdout.splitlines() == lines, answer.stderr


def test_the_grpc_example(servable):
    """With a service of TF Serving's interface around the model."""
    grpc = pytest.importorskip("grpc")
    service = pytest.importorskip("tensorflow_serving.apis.prediction_service_pb2_grpc")
    predict_pb2 = pytest.importorskip("tensorflow_serving.apis.predict_pb2")

    class Service(service.PredictionServiceServicer):
        def Predict(self, request, context):  # noqa: N802
            assert request.model_spec.name == "puppets"
            inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
            outputs = servable(request.model_spec.signature_name, inputs)
            return predict_pb2.PredictResponse(
                outputs={name: tf.make_tensor_proto(value) for name, value in outputs.items()}
            )

    server = grpc.server(ThreadPoolExecutor(1))
    service.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    names = {}
    exec(PYTHON["gRPC"].replace("127.0.0.1:8500", f"127.0.0.1:{port}").replace("(1, 64)", "(1, 4)"), names)
    server.stop(None).wait()
    assert names["frames"].shape == (1, 3, 16, 16, 3)


SCALING = (DOCS / "scaling.md").read_text()
SAYS_TF_CONFIG = "#!/bin/bash\nprintenv TF_CONFIG; echo $*"


def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def workers_started(folder, script, names, **environment):
    """The addresses and the number of the worker that a script starts, with stand-ins for the programs it calls."""
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    command = ["bash", "-c", script]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={"PATH": path} | environment)
    tf_config, command = answer.stdout.splitlines()
    assert command.startswith("-m ddr_tf.train ") and "--strategy multi_worker" in command
    addresses, index = read_tf_config(tf_config)
    assert addresses == names
    return index


@pytest.mark.parametrize("index", [0, 1])
def test_workers_on_kubernetes_are_told_who_they_are(tmp_path, index):
    lines = re.search(r"args:\n *- \|\n(.*?)\n *volumes:", SCALING, re.DOTALL)[1]
    program(tmp_path / "bin/python", SAYS_TF_CONFIG)
    names = ["ddr-tf-0.ddr-tf:2222", "ddr-tf-1.ddr-tf:2222"]
    assert workers_started(tmp_path, lines, names, WORKERS="2", JOB_COMPLETION_INDEX=str(index)) == index


@pytest.mark.parametrize("index", [0, 1])
def test_workers_of_slurm_are_told_who_they_are(tmp_path, index):
    lines = re.search(r"```bash\n(#!/bin/bash\n#SBATCH.*?)```", SCALING, re.DOTALL)[1]
    program(tmp_path / ".venv/bin/python", SAYS_TF_CONFIG)
    program(tmp_path / "bin/scontrol", '#!/bin/bash\n[ "$*" = "show hostnames gpu[3-4]" ] && printf "gpu3\\ngpu4\\n"')
    program(tmp_path / "bin/srun", '#!/bin/bash\n[ "$1" = --kill-on-bad-exit=1 ] && exec "${@:2}"')
    environment = {"SLURM_JOB_NODELIST": "gpu[3-4]", "SLURM_PROCID": str(index)}
    assert workers_started(tmp_path, lines, ["gpu3:2222", "gpu4:2222"], **environment) == index


ROOT = DOCS.parent
PAGES = [*sorted(DOCS.glob("*.md")), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))]
OLD_NAMES = ("CHANGELOG.md",)  # tells of what is no longer there


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_nothing_is_left_to_be_filled_in(path):
    assert "@" * 2 not in path.read_text()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_files_that_are_named_exist(path):
    text = "" if path.name in OLD_NAMES else path.read_text()
    for name in set(re.findall(r"(?<![\w/])((?:gin|tools|docs|ddr_tf)/[\w/]+\.\w+)", text)):
        assert (ROOT / name).exists(), name


def anchors(page):
    """The names of the headings of a page, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_resolves(path):
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text)
    for link in links:
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), link
        included = re.fullmatch(r'--8<-- "(.*)"\n', target.read_text()) if target.suffix == ".md" else None
        assert not anchor or anchor in anchors(ROOT / included[1] if included else target), link


def commands(text):
    """(module or tool, arguments) of every command of ours in a page; synopses, which have "[", are left out."""
    text = re.sub(r"\\\n\s*", " ", text)
    for line in re.findall(r"^(?:    |\$ )?([^\n|]*python3? (?:-m ddr_tf\.|tools/).*)$", text, re.MULTILINE):
        line = re.sub(r"\s(?:# .*|&)$", "", line)
        line = line.removesuffix("'") if line.count("'") % 2 else line  # the last line of a quoted script
        match = re.search(r"python3? (?:-m ddr_tf\.(\w+)|(tools/\w+)\.py)(?: (.*))?$", line.split("`")[0])
        if match and not re.search(r"[\[(|]|\.\.\.|DIR|FILE", line):
            yield (match[1] or match[2]).replace("/", "."), shlex.split(match[3] or "")


def documented_commands():
    return sorted({(name, *arguments) for page in PAGES for name, arguments in commands(page.read_text())})


@pytest.mark.parametrize("command", documented_commands(), ids=" ".join)
def test_every_command_parses(command, monkeypatch):
    class Parsed(Exception):  # noqa: N818
        pass

    def parse(parser, arguments=None):
        original(parser, arguments)
        raise Parsed

    monkeypatch.syspath_prepend(str(ROOT))
    name, *arguments = command
    module = importlib.import_module(name if name.startswith("tools.") else f"ddr_tf.{name}")
    original = argparse.ArgumentParser.parse_args
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(Parsed):
        module.main()


def test_there_are_commands_to_parse():
    assert {command[0] for command in documented_commands()} >= {"train", "evaluate", "visualize", "export", "serve"}


def test_every_module_is_in_the_table_of_contributing():
    table = (ROOT / "CONTRIBUTING.md").read_text().split("## Modules")[1]
    named = set(re.findall(r"`(?:[\w/]+/)?(\w+\.py)`", table))
    modules = [path for folder in ("ddr_tf", "tools") for path in (ROOT / folder).rglob("*.py")]
    missing = [path.relative_to(ROOT) for path in modules if path.parent.name in ("ddr_tf", "tools")]
    assert not [path for path in missing if path.name not in named]
    packages = [path.relative_to(ROOT) for path in modules if path.parent.name not in ("ddr_tf", "tools")]
    assert not [path for path in packages if path.name != "__init__.py" and f"`{path}`" not in table]


def test_the_stages_of_contributing_are_those_that_are_checked():
    page = re.search(r"<!-- stages -->\n(.*?)\n\n", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)[1]
    contract = re.search(r"layers =\n(.*?)\n\n", (ROOT / ".importlinter").read_text(), re.DOTALL)[1]
    lines = [re.sub(r" {2,}the .*", "", line) for line in page.splitlines()]
    assert [set(re.findall(r"\w+", line)) for line in lines] == [
        set(re.findall(r"\w+", line)) for line in contract.splitlines()
    ]


def test_the_readme_is_short_and_its_diagram_is_drawn_by_the_script(tmp_path):
    assert len((ROOT / "README.md").read_text().split()) < 1_250
    subprocess.run([sys.executable, ROOT / "tools/draw_model.py", "--out", tmp_path], check=True)
    for theme in ("light", "dark"):
        assert (tmp_path / f"model_{theme}.svg").read_text() == (DOCS / f"model_{theme}.svg").read_text()


def test_one_version_of_ruff_everywhere():
    hook = re.search(r"ruff-pre-commit\n *rev: v(\S+)", (ROOT / ".pre-commit-config.yaml").read_text())[1]
    assert f"ruff=={hook}\n" in (ROOT / "setup.cfg").read_text()
    assert re.search(rf"^ruff=={re.escape(hook)}\s", (ROOT / "requirements-ci.txt").read_text(), re.MULTILINE)


def test_every_dependency_has_its_reason():
    table = (ROOT / "CONTRIBUTING.md").read_text().split("## Dependencies")[1]
    options = configparser.ConfigParser()
    options.read(ROOT / "setup.cfg")
    lines = [options["options"]["install_requires"], *options["options.extras_require"].values()]
    names = {
        re.match(r"[\w-]+", line.strip())[0]
        for text in lines
        for line in text.splitlines()
        if line.strip()[:1] not in "#"
    }
    assert [name for name in names - {"ddr_tf"} if f"`{name}`" not in table] == []
    assert [name for name in re.findall(r"`([a-z][\w-]+)`", table) if name not in names] == []


@pytest.mark.slow
def test_the_example_that_trains_without_gin(tmp_path, monkeypatch):
    page = (ROOT / "README.md").read_text()
    code = re.search(r"<!-- train example -->\n```python\n(.*?)```", page, re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line]) <= 15
    for shown, tiny in (
        ("size=32, num_poses=256", "size=16, num_poses=8"),
        ("steps_per_epoch=2000", "steps_per_epoch=2"),
    ):
        assert shown in code
        code = code.replace(shown, tiny)
    monkeypatch.chdir(tmp_path)
    exec(code, {})  # in which warnings are errors, too
    with Image.open(tmp_path / "swap.png") as picture:
        assert picture.size == (8 * 16, 3 * 16)


def test_the_citation_and_the_changelog_are_of_this_version():
    assert f"version: {ddr_tf.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## {ddr_tf.__version__.partition('.dev')[0]}" in (ROOT / "CHANGELOG.md").read_text()
