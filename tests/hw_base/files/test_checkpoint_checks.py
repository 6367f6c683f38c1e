"""Untrusted checkpoints: sealed by the same code, and not what they should be. One line each, never a traceback."""

import copy
import random
import struct
import zipfile

import pytest
import torch

from hw_base import checkpoint
from hw_base.errors import CheckpointError, HwError
from tests.hw_base.toys import Regressor, RegressorTrainer, batches, make

SECTION = {"type": "AdamW", "args": {"lr": 0.01}, "scheduler": {"type": "OneCycleLR"}}


def trainer(**section):
    torch.manual_seed(0)
    options = {"max_steps": 6, "monitor": "min val/mse", "eval_every": 2, "ema_decay": 0.9, **section}
    return make(RegressorTrainer, Regressor(), batches(3), SECTION, {"mse": 1.0}, **options)


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    run = trainer(run_dir=tmp_path_factory.mktemp("run"), max_steps=2)
    run.train()
    return run.state_dict()


def stored(path, content):
    torch.save({"format": checkpoint.FORMAT, **content}, path)
    checkpoint._seal(path)  # anybody can compute a checksum
    return path


def leaves(value, place=()):
    yield place
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*place, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from leaves(item, (*place, i))


BAD = [
    None, "x", -1, 1.5, True, float("nan"), 2**70, [], {}, (), [None], {"x": None}, {0: 0}, torch.zeros(0),
    torch.full((2, 2), torch.nan), torch.zeros(3, dtype=torch.complex64), torch.zeros(3, dtype=torch.bool),
    torch.zeros(16, 4, dtype=torch.int8),
]  # fmt: skip


def test_malformed_states_are_one_line_or_harmless(state, tmp_path):
    """Each part of a state replaced by each kind of nonsense, or left out: 600 of all combinations."""
    places = [place for place in leaves(state) if place and place[0] != "config"]
    chosen = random.Random(0)
    refused = 0
    for _ in range(600):
        place = chosen.choice(places)
        changed = copy.deepcopy(state)
        parent = changed
        for key in place[:-1]:
            parent = parent[key]
        if chosen.random() < 0.2 and isinstance(parent, dict):
            del parent[place[-1]]
        else:
            parent[place[-1]] = chosen.choice(BAD)
        path = stored(tmp_path / "changed.pth", changed)
        refused += resumed(path) != ""
    assert refused > 300


def resumed(path):
    """Resume, and take a step; the line of what is refused."""
    run = trainer()
    try:
        run.load_state_dict(checkpoint.load(path, needs=checkpoint.RUN_PARTS), path)
        run.train_step(run.loader.batches[0])
        run.guard.read()
    except HwError as error:
        line = str(error)
    else:
        line = ""
        assert all(torch.isfinite(tensor).all() for tensor in run.model.state_dict().values())
    assert "\n" not in line
    return line


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused_by_name(state, tmp_path, bad):
    weights = {**state["model"], "net.0.bias": torch.full((16,), bad)}
    path = stored(tmp_path / "x.pth", {**state, "model": weights})
    assert "x.pth: made for another model: net.0.bias is not finite" in resumed(path)
    with pytest.raises(CheckpointError, match=r"y\.pth: made for another model: net\.0\.bias is not finite"):
        checkpoint.load_weights(Regressor(), weights, "y.pth")


@pytest.mark.parametrize("kind", [torch.bool, torch.complex64])
def test_weights_that_are_no_real_numbers_are_refused(state, tmp_path, kind):
    weights = {**state["model"], "net.0.bias": torch.zeros(16, dtype=kind)}
    line = resumed(stored(tmp_path / "x.pth", {**state, "model": weights}))
    assert f"net.0.bias is {str(kind).removeprefix('torch.')}, the model has float32" in line


def test_constants_of_a_model_may_be_infinite_or_bool():
    model = Regressor()
    model.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    model.register_buffer("where", torch.tensor([True, False]))
    checkpoint.load_weights(model, model.state_dict(), "x.pth")
    with pytest.raises(CheckpointError, match="mask is not finite"):
        checkpoint.load_weights(model, {**model.state_dict(), "mask": torch.tensor([torch.inf, 0.0])}, "x.pth")


def test_integers_where_the_model_has_fractions_are_refused(state):
    weights = {**state["model"], "net.0.bias": torch.zeros(16, dtype=torch.int64)}
    with pytest.raises(CheckpointError, match=r"net\.0\.bias is int64, the model has float32"):
        checkpoint.load_weights(Regressor(), weights, "x.pth")


def test_a_missing_part_is_named(state, tmp_path):
    path = stored(tmp_path / "x.pth", {key: value for key, value in state.items() if key not in ("rng", "model")})
    with pytest.raises(CheckpointError, match=r"no model, rng in it"):
        checkpoint.load(path, needs=checkpoint.RUN_PARTS)


def test_containers_without_end_are_refused(tmp_path):
    endless = []
    endless.append(endless)
    laughs = ["ha"]
    for _ in range(40):
        laughs = [laughs, laughs]
    deep = {}
    for _ in range(300):
        deep = {"x": deep}
    for content, expected in ((endless, "nested deeper"), (laughs, "500,000 values"), (deep, "nested deeper")):
        with pytest.raises(CheckpointError, match=f"refused, its content is .*{expected}"):
            checkpoint.load(stored(tmp_path / "x.pth", {"task": {"x": content}}))


def test_tensors_that_are_not_dense_are_refused(tmp_path):
    for tensor in (torch.eye(3).to_sparse(), torch.empty(3, device="meta")):
        path = tmp_path / "x.pth"
        torch.save({"w": tensor}, path)
        with pytest.raises(CheckpointError, match="w is not a dense tensor"):
            checkpoint.load_untrusted(path)


def two_directories(path, harmless, bomb):
    """One file: torch reads the bomb by the end record's offset, `zipfile` the directory before the end record."""
    content, good = bomb.read_bytes(), harmless.read_bytes()
    end = good.rfind(b"PK\5\6")
    count, length, offset = struct.unpack_from("<HLL", good, end + 10)
    directory = good[offset : offset + length]
    bomb_end = content.rfind(b"PK\5\6")
    bomb_count, bomb_length, _ = struct.unpack_from("<HLL", content, bomb_end + 10)
    assert (count, length) == (bomb_count, bomb_length)
    record = bytearray(content[bomb_end : bomb_end + 22])
    path.write_bytes(content[:bomb_end] + directory + bytes(record))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_second_directory_does_not_pass_the_check_for_bombs(tmp_path, method):
    source, stored_too, packed = tmp_path / "source.pth", tmp_path / "stored.zip", tmp_path / "packed.zip"
    torch.save({"w": torch.zeros(100_000)}, source)
    for target, kind in ((stored_too, zipfile.ZIP_STORED), (packed, method)):
        with zipfile.ZipFile(source) as read, zipfile.ZipFile(target, "w", kind) as written:
            for record in read.infolist():
                written.writestr(record.filename, read.read(record))
    both = tmp_path / "both.pth"
    two_directories(both, stored_too, packed)
    with pytest.raises(CheckpointError, match=r"refused, .*directory|compressed|larger|not a readable"):
        checkpoint.load_untrusted(both)
    assert torch.equal(checkpoint.load_untrusted(stored_too)["w"], torch.zeros(100_000))


@pytest.mark.parametrize("shift", [-7, 1, 4096])
def test_an_end_record_that_points_elsewhere_is_refused(tmp_path, shift):
    """Also in the 64-bit form that torch writes, where `zipfile` does not look at the locator's offset."""
    path = tmp_path / "x.pth"
    torch.save({"w": torch.zeros(3)}, path)
    content = bytearray(path.read_bytes())
    locator = content.rfind(b"PK\6\7")
    struct.pack_into("<Q", content, locator + 8, struct.unpack_from("<Q", content, locator + 8)[0] + shift)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"refused, the directory|not a readable"):
        checkpoint.load_untrusted(path)
    torch.save({"w": torch.zeros(3)}, path)
    path.write_bytes(b"\0" * 512 + path.read_bytes())
    with pytest.raises(CheckpointError, match="refused, the directory"):
        checkpoint.load_untrusted(path)


def test_records_of_one_name_are_refused(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"w": torch.zeros(3)}, path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(archive.namelist()[0], b"another")
    with pytest.raises(CheckpointError, match="two of its records have one name"):
        checkpoint.load_untrusted(path)
