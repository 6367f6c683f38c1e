import copy

import pytest
import torch

from hw_base.errors import ConfigError
from tests.hw_tts.models.vits2.small import batch, small_model, wake


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return wake(small_model()).eval()


@pytest.fixture(scope="module")
def given():
    made = batch()
    return made["tokens"], made["tokens_length"], made["speaker_id"]


def row(given, index):
    length = int(given[1][index])
    return given[0][index : index + 1, :length], given[1][index : index + 1], given[2][index : index + 1]


def test_lengths_follow_durations(model, given):
    made = model.synthesize(*given)
    assert torch.equal(made["waveform_length"], made["durations"].sum(dim=1) * 256)
    assert made["waveform"].shape == (3, int(made["waveform_length"].max()))
    assert bool(((made["durations"] > 0) == (torch.arange(11) < given[1].unsqueeze(1))).all())
    for waveform, length in zip(made["waveform"], made["waveform_length"], strict=True):
        assert waveform[:length].any()
        assert not waveform[length:].any()


def test_an_utterance_alone_sounds_as_in_a_batch_but_for_its_last_frames(model, given):
    together = model.synthesize(*given, noise=0.0)
    for index in range(3):
        alone = model.synthesize(*row(given, index), noise=0.0)
        assert torch.equal(alone["durations"][0], together["durations"][index, : given[1][index]])
        length = int(alone["waveform_length"])
        # The decoder's receptive field reaches into what follows, which is zero latents in a batch and nothing alone.
        heard = max(0, length - 12 * 256)
        torch.testing.assert_close(
            alone["waveform"][0, :heard], together["waveform"][index, :heard], rtol=1e-4, atol=1e-5
        )


def test_noise_is_drawn_and_can_be_repeated(model, given):
    torch.manual_seed(1)
    first, second = model.synthesize(*given)["waveform"], model.synthesize(*given)["waveform"]
    torch.manual_seed(1)
    again = model.synthesize(*given)["waveform"]
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_speed_divides_durations(model, given):
    slow, plain = model.synthesize(*given, speed=0.25), model.synthesize(*given)
    assert int(slow["waveform_length"].sum()) > 2 * int(plain["waveform_length"].sum())


def test_speakers_sound_different_and_mix(model, given):
    tokens, length, _ = row(given, 0)
    zero, one = (model.synthesize(tokens, length, torch.tensor([i]), noise=0.0)["waveform"] for i in (0, 1))
    assert zero.shape != one.shape or not torch.equal(zero, one)
    alone = model.synthesize(tokens, length, noise=0.0, speaker_embedding=model.mix_speakers({1: 2.0}))["waveform"]
    assert torch.equal(alone, one)
    weight = model.generator.emb_g.weight
    torch.testing.assert_close(model.mix_speakers({0: 1.0, 2: 3.0})[0], 0.25 * weight[0] + 0.75 * weight[2])


def test_the_stochastic_predictor_draws_durations(given):
    torch.manual_seed(0)
    model = wake(small_model(duration_predictor="stochastic")).eval()
    calm = [model.synthesize(*given, noise=0.0, duration_noise=0.0)["durations"] for _ in range(2)]
    assert torch.equal(*calm)
    drawn = [model.synthesize(*given, noise=0.0, duration_noise=2.0)["durations"] for _ in range(4)]
    assert any(not torch.equal(drawn[0], other) for other in drawn[1:])


def test_a_bad_duration_takes_no_more_than_its_share_of_memory(given):
    model = small_model(n_speakers=1, upsample_initial_channels=4).eval()
    torch.nn.init.constant_(model.generator.dp.proj.bias, 50.0)
    made = model.synthesize(torch.ones(1, 1, dtype=torch.long), torch.tensor([1]))
    assert int(made["durations"].max()) == 1000


def test_conversion_to_the_same_voice_changes_nothing_and_to_another_does(model):
    given = batch()
    source = given["speaker_id"]
    arguments = (given["spectrogram"], given["spectrogram_length"], source)
    same = model.voice_conversion(*arguments, source, noise=0.0)
    mean, _ = model.generator.enc_q(
        given["spectrogram"],
        torch.arange(37) < given["spectrogram_length"].view(-1, 1, 1),
        model.generator.speaker(source),
    )
    expected, _ = model.generator.dec(mean.detach(), model.generator.speaker(source))
    inside = torch.arange(37 * 256) < same["waveform_length"].unsqueeze(1)
    torch.testing.assert_close(same["waveform"], expected * inside, rtol=1e-3, atol=1e-4)
    other = model.voice_conversion(*arguments, (source + 1) % 5, noise=0.0)
    assert torch.equal(other["waveform_length"], given["spectrogram_length"] * 256)
    assert float((other["waveform"] - same["waveform"]).norm()) > 1e-3 * float(same["waveform"].norm())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pitch": 1.2}, "pitch: VITS2 has no control of it"),
        ({"energy": 0.5}, "energy: VITS2 has no control of it"),
        ({"speed": 0.0}, "speed: expected a factor above 0"),
        ({"speed": float("nan")}, "speed: expected a factor above 0"),
        ({"speaker_id": None}, "speaker_id: needed, the model knows 5 speakers"),
        ({"speaker_id": torch.tensor([0, 1, 5])}, "the model knows 0 to 4, found"),
    ],
)
def test_bad_controls_are_refused(model, given, arguments, message):
    tokens, length, speaker_id = given
    with pytest.raises(ConfigError, match=message):
        model.synthesize(tokens, length, **{"speaker_id": speaker_id, **arguments})


def test_a_single_voice_has_no_speakers(given):
    model = small_model(n_speakers=1).eval()
    tokens, length, _ = given
    assert model.synthesize(tokens, length)["waveform"].shape[0] == 3
    with pytest.raises(ConfigError, match="single voice"):
        model.mix_speakers({0: 1.0})
    with pytest.raises(ConfigError, match="single voice"):
        model.voice_conversion(torch.randn(1, 80, 9), torch.tensor([9]), torch.tensor([0]), torch.tensor([0]))


@pytest.mark.parametrize("weights", [{}, {0: 1.0, 1: -1.0}])
def test_mixtures_need_weight(model, weights):
    with pytest.raises(ConfigError, match="positive sum"):
        model.mix_speakers(weights)


@pytest.mark.parametrize("flow", ["pre_conv2", "plain"])
def test_prepared_models_speak_the_same(given, flow):
    torch.manual_seed(0)
    model = wake(small_model(flow=flow, condition_decoder=True)).eval()
    before = model.synthesize(*given, noise=0.0)
    prepared = model.prepare_for_inference()
    assert prepared is model
    assert not any("parametrizations" in key for key in model.generator.state_dict())
    after = model.synthesize(*given, noise=0.0)
    assert float((after["waveform"] - before["waveform"]).norm()) <= 1e-5 * float(before["waveform"].norm())
    model.prepare_for_inference(torch.bfloat16)
    rough = model.synthesize(*given, noise=0.0)
    assert torch.equal(rough["durations"], before["durations"])
    assert rough["waveform"].dtype == torch.float32
    error = float((rough["waveform"] - before["waveform"]).norm() / before["waveform"].norm())
    assert 0 < error < 0.1


def test_a_copy_that_is_prepared_leaves_the_original_as_it_was(given):
    torch.manual_seed(0)
    model = wake(small_model()).eval()
    keys, before = set(model.state_dict()), model.synthesize(*given, noise=0.0)["waveform"]
    copied = copy.deepcopy(model).prepare_for_inference()
    assert set(model.state_dict()) == keys
    assert any(p.requires_grad for p in model.parameters())
    assert torch.equal(model.synthesize(*given, noise=0.0)["waveform"], before)
    after = copied.synthesize(*given, noise=0.0)["waveform"]
    assert float((after - before).norm()) <= 1e-5 * float(before.norm())


@pytest.mark.parametrize(
    ("alignment", "frames", "whole"),
    [("searched", 2.2, 3), ("searched", 0.4, 1), ("given", 2.2, 2), ("given", 2.7, 3), ("given", 0.4, 0)],
)
def test_given_durations_are_rounded_and_searched_ones_rounded_up(given, alignment, frames, whole):
    model = small_model(alignment=alignment).eval()
    with torch.no_grad():
        model.generator.dp.proj.weight.zero_()
        model.generator.dp.proj.bias.fill_(frames).log_()
    durations = model.synthesize(*given)["durations"]
    expected = whole * (torch.arange(11) < given[1].unsqueeze(1))
    if whole == 0:  # an utterance cannot be of no length at all
        assert durations.sum(dim=1).tolist() == [1, 1, 1]
    else:
        assert torch.equal(durations, expected)
