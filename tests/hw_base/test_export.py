"""Exported models: the file gives what the model gives, on any length; whatever is wrong is one line."""

import json
import logging
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

import hw_asr
from hw_base import export, trained
from hw_base.audio import io as audio
from hw_base.errors import ConfigError
from hw_base.exports import making
from hw_base.exports.contract import export_of
from hw_base.exports.quantization import quantized
from tests import exportable
from tests.conftest import ROOT

onnxruntime = pytest.importorskip("onnxruntime", reason="runs exported models")
onnx = pytest.importorskip("onnx", reason="exports models")
pytest.importorskip("onnxscript", reason="exports models")

RUNS = ROOT / "tests" / "data" / "first_edition"
ASR, TTS = RUNS / "ds2" / "checkpoint-00000008.pth", RUNS / "fastspeech2" / "checkpoint-00000004.pth"
PAGE = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With ``model.onnx`` of the recognizer of the first edition, and ``small.onnx``, the same with 8 bit weights."""
    folder = tmp_path_factory.mktemp("exported")
    assert export.main(["-r", str(ASR), "-o", str(folder / "model.onnx")]) == 0
    small = quantized(onnx.load(folder / "model.onnx"), ("features.",))
    (folder / "small.onnx").write_bytes(small.SerializeToString())
    return folder


def about(path):
    model = onnx.load(path)
    (entry,) = [entry for entry in model.metadata_props if entry.key == making.METADATA]
    return json.loads(entry.value)


@pytest.mark.parametrize("seconds", [(0.04,), (0.5,), (1.0, 0.31), (3.3, 0.2, 2.0), (12.0,)])
def test_a_recognizer_gives_the_same_on_any_length_alone_and_in_a_batch(seconds, folder):
    recognizer, generator = hw_asr.load(ASR, device="cpu"), torch.Generator().manual_seed(int(100 * sum(seconds)))
    rows = [0.1 * torch.randn(round(16000 * s), generator=generator) for s in seconds]
    waveform = torch.full((len(rows), max(map(len, rows))), 9.9)  # what the padding holds has no influence
    for i, row in enumerate(rows):
        waveform[i, : len(row)] = row
    run = making.run_onnx((folder / "model.onnx").read_bytes())
    found = run({"waveform": waveform, "waveform_length": torch.tensor([len(row) for row in rows])})
    log_probs, lengths = recognizer.posteriors(rows, 16000)
    assert torch.equal(found["log_probs_length"], lengths)
    for i, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(found["log_probs"][i, :length], log_probs[i, :length], atol=1e-4, rtol=0)
        assert not found["log_probs"][i, length:].any()


def test_the_program_of_the_page_recognizes_a_file_without_torch(folder, tmp_path):
    (code,) = re.findall(r"```python\n(import json.*?)```", PAGE, re.DOTALL)
    assert "torch" not in code.replace("hw_speech", "")
    (tmp_path / "program.py").write_text(code)
    waveform = 0.3 * torch.sin(torch.cumsum(torch.linspace(0.01, 1.5, 20000), 0))
    audio.save(tmp_path / "speech.wav", waveform, 16000)
    expected = hw_asr.load(ASR, device="cpu").transcribe(str(tmp_path / "speech.wav"))
    command = [sys.executable, "-I", "program.py", str(folder / "model.onnx"), "speech.wav"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == expected
    audio.save(tmp_path / "speech.wav", waveform, 8000)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "8000 Hz; the model needs 16000 Hz" in done.stderr


def test_the_file_says_what_a_program_needs_and_nothing_of_this_machine(folder):
    said = about(folder / "model.onnx")
    assert said["sample_rate"] == 16000
    encoder = hw_asr.load(ASR, device="cpu").text_encoder
    spelled = [name.replace(said["space"], " ") for name in said["vocabulary"]]
    assert spelled[1:] == [encoder.decode([token]) for token in range(1, len(encoder))]
    assert said["blank"] == 0
    assert said["frame_seconds"] == hw_asr.load(ASR, device="cpu").frame_seconds
    assert str(ROOT).encode() not in (folder / "model.onnx").read_bytes()


def test_eight_bits_make_a_smaller_file_that_hears_nearly_the_same(folder):
    whole, small = folder / "model.onnx", folder / "small.onnx"
    assert small.stat().st_size < whole.stat().st_size
    assert about(small) == about(whole)
    names = {tensor.name: tensor.data_type for tensor in onnx.load(small).graph.initializer}
    assert any(kind == onnx.TensorProto.INT8 for kind in names.values())
    assert names["features.basis"] == onnx.TensorProto.FLOAT
    case = {"waveform": 0.1 * torch.randn(1, 30000), "waveform_length": torch.tensor([30000])}
    a, b = (making.run_onnx(path.read_bytes())(case)["log_probs"] for path in (whole, small))
    assert 0 < float((a - b).abs().mean()) < 0.1


def test_rounding_to_eight_bits_is_quiet_and_leaves_logging_as_it_was(folder, caplog):
    before = logging.root.manager.disable, logging.root.level
    logging.disable(logging.DEBUG)
    try:
        quantized(onnx.load(folder / "model.onnx"), ("features.",))
        assert logging.root.manager.disable == logging.DEBUG
    finally:
        logging.disable(before[0])
    assert logging.root.level == before[1]
    assert not caplog.records


def test_a_graph_that_differs_from_the_model_is_refused_and_nothing_is_written(monkeypatch, tmp_path, capsys):
    graph = export_of("asr").graph(trained.load(ASR), None)
    right = {id(case): dict(graph.expected(case)) for case in graph.cases}
    assert making.differences(graph, lambda case: right[id(case)])[0] == 0.0

    def slightly_wrong(case):
        return {**right[id(case)], "log_probs": right[id(case)]["log_probs"] + 2e-4}

    def one_frame_more(case):
        return {**right[id(case)], "log_probs_length": right[id(case)]["log_probs_length"] + 1}

    def not_a_number(case):
        return {**right[id(case)], "log_probs": right[id(case)]["log_probs"] * torch.nan}

    for wrong in (slightly_wrong, one_frame_more, not_a_number):
        with pytest.raises(ConfigError, match=r"differs from the model.*nothing is written"):
            making.differences(graph, wrong)
    target = tmp_path / "model.onnx"
    target.write_bytes(b"older")
    monkeypatch.setattr(making, "TOLERANCE", -1.0)
    monkeypatch.setattr(making, "onnx_model", lambda graph: onnx.ModelProto())
    monkeypatch.setattr(making, "run_onnx", lambda data: slightly_wrong)
    assert export.main(["-r", str(ASR), "-o", str(target)]) == 2
    assert target.read_bytes() == b"older"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-r", ASR, "-o", "model.bin"], "the name must end in .onnx or .pt2"),
        (["-r", ASR, "-o", "model.onnx", "--vocoder", ASR], "holds a recognizer, which needs none"),
        (["-r", TTS, "-o", "model.onnx"], "makes spectrograms: add --vocoder CKPT"),
        (["-r", RUNS / "hifigan" / "checkpoint-00000008.pth", "-o", "model.onnx"], "task 'vocoder' cannot be exported"),
        (["-r", ASR, "-o", "model.pt2", "--int8"], "only in a file *.onnx"),
        (["-r", "missing.pth", "-o", "model.onnx"], "no such file"),
    ],
)
def test_what_cannot_be_exported_is_one_line(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert export.main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error.splitlines()[-1]
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_a_transducer_is_refused_in_one_line(tmp_path, capsys):
    checkpoint = exportable.save(tmp_path / "asr.pth", "transducer")
    assert export.main(["-r", str(checkpoint), "-o", str(tmp_path / "asr.onnx")]) == 2
    assert "a Transducer has no graph" in capsys.readouterr().err
    assert not (tmp_path / "asr.onnx").exists()


def test_a_missing_package_is_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert export.main(["-r", str(ASR), "-o", str(tmp_path / "model.onnx")]) == 2
    assert "pip install onnxruntime" in capsys.readouterr().err


@pytest.mark.slow
def test_the_program_writes_eight_bits(folder, tmp_path, capsys):
    assert export.main(["-r", str(ASR), "-o", str(tmp_path / "small.onnx"), "--int8"]) == 0
    assert "with 8 bit weights it differs by" in capsys.readouterr().out
    assert (tmp_path / "small.onnx").stat().st_size == (folder / "small.onnx").stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("conformer", ()),
        ("conformer_bpe", ("model.args.norm=group", "model.args.positions=absolute")),
        ("deepspeech", ("model.args.n_context=2", "features.args.normalize=utterance")),
        ("ds2", ("model.args.cell=lstm", "model.args.combine=concat", "features.args.padding=same")),
    ],
)
def test_every_recognizer_is_exported(name, overrides, tmp_path):
    checkpoint, file = exportable.save(tmp_path / "asr.pth", name, *overrides), tmp_path / "asr.onnx"
    assert export.main(["-r", str(checkpoint), "-o", str(file)]) == 0
    recognizer, run = hw_asr.load(checkpoint, device="cpu"), making.run_onnx(file.read_bytes())
    for n_samples in range(2000, 60000, 7919):
        waveform = 0.1 * torch.randn(1, n_samples)
        found = run({"waveform": waveform, "waveform_length": torch.tensor([n_samples])})["log_probs"]
        torch.testing.assert_close(found, recognizer.posteriors([waveform[0]], 16000)[0], atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("fastspeech2", ()),
        ("fastspeech2", ("model.args.variance_level=frame", "model.args.postnet=cbhg", "model.args.positions=learned")),
        ("vits2", ()),
        ("vits2", ("model.args.duration_predictor=stochastic", "model.args.decoder=istft")),
    ],
)
def test_every_synthesizer_is_exported(name, overrides, tmp_path):
    """Each control changes the speech, and the graph gives what the model gives on many texts."""
    if "model.args.decoder=istft" in overrides:
        overrides += ("model.args.upsample_rates=[8,8]", "model.args.upsample_kernel_sizes=[16,16]")
    checkpoint, file = exportable.save(tmp_path / "tts.pth", name, *overrides), tmp_path / "tts.onnx"
    vocoder = exportable.save(tmp_path / "vocoder.pth", "hifigan", *exportable.VOICE)
    voiced = ["--vocoder", str(vocoder)] if name == "fastspeech2" else []
    assert export.main(["-r", str(checkpoint), *voiced, "-o", str(file)]) == 0
    run, opened = making.run_onnx(file.read_bytes()), trained.load(checkpoint)
    graph = export_of("tts").graph(opened, vocoder if voiced else None)
    case = dict(graph.cases[0])
    for length in (2, 7, 40, 90):
        case["tokens"] = torch.randint(1, 9, (length,))
        for output, wanted in graph.expected(case).items():
            torch.testing.assert_close(run(case)[output], wanted, atol=1e-4, rtol=0)
    before = run(case)["waveform"]
    for control in [name for name in graph.axes if name not in ("tokens", "duration_noise")]:
        value = torch.tensor(1) if control == "speaker" else case[control] * 1.4
        after = run({**case, control: value})["waveform"]
        assert after.shape != before.shape or not torch.equal(after, before), control
    assert about(file)["speakers"] == ["en-us", "en-us+f3"]
    assert len(about(file)["symbols"]) == len(opened.task.text_encoder)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conformer", "vits2"])
def test_torch_export_where_it_works(name, tmp_path):
    checkpoint, file = exportable.save(tmp_path / "model.pth", name), tmp_path / "model.pt2"
    assert export.main(["-r", str(checkpoint), "-o", str(file)]) == 0
    opened = trained.load(checkpoint)
    graph = export_of(opened.config.task).graph(opened, None)
    case = {key: value.clone() for key, value in graph.cases[3].items()}
    found = torch.export.load(file).module()(*(case[key] for key in graph.axes))
    np.testing.assert_allclose(found[0], graph.expected(case)[graph.outputs[0]], atol=1e-4)
