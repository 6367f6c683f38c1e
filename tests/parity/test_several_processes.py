"""Two real processes against `DistributedDataParallel`, and where they no longer agree. One start serves all tests."""

import copy

import pytest
import torch
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from hw_asr.losses.ctc import CTCLoss
from hw_asr.models.deepspeech2 import DeepSpeech2
from hw_base import distributed
from hw_base.errors import DisagreementError
from hw_tts.losses.vits2 import spectral_convergence
from tests.hw_base import toys
from tests.hw_base.training.test_gradient_sync import in_two_processes

ADAM = {"type": "AdamW", "args": {"lr": 0.01, "weight_decay": 0.1}, "clip_norm": 1.0}
TOKENS = 9


class CTC(toys.BaseTrainer):
    loss_names = ("ctc",)

    def losses(self, batch):
        batch.update(self.networks["model"](**batch))
        yield "model", {"ctc": ctc(batch)}


def ctc(batch):
    lengths = batch["log_probs_length"], batch["tokens"], batch["tokens_length"]
    return CTCLoss()(batch["log_probs"], *lengths, batch["utterance_id"])


def recognizer():
    torch.manual_seed(1)
    return DeepSpeech2(8, TOKENS, conv_channels=[2, 2], n_layers=2, n_hidden=6, dropout=0.0)


def spectrograms(rank):
    """This process's half of five batches; the halves have other numbers of frames and tokens."""
    generator = torch.Generator().manual_seed(3)
    made = []
    for number in range(5):
        frames = torch.randint(20, 40, (6,), generator=generator)
        tokens = torch.randint(2, 6, (6,), generator=generator)
        whole = {
            "spectrogram": torch.randn(6, 8, 40, generator=generator),
            "spectrogram_length": frames,
            "tokens": torch.randint(1, TOKENS, (6, 5), generator=generator),
            "tokens_length": tokens,
        }
        half = slice(3 * rank, 3 * rank + 3)
        names = [f"{number}-{i}" for i in range(6)][half]
        made.append({**{name: value[half] for name, value in whole.items()}, "utterance_id": names})
    return made


def ours_and_theirs_ctc(rank):
    data = spectrograms(rank)
    ours, plain = recognizer(), recognizer()
    toys.make(CTC, ours, data, ADAM, {}, max_steps=5, eval_every=100, val=data[:1]).train()
    theirs = DistributedDataParallel(plain)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.01, weight_decay=0.1, fused=True)
    theirs.train()
    for batch in data:
        mean = ctc({**batch, **theirs(**batch)})
        (mean.total * 2 / distributed.sum_over_processes(mean.count)).backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return {"ours": ours.state_dict(), "theirs": plain.state_dict()}


def ours_and_theirs_gan(rank):
    half = slice(3 * rank, 3 * rank + 3)
    data = [{key: value[half] for key, value in batch.items()} for batch in toys.batches(5)]
    torch.manual_seed(2)
    ours = toys.Gan()
    plain = copy.deepcopy(ours)
    toys.make(toys.GanTrainer, ours, data, ADAM, {"mel": 45.0}, max_steps=5, eval_every=100, val=data[:1]).train()
    nets = {name: DistributedDataParallel(network) for name, network in plain.parameter_groups().items()}
    optimizers = {
        n: torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.1, fused=True) for n, net in nets.items()
    }

    def step(name, loss):
        loss.backward()
        torch.nn.utils.clip_grad_norm_(nets[name].parameters(), 1.0)
        optimizers[name].step()
        optimizers[name].zero_grad()

    for batch in data:
        fake = nets["generator"](batch["x"])
        length, real_length = fake.sum(-1, keepdim=True), batch["target"].sum(-1, keepdim=True)
        for name, real, made in (
            ("duration_discriminator", real_length, length),
            ("discriminator", batch["target"], fake),
        ):
            step(name, (1 - nets[name](real)).square().mean() + nets[name](made.detach()).square().mean())
        # A discriminator's gradients are neither computed nor expected in the generator's pass.
        judges = [nets[name].module.requires_grad_(False) for name in ("discriminator", "duration_discriminator")]
        adversarial = (1 - judges[0](fake)).square().mean() + (1 - judges[1](length)).square().mean()
        step("generator", 45.0 * F.l1_loss(fake, batch["target"]) + adversarial)
        for network in judges:
            network.requires_grad_(True)
    return {"ours": ours.state_dict(), "theirs": plain.state_dict()}


def magnitudes():
    generator = torch.Generator().manual_seed(4)
    return torch.rand(6, 20, generator=generator), torch.rand(6, 20, generator=generator)


def convergence(rank):
    """Of this process's half; its gradient is averaged over processes as every one is."""
    half = slice(3 * rank, 3 * rank + 3)
    target, made = (x[half] for x in magnitudes())
    made.requires_grad_(True)
    value = spectral_convergence(target, made)
    value.backward()
    return {"value": value.detach(), "gradient": made.grad / 2}


def refused(work):
    try:
        work()
    except DisagreementError as error:
        return str(error)
    return ""


class WithStatistics(toys.Regressor):
    """With running statistics that each process keeps for itself."""

    def __init__(self):
        super().__init__()
        self.net.insert(0, torch.nn.BatchNorm1d(5))


def disagreements(rank):
    """What is said where the processes do not do the same."""

    def run(model, change=None, at=2, **options):
        data = [{key: value[3 * rank : 3 * rank + 3] for key, value in b.items()} for b in toys.batches(4)]
        options = {"max_steps": 4, "eval_every": 4, "val": data[:1], **options}
        made = toys.make(toys.RegressorTrainer, model, data, ADAM, {"mse": 1.0}, **options)
        train_step = made.train_step

        def changed(batch):
            if change is not None and made.step + 1 == at:
                change(made)
            train_step(batch)

        made.train_step = changed
        made.train()

    def freeze(made):
        if rank == 1:
            made.model.net[0].bias.requires_grad_(False)

    def freeze_everywhere(made):
        made.model.net[0].bias.requires_grad_(False)

    def drift(made):
        with torch.no_grad():
            made.model.net[3].weight[0, 0] += 1e-6 * rank

    def wider():
        model = toys.Regressor()
        if rank == 1:
            model.net[3] = torch.nn.Linear(16, 3, bias=False)
        return model

    return {
        "nothing": refused(lambda: run(toys.Regressor())),
        "all freeze": refused(lambda: run(toys.Regressor(), freeze_everywhere)),
        "one freezes": refused(lambda: run(toys.Regressor(), freeze)),
        "one drifts": refused(lambda: run(toys.Regressor(), drift)),
        "statistics": refused(lambda: run(WithStatistics())),
        "another model": refused(lambda: run(wider())),
    }


def everything(rank):
    torch.set_num_threads(1)
    found = {"ctc": ours_and_theirs_ctc(rank), "gan": ours_and_theirs_gan(rank)}
    return {**found, "convergence": convergence(rank), "said": disagreements(rank)}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return in_two_processes(everything, tmp_path_factory.mktemp("processes"))


@pytest.mark.parametrize("task", ["ctc", "gan"])
def test_weights_equal_those_of_distributed_data_parallel_to_the_bit(both, task):
    for one in both:
        ours, theirs = one[task]["ours"], one[task]["theirs"]
        different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
        assert different == []
    untrained = (recognizer() if task == "ctc" else toys.Gan()).state_dict()
    assert all(torch.equal(both[0][task]["ours"][name], both[1][task]["ours"][name]) for name in untrained)


def test_a_ratio_of_norms_and_its_gradient_are_those_of_one_process(both):
    target, made = magnitudes()
    made.requires_grad_(True)
    value = spectral_convergence(target, made)
    value.backward()
    for one in both:
        torch.testing.assert_close(one["convergence"]["value"], value.detach(), rtol=1e-6, atol=0)
    halves = torch.cat([one["convergence"]["gradient"] for one in both])
    torch.testing.assert_close(halves, made.grad, rtol=1e-5, atol=1e-8)


def test_where_all_processes_do_the_same_nothing_is_said(both):
    for one in both:
        assert one["said"]["nothing"] == one["said"]["all freeze"] == ""


def test_a_parameter_that_one_process_freezes_is_named_and_nobody_waits(both):
    for one in both:
        assert one["said"]["one freezes"].startswith(
            "optimizer 'model': the processes train different parameters: net.0.bias in process 0, not in 1. "
        )


def test_a_weight_that_drifts_is_named_at_the_next_evaluation(both):
    for one in both:
        assert one["said"]["one drifts"].startswith(
            "the processes have drifted apart: net.3.weight differ between them"
        )


def test_statistics_that_each_process_keeps_alone_are_named(both):
    for one in both:
        assert "drifted apart: net.0.running_mean and 1 more of 9 tensors" in one["said"]["statistics"]
        assert "MaskedBatchNorm" in one["said"]["statistics"]


def test_models_that_differ_are_named_before_anything_is_exchanged(both):
    for one in both:
        assert "the models differ: net.3.bias (3,) trained in process 0, not in 1" in one["said"]["another model"]
