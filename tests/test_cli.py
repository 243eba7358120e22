import errno
import os
import subprocess
import sys

import pytest

from ddr_tf import cli, config
from ddr_tf.errors import UserError


def refuse(message):
    def body():
        raise UserError(message)

    return body


def test_an_error_is_one_line_and_status_2(capsys):
    assert cli.run(refuse("The folder x\nis empty.")) == 2
    assert capsys.readouterr().err == "error: The folder x is empty.\n"


def test_a_file_of_others_is_one_line(capsys):
    def body():
        raise PermissionError(errno.EACCES, "Permission denied", "a\x1bb/run.json")

    assert cli.run(body) == 2
    assert (
        capsys.readouterr().err
        == "error: [Errno 13] Permission denied: 'a\\x1bb/run.json'; ask the owner of the file.\n"
    )


def test_ctrl_c_is_said_and_status_130(capsys):
    def body():
        raise KeyboardInterrupt

    assert cli.run(body, lambda: "stopped early") == 130
    assert capsys.readouterr().err == "\nstopped early\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, tab\t, line\n", "plain, tab\t, line\n"),
        ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        ("a\x08b\x00\x9b1m", "a\\x08b\\x00\\x9b1m"),
        ("anna, 安娜, é, \u200d", "anna, 安娜, é, \u200d"),
    ],
)
def test_terminals_are_sent_no_control_characters(capsys, text, shown):
    assert cli.printable(text) == shown
    assert cli.run(lambda: print(text, end="")) == 0
    assert capsys.readouterr().out == shown
    assert cli.run(refuse(f"No folder {text.strip()}.")) == 2
    assert capsys.readouterr().err == f"error: No folder {shown.strip()}.\n"


def test_the_stream_is_as_before_afterwards():
    before = sys.stdout
    assert cli.run(lambda: print(sys.stdout.encoding)) == 0
    assert sys.stdout is before


TALKS = """
import sys
from ddr_tf import cli

def body():
    sys.stdin.readline()  # until nobody reads
    for stream in (sys.stdout, sys.stderr) * 2:
        print("a" * 100_000, file=stream, flush=True)
        print("not flushed", end="", file=stream)
    raise KeyboardInterrupt

sys.exit(cli.run(body, needs_tensorflow=False))
"""


@pytest.mark.parametrize("open_pair", [os.pipe, os.openpty], ids=["pipe", "terminal"])
def test_what_nobody_reads_any_more_is_lost_and_nothing_else(open_pair):
    reader, writer = open_pair()
    streams = dict(stdin=subprocess.PIPE, stdout=writer, stderr=writer, start_new_session=True)
    with subprocess.Popen([sys.executable, "-c", TALKS], **streams) as process:
        os.close(writer)
        os.close(reader)
        process.stdin.close()
        assert process.wait(100) == 130


def test_output_that_does_not_fit_on_a_disk_is_an_error():
    with open("/dev/full", "w") as full:
        process = subprocess.run([sys.executable, "-c", TALKS], input="", stdout=full, text=True, timeout=100)
    assert process.returncode == 1


def test_paths_of_flags_know_the_home_and_refuse_what_is_remote(monkeypatch, capsys):
    monkeypatch.setenv("HOME", "/home/anna")
    assert config.path_flag("~/runs/x") == "/home/anna/runs/x"
    from ddr_tf import train

    with pytest.raises(SystemExit) as status:
        train.parser().parse_args(["--gin_file", "x.gin", "--run_dir", "gs://bucket/run"])
    assert status.value.code == 2
    assert "gs://bucket/run is not a path of this machine" in capsys.readouterr().err
    assert train.parser().parse_args(["--gin_file", "~/x.gin", "--run_dir=~/r"]).run_dir == "/home/anna/r"


def test_folders_that_cannot_be_written(tmp_path):
    cli.check_folder(tmp_path / "new/newer", "--out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file: it is not a folder; give another --out"):
        cli.check_folder(tmp_path / "file/figures", "--out")


def test_files_that_cannot_be_written(tmp_path):
    cli.check_writable(tmp_path / "new", "--json:")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "old").write_text("old")
    cli.check_writable(tmp_path / "old", "--json:")
    assert (tmp_path / "old").read_text() == "old"
    with pytest.raises(UserError, match=r"^--json: .*missing/new cannot be written \(No such file"):
        cli.check_writable(tmp_path / "missing/new", "--json:")
