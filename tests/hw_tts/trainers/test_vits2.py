"""Training VITS2 by given alignments: the path is theirs, and without any it is refused."""

import pytest
import torch

import train as train_script
from hw_base.errors import ConfigError
from hw_tts.models.vits2.generator import given_path
from tests.conftest import ROOT

TINY = str(ROOT / "configs" / "tiny" / "vits2.json")


def test_given_durations_become_their_path():
    durations = torch.tensor([[2, 0, 1], [1, 1, 0]])
    mask = torch.tensor([[[True, True, True]], [[True, True, False]]])
    expected = [[[1, 0, 0], [1, 0, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 0], [0, 0, 0]]]
    assert torch.equal(given_path(durations, mask), torch.tensor(expected, dtype=torch.float32))


def test_without_durations_they_cannot_be_given():
    with pytest.raises(ConfigError, match="set it to searched"):
        given_path(None, torch.ones(1, 1, 3, dtype=torch.bool))


@pytest.mark.parametrize("blank", ["true", "false"])
def test_the_embedded_corpus_gives_its_own(tmp_path, blank):
    sets = [
        "--set",
        "model.args.alignment=given",
        "--set",
        "metrics={}",
        "--set",
        f"text_encoder.args.add_blank={blank}",
    ]
    assert train_script.main(["-c", TINY, "--run-dir", str(tmp_path / "run"), "-d", "cpu", *sets]) == 0


def test_a_loss_of_subbands_without_any_is_refused_before_the_first_step(tmp_path, capsys):
    sets = ["--set", "model.args.decoder=istft", "--set", "model.args.upsample_rates=[8, 8]", "--set", "metrics={}"]
    assert train_script.main(["-c", TINY, "--run-dir", str(tmp_path / "run"), "-d", "cpu", *sets]) == 2
    assert "losses.subband_stft: only the decoder multi_band_istft has sub-bands" in capsys.readouterr().err
