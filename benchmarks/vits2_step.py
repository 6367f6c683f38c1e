"""One training step of VITS2 on one CPU core: as the public program computes it, and as we do.

    python -m benchmarks.vits2_step [--repeats 5] [--sizes small mini]

The public way, with the same networks, losses and alignment search: the filter bank is designed anew twice and the
windows of the STFT losses once in every step, recordings and generated audio are judged one after the other, every
backward pass leaves gradients in all networks, the norm of the gradients is read tensor by tensor, the optimizer loops
over the parameters. The public program has anomaly detection always on; it is timed with and without. Left out, because
they cost a CPU nothing to speak of: segments cut in a Python loop, and what waits for a GPU.

Ours is `VITS2Trainer.train_step`, in float32 and, where the processor computes in it, under bfloat16 autocast.
The batch is 16 sentences of the embedded corpus. Processor time of one thread, the sides in turn, the least of several
steps.
"""

import math

import torch

from benchmarks import measuring
from benchmarks.measuring import Row
from hw_base.config.read import read
from hw_base.config.resolve import resolve
from hw_base.nn.losses import as_sum_and_count
from hw_base.runs.experiment import Experiment
from hw_tts.models.vits2.filter_bank import FilterBank

CONFIG = "configs/vits2.json"
PUBLIC = "the public way with anomaly detection, written here"
GOALS = {"fp32 : fp32": 1.5, "fp32 : bf16": 2.0}
SIZES = {
    "small": [],  # with its discriminators
    "mini": [  # the published size, without discriminators
        "model.args={preset: mini_mb_istft_vits2}",
        'losses={"mel": 45.0, "kl": 1.0, "duration": 1.0, "subband_stft": 1.0}',
    ],
}


def trainer_of(sets, amp):
    """A trainer on one batch, which is every step's."""
    few = [
        "data.train.datasets.0.args.n_utterances=16",
        "data.train.batch_size=16",
        "data.val.limit=1",
        "metrics={}",
        "trainer.monitor=null",
    ]
    config = resolve(read(CONFIG), [*few, "writers=[]", f"trainer.amp={amp}", *sets])
    return Experiment(config, torch.device("cpu")).trainer(None)


def public_stft_loss(real, fake):
    """Spectral convergence and L1 of logarithms at three resolutions, whose windows are made here."""
    values = []
    for n_fft, hop, window in ((384, 30, 150), (683, 60, 300), (171, 10, 60)):
        taper = torch.hann_window(window)
        spectra = (torch.stft(x.flatten(0, 1), n_fft, hop, window, taper, return_complex=True) for x in (real, fake))
        target, made = ((s.real.square() + s.imag.square()).clamp(min=1e-7).sqrt() for s in spectra)
        values.append((target - made).norm() / target.norm() + (made.log() - target.log()).abs().mean())
    return torch.stack(values).mean()


class PublicWay:
    """Steps as the public program takes them, with the networks and losses of a trainer of ours."""

    def __init__(self, trainer, anomaly):
        self.trainer, self.anomaly = trainer, anomaly
        self.optimizers = {
            name: torch.optim.AdamW(
                network.parameters(), lr=trainer.optimizations[name].lr, betas=(0.8, 0.99), eps=1e-9
            )
            for name, network in trainer.model.parameter_groups().items()
        }

    def step(self, batch):
        model, modules = self.trainer.model.train(), self.trainer.loss_modules
        with torch.autograd.set_detect_anomaly(self.anomaly):
            model.generator.dec.filter_bank = FilterBank()
            outputs = model.generator(**batch)
            real, fake = outputs["waveform_segment"], outputs["waveform_predicted"]
            hidden, mask = outputs["hidden"], outputs["tokens_mask"]
            target, predicted = outputs["log_durations_target"], outputs["log_durations_predicted"]
            if "adversarial" in modules:
                judged = model.duration_discriminator(hidden.detach(), mask, target.detach(), predicted.detach())
                loss = modules["adversarial_duration"].discriminator(judged, mask)
                self.update("duration_discriminator", {"adversarial_duration": loss})
                verdicts = model.discriminator(real)[0], model.discriminator(fake.detach())[0]
                self.update("discriminator", {"adversarial": modules["adversarial"].discriminator(*verdicts)})
            model.generator.dec.filter_bank = bank = FilterBank()
            losses = {
                "mel": modules["mel"](real, fake),
                "kl": modules["kl"](**outputs),
                "duration": modules["duration"](**outputs),
                "subband_stft": public_stft_loss(bank.analysis(real), outputs["subbands_predicted"]),
            }
            if "adversarial" in modules:
                (_, real_maps), (scores, maps) = model.discriminator(real), model.discriminator(fake)
                judged = model.duration_discriminator(hidden, mask, predicted)
                losses["adversarial"] = modules["adversarial"](scores)
                losses["feature_matching"] = modules["feature_matching"](real_maps, maps)
                losses["adversarial_duration"] = modules["adversarial_duration"](judged[0], mask)
            return self.update("generator", losses)

    def update(self, name, losses):
        optimizer = self.optimizers[name]
        values = {key: mean.total / mean.count for key, mean in ((k, as_sum_and_count(v)) for k, v in losses.items())}
        total = self.trainer.weights.total(values, self.trainer.step + 1)
        optimizer.zero_grad()
        total.backward()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        math.sqrt(sum(p.grad.norm(2).item() ** 2 for p in parameters if p.grad is not None))
        optimizer.step()
        return float(total.detach())


def ours(trainer, batch):
    """One step; the generator's loss."""
    trainer.train_step(dict(batch))
    trainer.guard.read()
    return trainer.window.read()["generator/loss"]


def fastest(works, repeats):
    """Processor seconds of each side, and what it gave at its first step, before which all are alike."""
    first = {}

    def noting(name):
        return lambda: first.setdefault(name, works[name]())

    return measuring.compare({name: noting(name) for name in works}, repeats), first


def main():
    parser = measuring.parser(__doc__)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for size in arguments.sizes:
        amps = ["off"] + ["bf16"] * measuring.has_bf16()
        trainers = {amp: trainer_of(SIZES[size], amp) for amp in amps}
        public = {anomaly: PublicWay(trainer_of(SIZES[size], "off"), anomaly) for anomaly in (True, False)}
        batch = next(iter(trainers["off"].loader))
        works = {
            "public way": lambda public=public, batch=batch: public[True].step(batch),
            "public way without anomaly detection": lambda public=public, batch=batch: public[False].step(batch),
        }
        for amp, trainer in trainers.items():
            works[f"ours, amp {amp}"] = lambda trainer=trainer, batch=batch: ours(trainer, batch)
        best, loss = fastest(works, arguments.repeats)
        count = sum(p.numel() for p in trainers["off"].model.generator.parameters())
        frames = tuple(batch["spectrogram"].shape)
        print(f"{size}: generator of {count / 1e6:.2f} M parameters, batch {frames}")
        for name, seconds in best.items():
            ratio = best["public way"] / seconds
            print(f"  {name}: {seconds:.3f} s a step, {ratio:.2f}x as fast, first loss {loss[name]:.4f}")
            if name.startswith("ours"):
                kind = "fp32 : bf16" if name.endswith("bf16") else "fp32 : fp32"
                note = f"{best['public way']:.2f} : {seconds:.2f} s a step"
                goal = GOALS[kind] if size == "small" else None
                rows.append(Row(f"VITS2 {size}, training step", PUBLIC, kind, ratio, goal, note))
    measuring.write(rows, "vits2_step", arguments.output)


if __name__ == "__main__":
    main()
