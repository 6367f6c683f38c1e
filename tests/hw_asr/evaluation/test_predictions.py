"""Which decoder is the result, what the references are, and what ``test.py`` writes of both."""

import json
import shutil

import pytest
import torch

import hw_asr
import hw_asr.recognizer as recognizer_module
import test as test_script
import train as train_script
from hw_asr import score
from hw_base.audio import io as audio
from hw_base.metrics import count_edits
from hw_base.synthetic import sentences
from tests.conftest import ROOT
from tests.recognizers import save_random

TINY = str(ROOT / "configs" / "tiny" / "ds2.json")
DECODERS = {
    "argmax": "Greedy",
    "beam": {"type": "BeamSearch", "args": {"engine": "tensor", "hot_words": {"the": 60.0}}},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "tiny"
    sets = ["trainer.max_steps=2", f"decoders={json.dumps(DECODERS)}"]
    sets = [part for one in sets for part in ("--set", one)]
    assert train_script.main(["-c", TINY, "-d", "cpu", "--run-dir", str(folder), *sets]) == 0
    return folder


def recognize(run, output, *arguments):
    code = test_script.main(["-r", str(run), "-d", "cpu", "-o", str(output), *arguments])
    return code, json.loads(output.read_text()) if output.exists() else None


def figures(output):
    return json.loads((output.parent / "metrics.json").read_text())[output.name]


def recordings(run, folder, texts):
    """A folder for ``-t`` with the given transcripts."""
    (folder / "audio").mkdir(parents=True)
    (folder / "transcriptions").mkdir()
    _, rows = recognize(run, folder / "all.json")
    for name, row in zip(texts, rows, strict=False):
        shutil.copy(row["audio_path"], folder / "audio" / f"{name}.wav")
        (folder / "transcriptions" / f"{name}.txt").write_text(texts[name], encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize("decoder", ["argmax", "beam"])
def test_every_output_is_of_the_decoder_that_was_chosen(run, tmp_path, capsys, decoder):
    output, folder = tmp_path / "o.json", tmp_path / "p"
    code, rows = recognize(run, output, "--decoder", decoder, "--predictions", str(folder))
    assert code == 0
    printed = capsys.readouterr().out
    for row in rows:
        assert row["decoder"] == decoder
        assert row["pred_text"] == row["pred_text_argmax" if decoder == "argmax" else "pred_text_beam"]
        assert (folder / f"{row['id']}.txt").read_text() == row["pred_text"] + "\n"
        assert f"recognized: {row['pred_text']}\n" in printed
    assert any(row["pred_text_argmax"] != row["pred_text_beam"] for row in rows)
    assert f"decoder: {decoder}\n" in printed
    assert figures(output)["decoder"] == decoder
    assert score.main([str(output), "--json", str(tmp_path / "s.json")]) == 0
    report = json.loads((tmp_path / "s.json").read_text())
    assert report["decoder"] == decoder
    assert [one["hypothesis"] for one in report["utterances"]] == [" ".join(row["pred_text"].split()) for row in rows]
    assert report["wer"]["corpus"] == pytest.approx(figures(output)["splits"]["test"][f"wer_{decoder}"])


def test_the_config_names_the_decoder_and_the_first_is_the_default(run, tmp_path):
    assert recognize(run, tmp_path / "a.json")[1][0]["decoder"] == "argmax"
    assert recognize(run, tmp_path / "b.json", "--set", "decoder=beam")[1][0]["decoder"] == "beam"


def test_an_unknown_decoder_is_refused_with_those_there_are(run, tmp_path, capsys):
    code, rows = recognize(run, tmp_path / "o.json", "--decoder", "bean")
    assert (code, rows) == (2, None)
    assert "no decoder is named 'bean'. Did you mean 'beam'" in capsys.readouterr().err


def test_figures_of_another_output_are_kept(run, tmp_path):
    recognize(run, tmp_path / "one.json")
    first = figures(tmp_path / "one.json")
    (tmp_path / "new").mkdir()
    copy = str(shutil.copy(run / "model_best.pth", tmp_path / "new" / "other.pth"))
    recognize(copy, tmp_path / "two.json", "--decoder", "beam")
    assert figures(tmp_path / "one.json") == first
    assert first["checkpoint"] == str(run / "model_best.pth")
    assert (figures(tmp_path / "two.json")["checkpoint"], figures(tmp_path / "two.json")["decoder"]) == (copy, "beam")


def test_a_metrics_file_of_another_kind_is_moved_aside(run, tmp_path):
    (tmp_path / "metrics.json").write_text("not JSON")
    recognize(run, tmp_path / "one.json")
    assert (tmp_path / "metrics.json.other").read_text() == "not JSON"
    assert figures(tmp_path / "one.json")["decoder"] == "argmax"


def test_references_are_scored_as_they_are_written(run, tmp_path, caplog):
    said = {
        "a": "Seven 42!",
        "b": "\u0434\u043e\u0431\u0440\u044b\u0439 \u0434\u0435\u043d\u044c",
        "c": "Don\u2019t, please.",
    }
    folder = recordings(run, tmp_path / "data", said)
    _, rows = recognize(run, tmp_path / "o.json", "-t", folder)
    assert {row["id"]: row["ground_truth"] for row in rows} == said
    spoken = {"a": "seven 42", "b": said["b"], "c": "don't please"}
    edits = [count_edits(spoken[row["id"]].split(), row["pred_text"].split()) for row in rows]
    assert sum(one.references for one in edits) == 6
    wer = sum(one.distance for one in edits) / 6
    assert figures(tmp_path / "o.json")["splits"]["test"]["wer_argmax"] == pytest.approx(wer)
    assert figures(tmp_path / "o.json")["normalizers"] == {"wer": "letters", "cer": "letters"}
    assert "test: 12 symbols outside the vocabulary can never be recognized and count as errors" in caplog.text


def test_a_run_folder_stands_for_its_best_checkpoint(run, tmp_path):
    recognize(run, tmp_path / "o.json")
    assert figures(tmp_path / "o.json")["checkpoint"] == str(run / "model_best.pth")
    assert test_script.main(["-r", str(tmp_path), "-o", str(tmp_path / "p.json")]) == 2


def test_two_test_splits_with_one_id_are_refused_before_anything_is_recognized(run, tmp_path, capsys):
    folder = recordings(run, tmp_path / "data", {"a": "good morning"})
    split = json.dumps({"datasets": [{"type": "CustomDir", "args": {"root": folder}}]})
    sets = ["--set", f"data.test={split}", "--set", f"data.test_noisy={split}"]
    code, rows = recognize(run, tmp_path / "o.json", *sets, "--predictions", str(tmp_path / "p"))
    assert (code, rows) == (2, None)
    assert "test and test_noisy both have an utterance 'a'" in capsys.readouterr().err
    assert recognize(run, tmp_path / "o.json", *sets)[0] == 0
    assert score.main([str(tmp_path / "o.json")]) == 2
    assert "--split" in capsys.readouterr().err
    assert score.main([str(tmp_path / "o.json"), "--split", "test_noisy"]) == 0


def test_a_training_transcript_without_a_letter_is_named_before_the_first_step(run, tmp_path, capsys):
    folder = recordings(
        run, tmp_path / "data", {"a": "good morning", "b": "42 ...", "c": sentences.draw("test", 1, seed=0)[0]}
    )
    change = f"data.train.datasets={json.dumps([{'type': 'CustomDir', 'args': {'root': folder}}])}"
    arguments = ["-c", TINY, "-d", "cpu", "--run-dir", str(tmp_path / "r"), "--set", change]
    assert train_script.main(arguments) == 2
    assert "'b': the transcript '42 ...' has no letter in it that the vocabulary knows" in capsys.readouterr().err
    assert not list((tmp_path / "r").glob("*.pth"))


def test_long_recordings_are_run_in_windows_as_transcribe_does(tmp_path, monkeypatch):
    path = save_random(tmp_path / "model.pth")
    sound = 0.1 * torch.randn(9 * 16000, generator=torch.Generator().manual_seed(3)).cumsum(0).sin()
    for name, waveform in (("long", sound), ("short", sound[:16000])):
        audio.save(tmp_path / "data" / "audio" / f"{name}.wav", waveform, 16000)
    model = hw_asr.load(path, device="cpu")
    whole = model.transcribe(tmp_path / "data" / "audio" / "long.wav")
    monkeypatch.setattr(recognizer_module, "LONGEST_SECONDS", 5)
    monkeypatch.setattr(recognizer_module, "WINDOW_SECONDS", 3)
    monkeypatch.setattr(recognizer_module, "OVERLAP_SECONDS", 1)
    code, rows = recognize(path, tmp_path / "o.json", "-t", str(tmp_path / "data"))
    assert code == 0
    texts = {row["id"]: row["pred_text"] for row in rows}
    assert texts == {name: model.transcribe(tmp_path / "data" / "audio" / f"{name}.wav") for name in texts}
    assert texts["long"] != whole
    assert len(texts) == 2
