"""Forced alignment: exact on posteriors that leave no doubt, the program from end to end, what it refuses."""

import json
import re

import pytest
import torch

import train as train_script
from hw_base.audio import io as audio
from hw_base.config.schema import Component
from hw_base.errors import DataError
from hw_base.recognizer import Recognizer
from hw_base.synthetic.corpus import SyntheticSpeech
from hw_base.texts.alignments import check_phones
from hw_tts import align
from hw_tts.alignment import forced
from hw_tts.alignment.intervals import durations_from_phones
from hw_tts.data.aligned import Aligned
from hw_tts.tasks.opened import OpenedSynthesizer
from tests.conftest import ROOT
from tests.recognizers import save_random

TINY = str(ROOT / "configs" / "tiny" / "ds2.json")


class Letters(Recognizer):
    """A recognizer of the letters a, b and c whose frames last 0.1 s."""

    frame_seconds = 0.1

    def transcribe_batch(self, waveforms, sample_rate):
        return ["" for _ in waveforms]

    def posteriors(self, waveforms, sample_rate):
        raise NotImplementedError

    def encode(self, text):
        return [" abc".index(letter) for letter in text]

    def symbol(self, token_id):
        return " abc"[token_id]

    def normalize(self, text):
        return "".join(letter for letter in text.lower() if letter in "abc")


def certain(labels):
    """Posteriors that give each frame's label 0.97 and the others 0.01 each."""
    return torch.full((len(labels), 4), 0.01).scatter_(1, torch.tensor(labels)[:, None], 0.97).log()


def test_neighbors_share_the_blanks_between_them():
    found = forced.align(Letters(), "A, b c!", certain([0, 0, 0, 1, 0, 0, 0, 2, 2, 3, 0, 0, 0]), 1.25)
    assert [symbol for symbol, _, _ in found.phones] == ["sil", "a", "b", "c", "sil"]
    # Label 1 is in frame 3 (0.25 to 0.35 s), 2 in 7 and 8 (0.65 to 0.85 s), 3 in 9.
    assert [end for _, _, end in found.phones] == pytest.approx([0.25, 0.5, 0.85, 0.95, 1.25])
    check_phones(found.phones, "u")
    assert found.score == pytest.approx(torch.tensor(0.97).log().item(), abs=1e-6)


def test_repeated_letters_and_no_silence_at_the_ends():
    found = forced.align(Letters(), "aab", certain([1, 0, 1, 2]), 0.4)
    assert [symbol for symbol, _, _ in found.phones] == ["a", "a", "b", "sil"]
    assert [end for _, _, end in found.phones] == pytest.approx([0.1, 0.25, 0.35, 0.4])


@pytest.mark.parametrize(
    ("text", "message"),
    [("aab", "3 tokens do not fit into 3 frames"), ("xyz", "lacks every character")],
)
def test_texts_that_cannot_be_aligned(text, message):
    with pytest.raises(DataError, match=message):
        forced.align(Letters(), text, certain([1, 1, 2]), 0.3)


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory):
    return str(save_random(tmp_path_factory.mktemp("recognizer") / "model.pth"))


def test_a_split_gets_its_files_once(recognizer, tmp_path, caplog):
    arguments = ["-r", recognizer, "-c", TINY, "--split", "val", "-o", str(tmp_path), "-d", "cpu", "-b", "4"]
    with caplog.at_level("WARNING"):
        assert align.main(arguments) == 0
    assert "look wrong" in caplog.text  # the recognizer has learned nothing
    rows = [json.loads(line) for line in (tmp_path / align.INDEX).read_text().splitlines()]
    files = sorted(tmp_path.glob("*.json"))
    assert sorted(row["utterance_id"] for row in rows) == [file.stem for file in files]
    assert len(files) == 6
    for row in rows:
        phones = json.loads((tmp_path / f"{row['utterance_id']}.json").read_text())
        check_phones(phones, row["utterance_id"])
        assert row["score"] < 0
    files[0].unlink()
    files[1].write_text("kept")
    assert align.main(arguments) == 0
    assert len((tmp_path / align.INDEX).read_text().splitlines()) == 7
    assert files[0].is_file()
    assert files[1].read_text() == "kept"


def test_a_folder_of_recordings_and_a_text_that_is_too_long(recognizer, tmp_path, caplog):
    for name, text in {"good": "one two", "bad": "much too long for this " * 10}.items():
        audio.save(tmp_path / "in" / f"{name}.wav", torch.randn(16000).mul(0.1), 16000)
        (tmp_path / "in" / f"{name}.txt").write_text(text)
    with caplog.at_level("WARNING"):
        arguments = ["--audio", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-d", "cpu"]
        assert align.main(["-r", recognizer, *arguments]) == 0
    assert "bad: its 229 tokens do not fit" in caplog.text
    assert [file.name for file in (tmp_path / "out").glob("*.json")] == ["good.json"]
    symbols = [symbol for symbol, _, _ in json.loads((tmp_path / "out" / "good.json").read_text()) if symbol != "sil"]
    assert "".join(symbols) == "one two"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["-c", TINY, "--split", "dev"], r"--split dev: the config has no such split\. Known: test, train, val\."),
        (["-c", "nowhere.json"], "nowhere.json"),
        (["--audio", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_end_with_one_line(recognizer, tmp_path, capsys, changed, message):
    assert align.main(["-r", recognizer, *changed, "-o", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error)


def test_a_checkpoint_that_is_none(tmp_path, capsys):
    (tmp_path / "x.pth").write_text("no")
    assert align.main(["-r", str(tmp_path / "x.pth"), "-c", TINY, "-o", str(tmp_path / "out")]) == 2
    assert "x.pth" in capsys.readouterr().err


RUNS = ROOT / "tests" / "data" / "first_edition"


@pytest.mark.parametrize("kind", ["fastspeech2", "vits2"])
def test_a_synthesizer_writes_the_alignments_that_it_learned(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    corpus = {"part": "val", "n_utterances": 3, "voices": ["en-us", "en-us+f3"], "sample_rate": 22050}
    if kind == "fastspeech2":
        run = tmp_path / "run"
        config = str(ROOT / "configs" / "tiny" / "fastspeech2.json")
        learned = ["model.args.alignment=learned", "losses.alignment=0.5", "losses.binarization=0.1"]
        data = "data.*.datasets=" + json.dumps([{"type": "SyntheticSpeech", "args": corpus}])
        sizes = ["trainer.max_steps=1", "trainer.eval_every=1", data]
        assert train_script.main(["-c", config, "-d", "cpu", "--run-dir", str(run), "--set", *learned, *sizes]) == 0
        checkpoint = run
    else:
        checkpoint = next((RUNS / kind).glob("checkpoint-*.pth"))
    command = ["-r", str(checkpoint), "--split", "val", "-o", str(tmp_path / "out"), "-d", "cpu", "--set"]
    command.append("data.val.datasets=" + json.dumps([{"type": "SyntheticSpeech", "args": corpus}]))
    assert align.main(command) == 0

    said = SyntheticSpeech(**corpus)
    aligned = Aligned(Component(type="SyntheticSpeech", args=corpus), str(tmp_path / "out"))
    assert len(aligned.records) == len(list((tmp_path / "out").iterdir())) == 3
    opened = OpenedSynthesizer(checkpoint, command[-1:], "cpu")
    split = opened.split("val")
    names = [record.utterance_id for record in said.records]
    of_model, frames_of, hop = {}, {}, opened.task.features.hop_length
    with torch.inference_mode():
        for batch in opened.batches_with(split, names):
            of_model |= dict(zip(batch["utterance_id"], opened.model(**batch)["durations"], strict=True))
            frames_of |= dict(zip(batch["utterance_id"], batch["spectrogram_length"].tolist(), strict=True))
    for before, after in zip(said.records, aligned.records, strict=True):
        phones = after.extra["phones"]
        check_phones(phones, after.utterance_id)
        # Blanks are no symbols: what is left is what is said, and its times are not the corpus's own.
        assert [symbol for symbol, _, _ in phones] == [symbol for symbol, _, _ in before.extra["phones"]]
        assert phones != before.extra["phones"]
        frames = frames_of[after.utterance_id]
        assert phones[-1][2] == pytest.approx(frames * hop / 22050, abs=1e-4)
        durations = durations_from_phones(phones, frames, 22050, hop, after.utterance_id)
        if kind == "fastspeech2":  # VITS2 draws its latent anew in every pass
            assert durations.tolist() == of_model[after.utterance_id][: len(phones)].tolist()

    kept = next((tmp_path / "out").iterdir())
    kept.write_text("kept")
    assert align.main(command) == 0
    assert kept.read_text() == "kept"


def test_what_aligns_nothing_itself_is_refused(recognizer, tmp_path, capsys):
    assert align.main(["-r", recognizer, "-o", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "the task 'asr' has no alignments of its own, 'tts' has" in error
    assert error.endswith("by a recognizer, of what -c or --audio names\n")
    given = str(next((RUNS / "fastspeech2").glob("checkpoint-*.pth")))
    assert align.main(["-r", given, "-o", str(tmp_path), "-d", "cpu"]) == 2
    assert "its model takes durations from the data and aligns nothing itself" in capsys.readouterr().err
