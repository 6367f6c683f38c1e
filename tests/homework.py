"""The pages on homework run line by line: what their commands need, made small."""

import gzip
import json
import re
import shlex
import subprocess
import tarfile
import zipfile
from pathlib import Path
from textwrap import indent

import numpy as np
import soundfile
import torch

from demo.notebook import exit_code
from hw_base.audio import io as audio
from hw_base.synthetic.corpus import SyntheticSpeech
from tests.conftest import ROOT

# Not run: they install, or need a network or an account. What they would leave is made by the test.
ELSEWHERE = ("pip install", "git clone", "curl ", "apt-get", "wandb ", "python -m hw_base.fetch ")
SHELL = ("mkdir ", "cp ", "cat ", "tar ")
# A line that matches gets these sets besides its own: models and runs of seconds. The first match counts.
SMALL_RUN = ["data.*.workers=0", "data.train.batch_size=4", "trainer.examples=1", "trainer.log_every=2"]
SMALL_RUN += ["trainer.max_steps=4", "trainer.eval_every=2", "trainer.save_every=2"]
CONFORMER = ["n_layers=2", "width=16", "n_heads=2", "ff_width=32", "kernel_size=7", "intermediate_layers=[1]"]
CONFORMER = [f"model.args.{size}" for size in CONFORMER]
PIECES = "text_encoder.args.vocab_size=40"
VITS2 = ["inter_channels=16", "hidden_channels=16", "filter_channels=32", "speaker_channels=8", "n_layers=4"]
VITS2 += ["upsample_initial_channels=32", "segment_frames=8", "discriminator_channels=16"]
VITS2 = [f"model.args.{size}" for size in VITS2]
VITS2 += ["data.*.workers=0", "data.train.batch_size=4", "trainer.max_steps=2", "trainer.eval_every=2"]
VITS2 += ["trainer.save_every=2", "trainer.examples=1", "metrics={mcd: MCD}"]
ONE_STEP = [*VITS2, "trainer.max_steps=1", "trainer.eval_first=false", "trainer.preflight=false", "writers=[]"]
ONE_STEP += ["data.val.limit=1"]
ACOUSTIC = ["data.*.workers=0", "data.train.batch_size=4", "trainer.max_steps=2", "trainer.eval_every=2"]
ACOUSTIC += ["trainer.save_every=2", "trainer.examples=1"]
FAST = ["width=16", "ff_width=16", "predictor_width=16", "n_encoder_layers=1", "n_decoder_layers=1"]
FAST = [f"model.args.{size}" for size in FAST]
HIFIGAN = [*ACOUSTIC, "model.args.channels=32", "model.args.discriminator_width=32"]
SETS = [
    (r"configs/ljspeech/hifigan", HIFIGAN),
    (r"fastspeech2\.json --one-batch", [*FAST, "data.*.workers=0", "data.train.batch_size=2"]),
    (r"(train\.py|doctor) -c configs/ljspeech/", [*ACOUSTIC, *FAST]),
    (r"vits2_homework.*EstimatedSpeakers", [*VITS2, "new_speakers.args.steps=2"]),
    (r"(train\.py|doctor) -c configs/vctk/vits2_homework", VITS2),
    (r"train\.py -c configs/librispeech/.*CharTextEncoder", [*SMALL_RUN, *CONFORMER]),
    (r"(train\.py|doctor) -c configs/librispeech/", [*SMALL_RUN, *CONFORMER, PIECES]),
    (r"show_augmentations -c configs/librispeech/", [PIECES]),
]


def commands(page: Path) -> list[str]:
    """The indented lines outside of fences, and those of fences of the shell, without their comments."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"```sh\n(.*?)```", lambda fence: indent(fence[1], "    "), text, flags=re.DOTALL)
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return [match.rstrip() for match in re.findall(r"^    (\S.*?)(?: +# .*)?$", text, re.MULTILINE)]


def run_line(line: str, sets: list[tuple[str, list[str]]] = SETS) -> None:
    """Run one command of a page in the current folder; it must succeed."""
    print(f"$ {line}")
    if line.startswith(ELSEWHERE):
        target = re.search(r" -o (\S+)| (\S+)$", line)
        if line.startswith(("curl ", "git clone", "python -m hw_base.fetch")):
            assert target is not None
            assert Path(target[1] or target[2]).exists(), f"the stand-ins lack what this brings: {line}"
        return
    if line.startswith(SHELL):
        subprocess.run(["bash", "-ec", line], check=True)
        return
    assert line.startswith("python "), line
    more = next((found for pattern, found in sets if re.search(pattern, line)), [])
    words = shlex.split(line)
    words += ["--set", *more] if more else []
    assert exit_code(shlex.join(words)) == 0, shlex.join(words)


def librispeech(root: Path, **sizes: int) -> None:
    """A small LibriSpeech in its official folders, spoken by the embedded corpus in three voices."""
    parts = {"train": "train-clean-100", "dev": "dev-clean", "clean": "test-clean", "other": "test-other"}
    for number, (name, size) in enumerate(sizes.items()):
        part = "train" if name == "train" else "val"
        records = SyntheticSpeech(part, n_utterances=size, voices=["en-us", "en-us+f3", "en"], seed=number).records
        for index, record in enumerate(records):
            speaker = str(100 * (number + 1) + index % 3)
            chapter = root / parts[name] / speaker / "7"
            chapter.mkdir(parents=True, exist_ok=True)
            utterance = f"{speaker}-7-{index:04d}"
            waveform, rate = audio.load(record.audio_path, 16000)
            soundfile.write(chapter / f"{utterance}.flac", waveform.squeeze(0).numpy(), rate)
            with open(chapter / f"{speaker}-7.trans.txt", "a", encoding="utf-8") as file:
                file.write(f"{utterance} {record.text.upper()}\n")


def upper_case_arpa(path: Path, texts: list[str]) -> None:
    """A gzipped language model of words in upper case, as LibriSpeech's are."""
    from hw_asr import train_lm

    text, arpa = path.with_name("lm.txt"), path.with_name("lm.arpa")
    text.write_text("".join(f"{line.upper()}\n" for line in texts), encoding="utf-8")
    assert train_lm.main(["--text", str(text), "--order", "2", "-o", str(arpa)]) == 0
    path.write_bytes(gzip.compress(arpa.read_bytes()))
    text.unlink()
    arpa.unlink()


def repository(folder: Path) -> None:
    """What a clone has beside its packages: the configs."""
    (folder / "configs").symlink_to(ROOT / "configs")


def ljspeech(root: Path, texts: Path) -> None:
    """The archive of LJSpeech with twelve sentences, the course's durations for them, and texts of a grader."""
    from hw_tts.text.characters import CharacterFrontEnd

    front_end = CharacterFrontEnd()
    records = SyntheticSpeech("val", 12, voices=["en-us"], sample_rate=22050).records
    folder = root / "LJSpeech-1.1"
    (folder / "wavs").mkdir(parents=True)
    rows = []
    with zipfile.ZipFile(root / "alignments.zip", "w") as durations:
        for place, record in enumerate(records):
            name, text = f"LJ001-{5 * (place + 1):04}", record.text or ""
            rows.append(f"{name}|{text}|{text}\n")
            (folder / "wavs" / f"{name}.wav").write_bytes(Path(record.audio_path).read_bytes())
            n_frames, n_symbols = soundfile.info(record.audio_path).frames // 256 + 1, len(front_end.symbols(text))
            cuts = np.linspace(0, n_frames, n_symbols + 1).astype(np.int32)
            with durations.open(f"alignments/{place}.npy", "w") as file:
                np.save(file, np.diff(cuts))
    (folder / "metadata.csv").write_text("".join(rows), encoding="utf-8")
    with tarfile.open(root / "LJSpeech-1.1.tar.bz2", "w:bz2") as archive:
        archive.add(folder, "LJSpeech-1.1")
    (root / "alignments.zip").rename(folder / "alignments.zip")
    texts.mkdir()
    (texts / "first.txt").write_text("Ten keys.\n", encoding="utf-8")


OLD, NEW = {"0": "p225", "1": "p226", "3": "p228"}, {"103": "p329", "104": "p294"}
LISTS = "filelists/mipht"


def public_vits2(root: Path) -> None:
    """The repository of the homework on VITS2, with what its two archives unpack to: a small model, few recordings."""
    from hw_tts.models.vits2 import model as vits2
    from hw_tts.public.vits2_weights import public_name

    torch.manual_seed(0)
    sizes = dict(size.removeprefix("model.args.").split("=") for size in VITS2 if size.startswith("model.args."))
    numbers = {name: int(value) for name, value in sizes.items()}
    model = vits2.VITS2(n_mels=80, n_tokens=205, n_speakers=5, hop_length=256, bank="public", **numbers)
    logs = root / "data" / "checkpoints" / "train_logs"
    logs.mkdir(parents=True)
    networks = model.parameter_groups()
    names = {"generator": "G", "discriminator": "D", "duration_discriminator": "DUR"}
    for name, network in networks.items():
        weights = {public_name(key): value for key, value in network.state_dict().items()}
        state = {"model": weights, "iteration": 244, "optimizer": None, "learning_rate": 2e-4}
        torch.save(state, logs / f"{names[name]}_312000.pth")
    (root / "configs").mkdir()
    (root / "configs" / "mb_istft_vits2_finetune.json").write_text(json.dumps(PUBLIC_CONFIG))
    parts = {"finetune/vctk_audio_sid_text_train": NEW, "finetune/vctk_audio_sid_val_test": NEW}
    parts |= {"finetune/vctk_audio_sid_text_test": NEW, "train/vctk_audio_sid_text_train": OLD}
    for number, (part, speakers) in enumerate(parts.items()):
        _list(root, f"{LISTS}/{part}_filelist.txt.cleaned", speakers, number)


def _list(root: Path, name: str, speakers: dict[str, str], number: int) -> None:
    """Two recordings of each speaker, in their place, and the list of them in phonetic writing."""
    from hw_tts.text.ipa import IPAFrontEnd

    front_end, lines = IPAFrontEnd(table="mb_istft_vits2"), []
    voices = ["en-us", "en-us+f3"]
    records = SyntheticSpeech("val", 2 * len(speakers), voices=voices, sample_rate=22050, seed=number).records
    for place, record in enumerate(records):
        key, speaker = list(speakers.items())[place % len(speakers)]
        path = f"DUMMY2/{speaker}/{speaker}_{10 * number + place:03}.wav"
        (root / "data" / "audio" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "data" / "audio" / path).write_bytes(Path(record.audio_path).read_bytes())
        lines.append(f"{path}|{key}|{''.join(front_end.symbols(record.text or ''))}\n")
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("".join(lines), encoding="utf-8")


# As published, but for the sizes of the model.
PUBLIC_CONFIG = {
    "train": {
        "log_interval": 1,
        "seed": 1234,
        "epochs": 500,
        "learning_rate": 2e-4,
        "betas": [0.8, 0.99],
        "eps": 1e-9,
        "batch_size": 32,
        "fp16_run": False,
        "lr_decay": 0.999875,
        "segment_size": 2048,
        "warmup_epochs": 0,
        "c_mel": 45,
        "c_kl": 1.0,
        "fft_sizes": [384, 683, 171],
        "hop_sizes": [30, 60, 10],
        "win_lengths": [150, 300, 60],
        "window": "hann_window",
    },
    "data": {
        "use_mel_posterior_encoder": True,
        "training_files": f"/app/{LISTS}/finetune/vctk_audio_sid_text_train_filelist.txt.cleaned",
        "validation_files": f"/app/{LISTS}/finetune/vctk_audio_sid_text_val_filelist.txt.cleaned",
        "test_files": f"/app/{LISTS}/finetune/vctk_audio_sid_text_test_filelist.txt.cleaned",
        "text_cleaners": ["english_cleaners3"],
        "data_folder_prefix": "/app/data",
        "sampling_rate": 22050,
        "filter_length": 1024,
        "hop_length": 256,
        "win_length": 1024,
        "n_mel_channels": 80,
        "mel_fmin": 0.0,
        "mel_fmax": None,
        "add_blank": True,
        "n_speakers": 108,
        "cleaned_text": True,
    },
    "model": {
        "use_mel_posterior_encoder": True,
        "use_transformer_flows": True,
        "transformer_flow_type": "pre_conv2",
        "use_spk_conditioned_encoder": True,
        "use_noise_scaled_mas": True,
        "use_duration_discriminator": True,
        "duration_discriminator_type": "dur_disc_2",
        "ms_istft_vits": False,
        "mb_istft_vits": True,
        "istft_vits": False,
        "subbands": 4,
        "gen_istft_n_fft": 16,
        "gen_istft_hop_size": 4,
        "inter_channels": 16,
        "hidden_channels": 16,
        "gin_channels": 8,
        "filter_channels": 32,
        "n_heads": 2,
        "n_layers": 4,
        "kernel_size": 3,
        "p_dropout": 0.1,
        "resblock": "1",
        "resblock_kernel_sizes": [3, 7, 11],
        "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
        "upsample_rates": [4, 4],
        "upsample_initial_channel": 32,
        "upsample_kernel_sizes": [16, 16],
        "n_layers_q": 3,
        "use_spectral_norm": False,
        "use_sdp": False,
    },
    "wandb": {"project": "mb-istft-vits2-vctk", "resume": False, "id": None},
}
