"""A dataset with a folder of alignments, built as a config builds it."""

import json

import pytest
import torch

from hw_base.audio import io as audio
from hw_base.config.resolve import build, nested_errors, resolve
from hw_base.config.schema import Component
from hw_base.errors import ConfigError, DataError
from hw_base.registry import DATASETS
from tests.hw_tts.alignment.test_textgrid import SHORT

PHONES = [["a", 0.0, 0.25], ["b", 0.25, 0.5]]


@pytest.fixture
def corpus(tmp_path):
    """Three recordings and a folder for alignments."""
    for name in ("one", "two", "three"):
        audio.save(tmp_path / "audio" / f"{name}.wav", torch.zeros(8000), 16000)
    (tmp_path / "alignments").mkdir()
    return tmp_path


def make(corpus, **arguments):
    args = {"dataset": {"type": "CustomDir", "args": {"root": str(corpus)}}, "alignments": str(corpus / "alignments")}
    return build("data", Component(type="Aligned", args={**args, **arguments}), DATASETS)


def test_both_kinds_of_files_reach_the_records(corpus):
    (corpus / "alignments" / "one.json").write_text(json.dumps(PHONES))
    (corpus / "alignments" / "two.TextGrid").write_text(SHORT, encoding="utf-8")
    (corpus / "alignments" / "three.json").write_text(json.dumps(PHONES))
    (corpus / "alignments" / "three.TextGrid").write_text(SHORT, encoding="utf-8")
    dataset = make(corpus, silence="_")
    phones = {record.utterance_id: record.extra["phones"] for record in dataset.records}
    assert phones["one"] == PHONES
    assert phones["two"] == phones["three"] == [["ø", 0, 0.5], ["_", 0.5, 1.5], ["ʃ", 1.5, 2], ["_", 2, 2.5]]
    waveform, rate = dataset.read(dataset.records[0])
    assert (len(waveform), rate) == (8000, 16000)


def test_files_may_lie_in_a_folder_of_the_speaker(tmp_path):
    arguments = {"part": "val", "n_utterances": 2, "cache_dir": str(tmp_path / "cache")}
    for record in DATASETS["SyntheticSpeech"](**arguments).records:
        folder = tmp_path / "alignments" / record.speaker
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{record.utterance_id}.json").write_text(json.dumps([["x", 0, record.duration]]))
    dataset = make(tmp_path, dataset={"type": "SyntheticSpeech", "args": arguments})
    assert [record.extra["phones"][0][0] for record in dataset.records] == ["x", "x"]


def test_missing_files_are_listed_or_left_out(corpus, caplog):
    (corpus / "alignments" / "one.json").write_text(json.dumps(PHONES))
    with pytest.raises(DataError, match=r"no alignment for 2 of 3 utterances \('three', 'two'\)"):
        make(corpus)
    with caplog.at_level("WARNING"):
        assert [record.utterance_id for record in make(corpus, on_missing="skip").records] == ["one"]
    assert "2 of 3" in caplog.text
    with pytest.raises(DataError, match="does not exist"):
        make(corpus, alignments=str(corpus / "nowhere"))


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not JSON"), ("[]", "found nothing"), ('[["a", 1, 2]]', "'one'.*starts at 1 s"), ("[[1]]", "interval 0")],
)
def test_damaged_files_are_named(corpus, text, message):
    (corpus / "alignments" / "one.json").write_text(text)
    with pytest.raises(DataError, match=message) as error:
        make(corpus, on_missing="skip")
    assert "one.json" in str(error.value)


def test_the_inner_dataset_is_checked_with_the_config():
    assert nested_errors(Component(type="LJSpeech", args={"root": "x", "part": "train"}), DATASETS) == {}
    tree = {
        "task": "asr",
        "name": "x",
        "data": {"train": {"datasets": [{"type": "Aligned", "args": {"alignments": "a", "dataset": "LJSpeach"}}]}},
    }
    with pytest.raises(ConfigError, match=r"train\.datasets.0.args.dataset: type: no dataset .* mean 'LJSpeech'"):
        resolve(tree)
    tree["data"]["train"]["datasets"][0]["args"]["dataset"] = {"type": "LJSpeech", "args": {"rooot": "x"}}
    with pytest.raises(ConfigError, match=r"args\.dataset: .*args.rooot: unknown key. Did you mean 'root'"):
        resolve(tree)
