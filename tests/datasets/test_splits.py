"""Splits: every image in one part, the same draw for ever, and files that are refused."""

import errno
import json
import os
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panembed.datasets.splits import Split, make_split
from panembed.errors import InputError, OutputError, SettingsError

IDS = [f"A1/plant{number:03}" for number in range(100)]


@given(
    ids=st.sets(st.text(min_size=1, max_size=4), min_size=3, max_size=40),
    seed=st.integers(0, 9),
    parts=st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9)),
)
def test_every_id_is_in_exactly_one_part(ids, seed, parts):
    fractions = tuple(part / sum(parts) for part in parts)
    split = make_split(ids, seed=seed, fractions=fractions)
    assert sorted(split.train + split.val + split.test) == sorted(ids)
    for part, fraction in zip((split.train, split.val, split.test), fractions, strict=True):
        assert (len(part) >= 1) == (fraction > 0)
        assert abs(len(part) - fraction * len(ids)) < 2
        assert list(part) == sorted(part)
    split.check(ids)


def test_draw_depends_on_ids_and_seed_only():
    shuffled = random.Random(0).sample(IDS, len(IDS))
    assert make_split(shuffled, seed=3) == make_split(IDS, seed=3)
    assert make_split(IDS, seed=4).test != make_split(IDS, seed=3).test
    # A stored figure must stay true: this draw may never change.
    assert make_split(list("abcdefghij")).test == ("b", "e")


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (3, (1, 1, 1)), (4, (2, 1, 1)), (5, (3, 1, 1)), (7, (4, 2, 1)), (8, (5, 2, 1)), (29, (17, 6, 6)),
        (31, (19, 6, 6)), (60, (36, 12, 12)), (100, (60, 20, 20)),
    ],
)  # fmt: skip
def test_what_is_left_over_goes_to_the_largest_remainders(count, sizes):
    split = make_split(IDS[:count])
    assert (len(split.train), len(split.val), len(split.test)) == sizes


def test_mistakes():
    with pytest.raises(InputError, match="found 2 images"):
        make_split(["a", "b"])
    with pytest.raises(InputError, match="'a' occurs twice"):
        make_split(["a", "b", "a", "c"])
    for fractions in [(0.6, 0.2, 0.3), (1.2, -0.1, -0.1), (0, 0.5, 0.5), (0.5, 0.5), (float("nan"), 0.5, 0.5)]:
        with pytest.raises(SettingsError, match="fractions"):
            make_split(IDS, fractions=fractions)
    with pytest.raises(SettingsError, match=r"their sum is 1\.01"):
        make_split(IDS, fractions=(0.6, 0.2, 0.21))


def test_select():
    split = make_split(IDS)
    assert split.select("val") == split.val
    with pytest.raises(SettingsError, match="did you mean 'train'"):
        split.select("training")
    with pytest.raises(SettingsError, match=r"expected train, val or test$"):
        split.select("seed")


def test_check():
    split = make_split(IDS)
    split.check([*IDS, "more"])
    with pytest.raises(InputError, match=r"'A1/plant007' is in \w+ but not in the data \(1 of 100"):
        split.check(set(IDS) - {"A1/plant007"})
    with pytest.raises(InputError, match="'a' is in train and in test"):
        Split(("a",), ("b",), ("a",)).check("ab")
    with pytest.raises(InputError, match="'a' is in train and in train"):
        Split(("a", "a"), ("b",), ("c",)).check("abc")


def test_among():
    split = Split(("a", "b"), ("c",), ("d",), seed=7, fractions=(0.5, 0.25, 0.25))
    assert split.among("dxb") == replace(split, train=("b",), val=(), test=("d",))
    assert split.among("d").test == ("d",)  # nothing to learn from, but to be judged by
    with pytest.raises(InputError, match="none of its 4 images, such as 'a', is in the data"):
        split.among("xy")


def test_file_round_trip(tmp_path):
    split = make_split(["grün", "b/c", "d"], seed=7, fractions=(0.4, 0.3, 0.3))
    split.write(tmp_path / "split.json")
    assert Split.read(tmp_path / "split.json") == split


def test_full_disk_keeps_the_old_split(tmp_path, monkeypatch):
    old = make_split(IDS)
    old.write(tmp_path / "split.json")

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="no space"):
        make_split(IDS, seed=1).write(tmp_path / "split.json")
    assert os.listdir(tmp_path) == ["split.json"]
    assert Split.read(tmp_path / "split.json") == old


GOOD = {"train": ["a"], "val": ["b"], "test": ["c"]}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("{", "not valid JSON"),
        ("[1]", "holds a list"),
        (json.dumps({**GOOD, "tset": []}), "unknown key 'tset'.*did you mean 'test'"),
        (json.dumps({"train": ["a"], "val": ["b"]}), "test is 'None'; expected a list"),
        (json.dumps({**GOOD, "val": "b"}), "val is 'b'; expected a list"),
        (json.dumps({**GOOD, "val": [1]}), "val is .*expected a list"),
        (json.dumps({**GOOD, "seed": "0"}), "seed is '0'"),
        (json.dumps({**GOOD, "fractions": [1]}), "fractions is"),
        ("[" * 100_000, "not valid JSON"),
        (json.dumps({**GOOD, "seed": True}), "seed is True"),
        (json.dumps({**GOOD, "fractions": [0.6, 0.4, False]}), "fractions is"),
        (json.dumps({**GOOD, "fractions": [0.6, 0.4, float("nan")]}), "fractions is"),
    ],
)
def test_wrong_files(tmp_path, data, words):
    (tmp_path / "split.json").write_text(data)
    with pytest.raises(InputError, match=words) as caught:
        Split.read(tmp_path / "split.json")
    assert str(caught.value).startswith(str(tmp_path / "split.json"))


def test_missing_and_hand_made_files(tmp_path):
    with pytest.raises(InputError, match="panembed data split"):
        Split.read(tmp_path / "split.json")
    (tmp_path / "split.json").write_text(json.dumps(GOOD))
    assert Split.read(tmp_path / "split.json") == Split(("a",), ("b",), ("c",))  # with the usual seed and fractions
