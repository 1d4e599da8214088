import errno
import json
import os
import stat

import pytest

from panembed.errors import OutputError
from panembed.io.atomic import atomic_path, write_json, write_text


def test_new_file_is_whole_and_alone(tmp_path):
    target = tmp_path / "scores.csv"
    with atomic_path(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".csv"
        assert temporary.name.startswith(".")
        temporary.write_text("a,b\n")
        assert not target.exists()
    assert target.read_text() == "a,b\n"
    assert os.listdir(tmp_path) == ["scores.csv"]


def test_file_has_ordinary_permissions(tmp_path):
    (tmp_path / "plain").write_text("x")
    write_text(tmp_path / "ours", "x")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.parametrize("error", [KeyError("x"), KeyboardInterrupt()])
def test_error_in_block_keeps_old_file(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write():
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "no space"), (errno.EACCES, "permission"), (errno.EROFS, "only be read"), (errno.EDQUOT, "quota")],
)
def test_disk_errors_become_one_sentence(tmp_path, monkeypatch, function, number, words):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OutputError, match=words) as caught:
        write_text(target, "new")
    assert str(target) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_full_disk_while_writing(tmp_path):
    def write():
        with atomic_path(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match="no space"):
        write()
    assert os.listdir(tmp_path) == []


def test_errors_of_other_files_pass(tmp_path):
    def write():
        with atomic_path(tmp_path / "a.txt"):
            (tmp_path / "input.txt").read_text()

    with pytest.raises(FileNotFoundError):
        write()


def test_unknown_os_error_passes(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="Input/output"):
        write_text(tmp_path / "a.txt", "x")
    assert os.listdir(tmp_path) == []


def test_missing_folder_and_folder_in_the_way(tmp_path):
    with pytest.raises(OutputError, match="folder does not exist"):
        write_text(tmp_path / "no" / "a.txt", "x")
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match="a folder with this name"):
        write_text(tmp_path / "taken", "x")
    assert os.listdir(tmp_path) == ["taken"]


def test_long_and_hidden_names(tmp_path):
    for name in ("x" * 250 + ".txt", ".hidden", "no-suffix", "two.dots.json"):
        write_text(tmp_path / name, name)
        assert (tmp_path / name).read_text() == name
    assert len(os.listdir(tmp_path)) == 4


def test_json_is_strict(tmp_path):
    write_json(tmp_path / "a.json", {"blätter": [1, 0.5, None, True]})
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"blätter": [1, 0.5, None, True]}
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"blätter": [1, 0.5, None, True]}
