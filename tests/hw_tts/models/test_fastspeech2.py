import pytest
import torch

from hw_base.errors import ConfigError
from hw_base.registry import MODELS
from hw_tts.losses.alignment import BinarizationLoss, ForwardSumLoss
from hw_tts.models.fastspeech2 import FastSpeech2
from tests.hw_tts.acoustic import (
    DURATIONS,
    SIZES,
    STATISTICS,
    closer_look,
    fastspeech2,
    losses_of,
    make_batch,
    only,
    overfit,
    untouched,
    values,
)

FRAMES = {"variance_level": "frame", "variance_embedding": "continuous", "log_pitch": False}
PUBLISHED = {"norm": "post", "postnet": "tacotron2", "log_pitch": False, "first_position": 1}
LEARNED = {"alignment": "learned", "n_speakers": 2, "variance_embedding": "continuous"}
WITH_POSTNET = {"variance_embedding": "continuous", "postnet": "tacotron2"}
VARIANTS = [{}, FRAMES, PUBLISHED, {"pitch_bins": "log", "energy_bins": "log", "n_speakers": 2, "positions": "learned"}]
ALIGNMENT = {"alignment": ForwardSumLoss(), "binarization": BinarizationLoss()}


def speak(network, batch, **controls):
    return network.eval().synthesize(batch["tokens"], batch["tokens_length"], batch["speaker_id"], **controls)


def talkative(**changes):
    """A model that predicts some frames for each token, and pitches that differ from token to token."""
    network = fastspeech2(**changes)
    with torch.no_grad():
        network.duration_predictor.out.bias += 1.5
    return network


def test_is_registered():
    assert MODELS["FastSpeech2"] is FastSpeech2


@pytest.mark.parametrize(("n_layers", "level", "count"), [(6, "phone", 35_159_361), (4, "frame", 29_385_537)])
def test_size_as_published(n_layers, level, count):
    """Counted there and not here: two frozen tables of 1001 sinusoids, and two of 255 boundaries of bins."""
    changes = {"n_decoder_layers": n_layers, "variance_level": level, "norm": "post", "postnet": "tacotron2"}
    network = FastSpeech2(n_mels=80, n_tokens=361, **changes)
    assert network.n_parameters() == count - 2 * 1001 * 256 - 2 * 255


@pytest.mark.parametrize("changes", [*VARIANTS, LEARNED])
@torch.no_grad()
def test_an_utterance_alone_equals_itself_in_a_padded_batch(changes):
    network = fastspeech2(**changes)
    network.train()
    network(**make_batch(([2, 1, 4, 3, 6], [4, 5, 2])))  # moves the running statistics
    network.eval()
    durations = [[3, 1, 2, 5, 1], [1], [2, 4, 4]] if changes is LEARNED else DURATIONS
    batch = make_batch(durations, extra=6)
    together = {k: v for k, v in network(**batch).items() if not k.startswith("alignment")}
    for i, d in enumerate(durations):
        alone = {k: v for k, v in network(**only(batch, i)).items() if not k.startswith("alignment")}
        closer_look(together, alone, i, (len(d), sum(d)))


@pytest.mark.parametrize("changes", VARIANTS)
@torch.no_grad()
def test_speaking_a_batch_equals_speaking_one_by_one(changes):
    network, batch = talkative(**changes), make_batch(extra=3)
    together = speak(network, batch, speed=0.9, pitch=1.1, energy=0.8)
    assert together["durations"].sum(1).tolist() == together["spectrogram_length"].tolist()
    for i, d in enumerate(DURATIONS):
        alone = speak(network, only(batch, i), speed=0.9, pitch=1.1, energy=0.8)
        closer_look(together, alone, i, (len(d), int(alone["spectrogram_length"])))


@pytest.mark.parametrize("changes", [{}, FRAMES, LEARNED])
def test_training_does_not_depend_on_padding(changes):
    a, b = fastspeech2(**changes), fastspeech2(**changes)
    extra = ALIGNMENT if changes is LEARNED else {}
    narrow, wide = (values(n, make_batch(extra=e), {**losses_of(n), **extra}) for n, e in ((a, 0), (b, 9)))
    for name, value in narrow.items():
        assert value.item() == pytest.approx(wide[name].item(), rel=1e-4), name


@pytest.mark.parametrize("changes", [*VARIANTS, LEARNED])
def test_gradient_reaches_every_parameter(changes):
    batch = make_batch(([3, 0, 2, 5, 1, 1, 2, 3], [1, 2, 4, 4, 2, 1]))
    network = fastspeech2(**{**changes, "n_bins": 2, "n_positions": 8})
    losses = {**losses_of(network), **(ALIGNMENT if changes is LEARNED else {})}
    assert untouched(network, batch, losses) == []


@pytest.mark.parametrize("changes", [{}, FRAMES, pytest.param(WITH_POSTNET, marks=pytest.mark.slow)])
def test_one_batch_can_be_learned_by_heart(changes):
    network = fastspeech2(**{**changes, "width": 16, "ff_width": 32, "predictor_width": 24})
    if network.decoder.postnet is not None:
        network.decoder.postnet.dropout = torch.nn.Identity()
    final = overfit(network, make_batch(), losses_of(network), goal=0.05)
    assert max(final.values()) < 0.05, final


def test_targets_are_means_over_tokens():
    batch = make_batch()
    out = fastspeech2(log_pitch=False)(**batch)
    assert torch.equal(out["variance_length"], batch["tokens_length"])
    for i, durations in enumerate(DURATIONS):
        end = 0
        for j, d in enumerate(durations):
            hertz, end = batch["pitch"][i, end : end + d], end + d
            expected = (hertz.mean().item() - STATISTICS["pitch_mean"]) / STATISTICS["pitch_std"] if d else 0.0
            assert out["pitch_target"][i, j].item() == pytest.approx(expected, abs=1e-4)


def test_targets_of_frames():
    batch = make_batch()
    out = fastspeech2(**FRAMES)(**batch)
    assert torch.equal(out["variance_length"], batch["spectrogram_length"])
    torch.testing.assert_close(out["energy_target"], (batch["energy"] - 12.0) / 6.0)


def test_learned_durations_are_those_of_the_path():
    batch = make_batch(([3, 1, 2, 5, 1], [1], [2, 4, 4]))
    out = fastspeech2(**LEARNED)(**{**batch, "durations": None})
    assert out["durations"].dtype == torch.int64
    assert torch.equal(out["durations"], out["alignment_hard"].sum(1).long())
    assert torch.equal(out["durations"].sum(1), batch["spectrogram_length"])
    assert out["alignment_log_probs"].exp().sum(2).allclose(torch.ones(3, 12))


@pytest.mark.parametrize(
    "changes", [{}, FRAMES, {"variance_embedding": "continuous"}, {"variance_embedding": "fourier"}]
)
def test_each_control_has_its_own_effect(changes):
    network, batch = talkative(**changes), make_batch()
    plain, loud, high, fast = (speak(network, batch, **c) for c in ({}, {"energy": 2.0}, {"pitch": 1.5}, {"speed": 2}))
    assert torch.equal(plain["durations"], loud["durations"])
    assert torch.equal(plain["durations"], high["durations"])
    assert (fast["durations"] <= plain["durations"]).all()
    assert fast["durations"].sum() < plain["durations"].sum()
    torch.testing.assert_close(high["pitch"], 1.5 * plain["pitch"])
    torch.testing.assert_close(loud["pitch"], plain["pitch"])
    torch.testing.assert_close(loud["energy"], 2.0 * plain["energy"], atol=1e-4, rtol=1e-4)
    for a, b in ((plain, loud), (plain, high), (loud, high)):
        assert (a["spectrogram"] - b["spectrogram"]).abs().max() > 1e-3


def test_factors_of_one_change_nothing():
    network, batch = talkative(), make_batch()
    a, b = speak(network, batch), speak(network, batch, speed=1.0, pitch=1.0, energy=1.0)
    assert torch.equal(a["spectrogram"], b["spectrogram"])


@pytest.mark.parametrize("control", ["speed", "pitch", "energy"])
def test_impossible_controls(control):
    with pytest.raises(ConfigError, match=f"{control}: expected a factor above 0, found 0"):
        speak(talkative(), make_batch(), **{control: 0})


@torch.no_grad()
def test_speakers_sound_different():
    network, batch = talkative(n_speakers=3).eval(), make_batch(([2, 3, 1],))
    outs = [network.synthesize(batch["tokens"], batch["tokens_length"], torch.tensor([s])) for s in range(3)]
    assert not torch.equal(outs[0]["pitch"], outs[1]["pitch"])
    with pytest.raises(ConfigError, match="3 voices; choose a speaker"):
        network.synthesize(batch["tokens"], batch["tokens_length"])


@pytest.mark.parametrize("changes", [{"postnet": "tacotron2"}, FRAMES, LEARNED])
def test_half_precision_stays_out_of_what_is_predicted(changes):
    network, batch = fastspeech2(**changes).eval(), make_batch(([3, 1, 2, 5, 1], [1], [2, 4, 4]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = network(**batch)
        spoken = network.synthesize(batch["tokens"], batch["tokens_length"], batch["speaker_id"])
    whole = network(**batch)
    assert spoken["durations"].dtype == torch.int64
    for key, value in whole.items():
        assert half[key].dtype == value.dtype, key
        if key != "alignment_hard":
            torch.testing.assert_close(half[key], value, atol=0.15, rtol=0.05, msg=lambda m, k=key: k + m)


def test_statistics_travel_in_the_checkpoint():
    a, b = fastspeech2(), FastSpeech2(**SIZES)
    b.load_state_dict(a.state_dict())
    assert b.pitch.denormalize(torch.tensor(0.3)) == a.pitch.denormalize(torch.tensor(0.3))
    with pytest.raises(ConfigError, match=r"statistics of energy: \['mean', 'std'\] missing"):
        a.set_statistics({"pitch_mean": 1.0, "pitch_std": 1.0})


def test_training_waits_for_nothing(monkeypatch):
    """No value is read back from the device in a training pass: the host would wait for it."""

    def refuse(*_):
        raise AssertionError("a tensor was read on the host")

    network, batch = fastspeech2(), make_batch()
    for name in ("item", "tolist", "__bool__", "__int__", "__float__", "__index__", "numpy", "cpu"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    network(**batch)
