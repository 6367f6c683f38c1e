"""Gradients of two real processes against those of one."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from hw_base import distributed
from hw_base.training.gradient_sync import GradientSync
from tests.hw_base import toys


def in_two_processes(work, folder, *arguments):
    """What `work` returns in each of two processes that form a group."""
    torch.multiprocessing.spawn(_process, (work, str(folder), arguments), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def _process(rank, work, folder, arguments):
    join(rank, folder)
    result = work(rank, *arguments)
    distributed.stop()
    torch.save(result, f"{folder}/{rank}.pt")


def join(rank, folder):
    torch.set_num_threads(1)
    distributed.init_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)


class Network(nn.Module):
    """Parameters of two types; one that nobody uses, one that only some utterances use, one that is frozen."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Linear(3, 5)
        self.frozen = nn.Parameter(torch.randn(5), requires_grad=False)
        self.second = nn.Linear(5, 4).double()
        self.unused = nn.Linear(2, 2)
        self.sometimes = nn.Parameter(torch.randn(4).double())
        self.register_buffer("offset", torch.randn(5, 2)[:, 0])

    def forward(self, x, use):
        y = self.second((self.first(x) * self.frozen + self.offset).tanh().double())
        return y * self.sometimes if use else y


def network_gradients(network, parts, averager=None):
    """Of a loss that two batches add up to, of which only the second asks for averages."""
    first, second = (network(x, use).square().mean() for x, use in parts)
    first.backward()
    if averager is None:
        second.backward()
    else:
        with averager.averaging():
            second.backward()
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def halves():
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(2, 8, 3, generator=generator)
    # The first process alone uses `sometimes`, and in the second batch only.
    return [[(x[0, :4], False), (x[1, :4], True)], [(x[0, 4:], False), (x[1, 4:], False)]]


def averaged(rank, bucket_bytes):
    network = Network(seed=rank)
    distributed.broadcast_model(network)
    trained = [p for p in network.parameters() if p.requires_grad]
    return network_gradients(network, halves()[rank], GradientSync(trained, bucket_bytes))


@pytest.mark.parametrize("bucket_bytes", [1, 50, 2**20])
def test_the_average_is_the_same_in_both_processes_and_equals_one(tmp_path, bucket_bytes):
    both = in_two_processes(averaged, tmp_path, bucket_bytes)
    alone = Network(seed=0)
    for part in halves():
        expected = network_gradients(alone, part)
    assert expected.keys() == both[0].keys() == both[1].keys()
    assert "sometimes" in expected
    assert "unused.weight" not in expected
    for name, gradient in expected.items():
        assert torch.equal(both[0][name], both[1][name])
        torch.testing.assert_close(both[0][name], gradient / 2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("parameters", [1, 2, 5])
def test_buckets_hold_every_parameter_once(parameters):
    layers = [nn.Parameter(torch.zeros(10)) for _ in range(parameters)]
    buckets = GradientSync(layers, bucket_bytes=80).buckets
    assert [p for bucket in buckets for p in bucket.parameters] == layers[::-1]
    assert [len(bucket.parameters) for bucket in buckets] == [2] * (parameters // 2) + [1] * (parameters % 2)


ADAM = {"type": "AdamW", "args": {"lr": 0.02, "eps": 1e-3}, "clip_norm": 1.0}
ONE_THAWS = {**ADAM, "freeze": ["0.*"], "thaw": {"0.*": 1}}
GAN = {"mel": 45.0, "adv": 1.0, "duration_adv": 1.0}


class ThawingGan(toys.Gan):
    """Every network has a layer named 0."""

    def __init__(self):
        super().__init__()
        self.duration_discriminator = nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 1))


def gan_weights(rank, optimizer, accumulate, amp_dtype=None):
    """After two epochs over this process's half of each batch, or over all of them."""
    torch.manual_seed(0 if rank is None else rank)  # what the main process begins with counts
    model = ThawingGan()
    data = toys.batches(4)
    if rank is not None:
        half = slice(3 * rank, 3 * rank + 3)
        data = [{key: value[half] for key, value in batch.items()} for batch in data]
    made = toys.make(
        toys.GanTrainer, model, data, optimizer, GAN, amp_dtype=amp_dtype, epochs=2, accumulate=accumulate, val=data[:1]
    )
    made.train()
    return model.state_dict()


@pytest.mark.parametrize(("optimizer", "accumulate"), [(ADAM, 1), (ADAM, 2), (ONE_THAWS, 1)])
def test_adversarial_training_in_two_processes_equals_one(tmp_path, optimizer, accumulate):
    both = in_two_processes(gan_weights, tmp_path, optimizer, accumulate)
    alone = gan_weights(None, optimizer, accumulate)
    for name, weight in alone.items():
        assert torch.equal(both[0][name], both[1][name])
        torch.testing.assert_close(both[0][name], weight, rtol=1e-4, atol=1e-5)


def test_both_processes_scale_float16_alike(tmp_path):
    both = in_two_processes(gan_weights, tmp_path, ADAM, 1, torch.float16)
    for name, weight in both[0].items():
        assert torch.equal(weight, both[1][name])
        assert torch.isfinite(weight).all()


def threads_of_the_group():
    names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    return sum(name.startswith("pt_gloo") for name in names)


def train_and_leave(rank, folder):
    join(rank, folder)
    trainer = toys.make(toys.RegressorTrainer, toys.Regressor(), toys.batches(2), ADAM, {"mse": 1.0}, epochs=1)
    trainer.train()
    before = threads_of_the_group()
    distributed.stop()
    torch.save([before, threads_of_the_group()], f"{folder}/{rank}.pt")


@pytest.mark.skipif(sys.platform != "linux", reason="threads are listed under /proc")
def test_no_thread_of_the_group_outlives_it(tmp_path):
    """One that does may abort the program when it ends: it drops tensors when Python is gone already."""
    torch.multiprocessing.spawn(train_and_leave, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        before, after = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert before > 0
        assert after == 0
