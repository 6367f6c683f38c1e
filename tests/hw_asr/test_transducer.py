"""A transducer's checkpoint in every program: as a recognizer, in windows, tuned."""

import json
import math

import pytest
import torch

import hw_asr
import test as test_script
from hw_asr import recognize, train_lm, tune_decoder
from hw_asr import recognizer as recognizer_module
from hw_asr.decoders import TransducerBeamSearchDecoder, TransducerGreedyDecoder
from hw_base.audio import io as audio
from hw_base.synthetic import sentences
from tests.recognizers import save_random


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return save_random(tmp_path_factory.mktemp("transducer") / "model.pth", name="transducer")


@pytest.fixture(scope="module")
def recognizer(path):
    return hw_asr.load(path, device="cpu")


def sound(seconds):
    """Something that is different everywhere, with pauses."""
    wave = 0.1 * torch.randn(int(seconds * 16000), generator=torch.Generator().manual_seed(1)).cumsum(0).sin()
    for second in range(3, int(seconds), 4):
        wave[second * 16000 : second * 16000 + 12000] = 0
    return wave


def test_it_says_what_its_decoder_makes_of_its_encoder(recognizer):
    assert isinstance(recognizer.decoder, TransducerGreedyDecoder)
    waveform = sound(1.5)
    spectrogram = recognizer.features(waveform)[None]
    outputs = recognizer.model(spectrogram=spectrogram, spectrogram_length=torch.tensor([spectrogram.shape[-1]]))
    best = recognizer.decoder(outputs["encoder_states"], outputs["log_probs_length"])[0][0]
    transcript = recognizer.transcribe(waveform, 16000, details=True)
    assert transcript.text == best.text.strip() != ""
    frames = [round(word.start / recognizer.frame_seconds) for word in transcript.words]
    assert frames == sorted(frames)
    assert set(frames) <= set(best.timesteps)
    assert " ".join(word.text for word in transcript.words) == " ".join(best.text.split())


def test_the_confidence_of_a_word_is_the_mean_of_its_tokens_when_they_were_emitted(recognizer):
    waveform = sound(1.5)
    (word, *_) = recognizer.transcribe(waveform, 16000, details=True).words
    outputs = recognizer.outputs([waveform], 16000)
    best = recognizer.decoder(outputs["encoder_states"], outputs["log_probs_length"])[0][0]
    start = len(best.text) - len(best.text.lstrip())
    scores = best.token_scores[start : start + len(word.text)]
    assert word.confidence == pytest.approx(math.exp(sum(scores) / len(scores)), abs=1e-6)


def test_an_utterance_is_heard_the_same_alone_and_among_others(recognizer):
    waveforms = [sound(1.5), sound(0.3), sound(2.2)]
    alone = [recognizer.transcribe(one, 16000) for one in waveforms]
    assert [text.strip() for text in recognizer.transcribe_batch(waveforms, 16000)] == alone


def test_the_test_script_reports_its_decoders_and_those_of_its_ctc_head(path, recognizer, tmp_path):
    beam = {"type": "TransducerBeamSearchDecoder", "args": {"beam_size": 3, "max_symbols": 1, "n_best": 2}}
    decoders = {"greedy": "TransducerGreedyDecoder", "beam": beam, "ctc": "Greedy"}
    output = tmp_path / "output.json"
    arguments = ["-r", str(path), "-d", "cpu", "-o", str(output), "--set", f"decoders={json.dumps(decoders)}"]
    assert test_script.main([*arguments, "--set", "data.test.limit=3"]) == 0
    rows = json.loads(output.read_text())
    figures = json.loads((tmp_path / "metrics.json").read_text())["output.json"]["splits"]["test"]
    assert set(figures) == {f"{metric}_{name}" for metric in ("wer", "cer") for name in decoders}
    for row in rows:
        assert row["pred_text"] == row["pred_text_greedy"] == row["pred_text_argmax"]
        assert row["pred_text_beam_search"][0][0] == row["pred_text_beam"]
        assert len(row["pred_text_beam_search"]) == 2
    assert len({row["pred_text_ctc"] for row in rows}) == 3


def test_a_long_recording_is_run_in_windows_with_its_encoder_states(recognizer, tmp_path, monkeypatch):
    whole = recognizer.outputs([sound(20)], 16000)
    for name, seconds in (("LONGEST_SECONDS", 10), ("WINDOW_SECONDS", 8), ("OVERLAP_SECONDS", 3)):
        monkeypatch.setattr(recognizer_module, name, seconds)
    forward = recognizer.model.forward

    def marked(**batch):
        outputs = forward(**batch)
        return outputs | {"encoder_states": outputs["log_probs"][..., :24]}

    monkeypatch.setattr(recognizer.model, "forward", marked)
    cut = recognizer.outputs([sound(20)], 16000)
    assert {name: value.shape for name, value in cut.items()} == {name: value.shape for name, value in whole.items()}
    assert torch.equal(cut["encoder_states"], cut["log_probs"][..., :24])
    monkeypatch.setattr(recognizer.model, "forward", forward)
    audio.save(tmp_path / "long.wav", sound(20), 16000)
    transcript = recognizer.transcribe(tmp_path / "long.wav", details=True)
    assert transcript.words[-1].end > 15


def test_the_program_writes_words_with_times(path, tmp_path, capsys):
    audio.save(tmp_path / "a.wav", sound(1.5), 16000)
    code = recognize.main(["-r", str(path), "-d", "cpu", "--format", "json", str(tmp_path / "a.wav")])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    said = json.loads(printed.out)
    assert said["text"] == hw_asr.load(path, device="cpu").transcribe(tmp_path / "a.wav")
    assert all(0 <= word["start"] < word["end"] <= 1.6 for word in said["words"])


def test_weights_of_a_language_model_are_searched_on_encoder_states(path, tmp_path, capsys):
    (tmp_path / "text").write_text("\n".join(sentences.draw("train", 50, seed=0)))
    lm = str(tmp_path / "lm.arpa")
    assert train_lm.main(["--text", str(tmp_path / "text"), "--order", "2", "--level", "char", "-o", lm]) == 0
    section = f"decoders.lm={{type: TransducerBeamSearchDecoder, args: {{lm: {lm}, beam_size: 2, max_symbols: 1}}}}"
    weights = ["--lm-weight", "0,1", "--word-score", "0"]
    command = ["-r", str(path), "-d", "cpu", "--set", section, *weights, "-o", str(tmp_path / "tuned")]
    assert tune_decoder.main([*command, "--set", "data.val.limit=3"]) == 0, capsys.readouterr().err
    points = json.loads((tmp_path / "tuned" / "points.json").read_text())
    assert [point["lm_weight"] for point in points] == [0, 1]
    greedy = hw_asr.load(path, device="cpu").decoder
    assert "the most probable tokens alone" in capsys.readouterr().out
    chosen = json.loads((tmp_path / "tuned" / "decoders.json").read_text())
    assert chosen["decoder"] == "lm"
    tuned = hw_asr.load(path, device="cpu", config=tmp_path / "tuned" / "decoders.json").decoder
    assert isinstance(tuned, TransducerBeamSearchDecoder)
    assert tuned.model is not greedy.model
