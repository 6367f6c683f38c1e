import pytest
import torch

from hw_base.errors import ConfigError, DataError
from hw_base.registry import MODELS
from hw_tts.models.fastspeech import FastSpeech
from tests.hw_tts.acoustic import (
    DURATIONS,
    closer_look,
    fastspeech,
    losses_of,
    make_batch,
    only,
    overfit,
    untouched,
    values,
)

PUBLISHED = {"norm": "post", "postnet": "cbhg", "duration_domain": "linear", "first_position": 1}
PUBLISHED |= {"predictor_norm_first": True}
SEMINAR = {"norm": "post", "positions": "learned", "duration_domain": "linear", "n_positions": 4}
VARIANTS = [{}, PUBLISHED, SEMINAR, {"n_speakers": 2, "postnet": "tacotron2"}]


def test_is_registered():
    assert MODELS["FastSpeech"] is FastSpeech


def test_size_as_published():
    """25,367,169 there: 301 and 3001 frozen rows of sinusoids and an 80 x 80 layer that is never called, less."""
    network = FastSpeech(n_mels=80, n_tokens=300, **PUBLISHED)
    assert network.n_parameters() == 25_367_169 - (301 + 3001) * 256 - 80 * 80


@pytest.mark.parametrize("changes", VARIANTS)
@torch.no_grad()
def test_an_utterance_alone_equals_itself_in_a_padded_batch(changes):
    network = fastspeech(**changes)
    network.train()
    network(**make_batch(([2, 1, 4, 3, 6], [4, 5, 2])))  # moves the running statistics
    network.eval()
    batch = make_batch(extra=6)
    together = network(**batch)
    for i, durations in enumerate(DURATIONS):
        closer_look(together, network(**only(batch, i)), i, (len(durations), sum(durations)))


@pytest.mark.parametrize("changes", VARIANTS)
@torch.no_grad()
def test_speaking_a_batch_equals_speaking_one_by_one(changes):
    network = fastspeech(**changes).eval()
    if "linear" in changes.values():
        network.duration_predictor.out.bias += 2.0
    else:
        network.duration_predictor.out.bias += 1.2
    batch = make_batch(extra=3)
    together = network.synthesize(batch["tokens"], batch["tokens_length"], batch["speaker_id"])
    assert together["durations"].sum(1).tolist() == together["spectrogram_length"].tolist()
    for i, durations in enumerate(DURATIONS):
        one = only(batch, i)
        alone = network.synthesize(one["tokens"], one["tokens_length"], one["speaker_id"])
        closer_look(together, alone, i, (len(durations), int(alone["spectrogram_length"])))


@pytest.mark.parametrize("changes", VARIANTS)
def test_training_does_not_depend_on_padding(changes):
    a, b = fastspeech(**changes), fastspeech(**changes)
    for network in (a, b):
        if network.decoder.postnet is not None:
            network.decoder.postnet.dropout = torch.nn.Identity()
    narrow, wide = (values(n, make_batch(extra=e), losses_of(n)) for n, e in ((a, 0), (b, 9)))
    for name, value in narrow.items():
        assert value.item() == pytest.approx(wide[name].item(), rel=1e-4), name


@pytest.mark.parametrize("changes", VARIANTS)
def test_gradient_reaches_every_parameter(changes):
    batch = make_batch(([3, 0, 2, 5, 1, 1, 2, 3], [1, 2, 4, 4, 2, 1]))
    network = fastspeech(**changes)
    assert untouched(network, batch, losses_of(network)) == []


@pytest.mark.parametrize("changes", [PUBLISHED, SEMINAR])
def test_one_batch_can_be_learned_by_heart(changes):
    network = fastspeech(**{**changes, "width": 16, "ff_width": 32, "predictor_width": 24})
    final = overfit(network, make_batch(), losses_of(network), goal=0.05)
    assert max(final.values()) < 0.05, final


@torch.no_grad()
def test_tokens_without_frames_leave_no_trace_in_the_frames():
    """What is decoded are the vectors of tokens that last: a lone token of no frames gives silence, and no NaN."""
    network, batch = fastspeech().eval(), make_batch(([0, 0], [2, 3]))
    out = network(**batch)
    assert not out["spectrogram_predicted"][0].any()
    assert all(value.isfinite().all() for value in out.values())


@torch.no_grad()
def test_speed():
    network, batch = fastspeech().eval(), make_batch()
    network.duration_predictor.out.bias += 4.0
    frames = [
        network.synthesize(batch["tokens"], batch["tokens_length"], speed=speed)["spectrogram_length"].sum().item()
        for speed in (0.5, 1.0, 2.0)
    ]
    assert frames[0] == pytest.approx(2 * frames[1], rel=0.01)
    assert frames[2] == pytest.approx(frames[1] / 2, rel=0.01)


@torch.no_grad()
def test_longer_than_the_table_of_positions():
    batch = make_batch(([5, 9, 3, 4, 2, 8],))
    assert fastspeech(**SEMINAR).eval()(**batch)["spectrogram_predicted"].isfinite().all()
    with pytest.raises(DataError, match="table of 4 positions"):
        fastspeech(**SEMINAR, beyond_positions="error")(**batch)


def test_controls_that_are_not_there_are_refused():
    batch = make_batch()
    for control in ({"pitch": 1.2}, {"energy": 0.8}):
        with pytest.raises(ConfigError, match="can change the speed only"):
            fastspeech().synthesize(batch["tokens"], batch["tokens_length"], **control)


def test_what_the_data_lacks_is_said():
    batch = make_batch()
    del batch["durations"]
    with pytest.raises(ConfigError, match="name alignments in the data section"):
        fastspeech()(**batch)
    with pytest.raises(ConfigError, match="2 voices; choose a speaker"):
        fastspeech(n_speakers=2).synthesize(batch["tokens"], batch["tokens_length"])
