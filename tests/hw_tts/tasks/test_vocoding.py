"""Vocoding from config to checkpoint: the two steps, what they train, evaluation, and what a config may get wrong."""

import json

import pytest
import torch

import test as test_script
import train as train_script
from hw_base.audio import io as audio
from hw_base.audio.mel import LogMelSpectrogram
from hw_base.config import read as config_files
from hw_base.config.resolve import resolve
from hw_base.errors import CheckpointError, ConfigError
from hw_base.runs.experiment import Experiment
from hw_tts.losses.adversarial import discriminator_loss, generator_loss
from hw_tts.metrics.base import Pair
from hw_tts.metrics.spectral import LogMelL1
from hw_tts.vocoders.griffin_lim import GriffinLim
from hw_tts.vocoders.loading import load_vocoder
from tests.conftest import ROOT

PATH = ROOT / "configs" / "tiny" / "hifigan.json"


def sounds(folder, n=4, rate=16000, seconds=0.5):
    """Recordings without transcripts."""
    for i in range(n):
        t = torch.arange(round(rate * seconds)) / rate
        audio.save(folder / "audio" / f"u{i}.wav", 0.3 * torch.sin(2 * torch.pi * (150 + 40 * i) * t), rate)
    return folder


def on(folder, *overrides, **sections):
    raw = config_files.read(PATH)
    split = {"datasets": [{"type": "CustomDir", "args": {"root": str(folder)}}], "batch_size": 2}
    raw["data"] = dict.fromkeys(("train", "val", "test"), split)
    return resolve({**raw, **sections}, ["metrics={}", *overrides])


def trainer_of(config):
    return Experiment(config, torch.device("cpu")).trainer(None)


@pytest.fixture
def folder(tmp_path):
    return sounds(tmp_path / "corpus")


def a_batch(trainer):
    return next(iter(trainer.loader))


def test_recordings_need_no_transcripts(folder):
    trainer = trainer_of(on(folder))
    batch = a_batch(trainer)
    assert len(trainer.loader) == 2
    assert batch["waveform"].shape == (2, 16 * 128)
    assert batch["spectrogram"].shape == (2, 40, 16)


def test_the_losses_are_those_of_the_formulas_and_in_their_order(folder):
    trainer = trainer_of(on(folder))
    model = trainer.model.eval()
    batch = a_batch(trainer)
    pairs = dict(trainer.losses(dict(batch)))
    assert list(pairs) == ["discriminator", "generator"]
    fake = model.generator(batch["spectrogram"])
    real_scores, real_maps = model.discriminator(batch["waveform"].unsqueeze(1))
    fake_scores, fake_maps = model.discriminator(fake)
    values = pairs["generator"]
    torch.testing.assert_close(pairs["discriminator"]["adversarial"], discriminator_loss(real_scores, fake_scores))
    torch.testing.assert_close(values["adversarial"], generator_loss(fake_scores))
    distances = [
        (a - b).abs().mean() for r, f in zip(real_maps, fake_maps, strict=True) for a, b in zip(r, f, strict=True)
    ]
    torch.testing.assert_close(values["feature_matching"], 2 * sum(distances))
    constants = trainer.features.constants() | {"f_max": None}
    mel = LogMelSpectrogram(**constants)
    expected = (mel(fake.squeeze(1)) - mel(batch["waveform"])).abs().mean()
    torch.testing.assert_close(values["mel"].total / values["mel"].count, expected)


def test_each_step_trains_its_own_part_and_the_second_sees_the_first(folder):
    trainer = trainer_of(on(folder))
    trainer.model.train()
    for optimization in trainer.optimizations.values():
        optimization.zero_grad()
    before = {name: [p.detach().clone() for p in net.parameters()] for name, net in trainer.networks.items()}

    def changed(name):
        now = trainer.networks[name].parameters()
        return any(not torch.equal(a, b) for a, b in zip(before[name], now, strict=True))

    pairs = trainer.losses(trainer.to_device(a_batch(trainer)))
    name, losses = next(pairs)
    trainer._update(name, losses, True)
    assert (changed("discriminator"), changed("generator")) == (True, False)
    middle = [p.detach().clone() for p in trainer.networks["discriminator"].parameters()]
    name, losses = next(pairs)
    trainer._update(name, losses, True)
    assert changed("generator")
    for ours, theirs in zip(trainer.networks["discriminator"].parameters(), middle, strict=True):
        assert torch.equal(ours, theirs)


def test_one_batch_is_learned(folder):
    changes = ["optimizers.generator.args.lr=0.01", "optimizers.discriminator.args.lr=0.001"]
    trainer = trainer_of(on(folder, *changes))
    batch = a_batch(trainer)

    def distance():
        trainer.model.eval()
        with torch.no_grad():
            mel = dict(trainer.losses(trainer.to_device(dict(batch))))["generator"]["mel"]
        return (mel.total / mel.count).item()

    first = distance()
    for _ in range(15):
        trainer.train_step(dict(batch))
    assert distance() < 0.4 * first


def test_an_evaluation_does_not_depend_on_the_batches(tmp_path):
    folder = sounds(tmp_path / "corpus", n=2)
    sounds_longer = sounds(tmp_path / "longer", n=3, seconds=0.8)
    for path in (sounds_longer / "audio").glob("u2.wav"):
        path.rename(folder / "audio" / "longer.wav")
    values = {}
    for size in (1, 3):
        trainer = trainer_of(on(folder, f"data.val.batch_size={size}"))
        values[size] = trainer.evaluate("val")
    assert values[3]["generator/mel"] == pytest.approx(values[1]["generator/mel"], rel=1e-5)


def test_a_checkpoint_is_tested_and_is_a_vocoder(folder, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config_files.read(PATH)))
    data = {
        name: {"datasets": [{"type": "CustomDir", "args": {"root": str(folder)}}]} for name in ("train", "val", "test")
    }
    metrics = 'metrics={"log_mel_l1": "LogMelL1"}'
    flags = ["--set", f"data={json.dumps(data)}", "--set", "trainer.max_steps=1", "--set", metrics]
    assert train_script.main(["-c", str(path), "--run-dir", str(tmp_path / "run"), "-d", "cpu", *flags]) == 0
    best = tmp_path / "run" / "model_best.pth"
    assert test_script.main(["-r", str(best), "-d", "cpu", "-o", str(tmp_path / "out" / "output.json")]) == 0
    rows = json.loads((tmp_path / "out" / "output.json").read_text())
    assert [row["id"] for row in rows] == [f"u{i}" for i in range(4)]
    figures = json.loads((tmp_path / "out" / "metrics.json").read_text())["output.json"]["splits"]["test"]
    measured = [(row["metrics"]["log_mel_l1"], row["weights"]["log_mel_l1"]) for row in rows]
    total = sum(value * weight for value, weight in measured) / sum(weight for _, weight in measured)
    assert figures["log_mel_l1"] == pytest.approx(total, abs=1e-4)
    written, rate = audio.load(rows[0]["audio_path"])
    assert (rate, len(written)) == (16000, 8000)

    features = LogMelSpectrogram(
        sample_rate=16000, n_fft=512, win_length=512, hop_length=128, n_mels=40, f_max=8000.0, power=1,
        mel_scale="slaney", norm="slaney", eps=1e-5, normalize="none",
    )  # fmt: skip
    recorded, _ = audio.load(folder / "audio" / "u0.wav")
    # Griffin-Lim beside it, which one step of training does not surpass.
    metric = LogMelL1()
    for path in sorted((folder / "audio").iterdir()):
        reference, _ = audio.load(path)
        plain = GriffinLim(features)(features(reference)[None])[0, : len(reference)].clamp(-1, 1)
        metric.update(Pair(reference, plain, 16000, utterance_id=path.stem, matched=True))
    # Between a sine's lines there is nothing but rounding, which differs in a batch.
    assert figures["log_mel_l1/griffin_lim"] == pytest.approx(metric.compute(), rel=0.05)
    assert figures["log_mel_l1/griffin_lim"] < figures["log_mel_l1"]
    vocoded = load_vocoder(best, features)(features(recorded)[None])
    torch.testing.assert_close(vocoded[0, :8000], written, atol=1e-4, rtol=0)
    with pytest.raises(ConfigError, match=r"hop_length 128.*hop_length 256"):
        load_vocoder(best, LogMelSpectrogram(**features.constants() | {"hop_length": 256}))
    other = ROOT / "tests" / "data" / "first_edition" / "fastspeech2" / "checkpoint-00000004.pth"
    with pytest.raises(CheckpointError, match="holds a FastSpeech2, which is not a vocoder"):
        load_vocoder(other, features)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("losses.crispness=1.0", r"losses\.crispness"),
        ("losses={mel: 45.0}", r"losses\.adversarial: required, but missing"),
        ("losses.mel.type=AdversarialLoss", r"losses\.mel\.type: must be WaveformMelLoss, found AdversarialLoss"),
        ("features.args.normalize=per_bin", r"features\.args\.normalize: a vocoder needs 'none', found 'per_bin'"),
        ("features.args.padding=none", r"features\.args\.padding: a vocoder needs 'center' or 'same'"),
        ("features.args.hop_length=100", r"model: upsample_rates \[8, 4, 4\] make 128 samples of a frame"),
    ],
)
def test_mistakes_in_a_config(folder, override, message):
    with pytest.raises(ConfigError, match=message):
        trainer_of(on(folder, override))
