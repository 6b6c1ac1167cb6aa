"""Files are there whole or not at all, wherever their names lead."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nflows_woodbury.files import check_writable, explain, is_stream, to_json, whole_file, write_json


def test_a_link_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for target in ("there/old.json", "there/new.json"):
        link = tmp_path / f"link-to-{Path(target).name}"
        link.symlink_to(tmp_path / target)
        if "old" in target:
            (tmp_path / target).write_text("{}")
        write_json(link, [1])
        assert link.is_symlink() and json.loads((tmp_path / target).read_text()) == [1]
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["new.json", "old.json"]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("old")
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", object())

    def fill_the_disk() -> None:
        with whole_file(tmp_path / "a.json") as new:
            new.write_text("ha")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fill_the_disk()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.json", "old")]


def test_a_pipe_and_a_device_are_written_to_not_replaced(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    write_json(pipe, {"a": 1})
    reader.join(10)
    assert json.loads(got[0]) == {"a": 1} and pipe.is_fifo()
    write_json("/dev/null", [1])
    assert is_stream("/dev/null") and Path("/dev/null").is_char_device() and [*tmp_path.iterdir()] == [pipe]


def test_own_streams_get_it_after_what_was_printed(capfd: pytest.CaptureFixture[str]) -> None:
    print("before")
    write_json("/dev/stdout", [1])
    write_json("/dev/stderr", [2])
    print("after")
    printed = capfd.readouterr()
    assert printed.out == "before\n[\n  1\n]\nafter\n" and printed.err == "[\n  2\n]\n"


def test_a_redirected_own_stream_keeps_both(tmp_path: Path) -> None:
    code = "from nflows_woodbury.files import write_json; print('a'); write_json('/dev/stdout', 1); print('b')"
    with (tmp_path / "out").open("w") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "a\n1\nb\n"


def test_json_knows_no_infinite_numbers() -> None:
    values = {"a": float("inf"), "b": [float("nan"), 1.5, (2, None)], "c": {"d": -float("inf")}}
    assert json.loads(to_json(values)) == {"a": None, "b": [None, 1.5, [2, None]], "c": {"d": None}}


PLACES = {
    "folder": (IsADirectoryError, "is a folder; name a file in it"),
    "file/a.json": (NotADirectoryError, r"cannot be written, as .*file is no folder"),
    "file/deep/a.json": (NotADirectoryError, r"cannot be written, as .*file is no folder"),
}


@pytest.mark.parametrize("place", PLACES)
def test_places_that_cannot_be_written_are_named_before_the_work(place: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    error, message = PLACES[place]
    with pytest.raises(error, match=message):
        check_writable(tmp_path / place)


def test_a_folder_of_the_system_is_named() -> None:
    with pytest.raises(OSError, match=r"/proc/none/a\.json") as caught:
        check_writable("/proc/none/a.json")
    assert explain(caught.value).startswith("/proc/none/a.json: ")


def test_a_look_leaves_nothing(tmp_path: Path) -> None:
    for place in ("a.json", "new/deep/a.json"):
        check_writable(tmp_path / place)
    check_writable("/dev/stdout")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EMFILE])
def test_what_the_system_refuses_comes_with_a_cure(number: int) -> None:
    text = explain(OSError(number, os.strerror(number), "a.png"))
    assert text.startswith("a.png: ") and "; " in text and "[Errno" not in text
    assert explain(OSError("in words")) == "in words"
