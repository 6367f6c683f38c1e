"""The pages on homework run line by line: what their commands need, made small."""

import gzip
import re
import shlex
import subprocess
from pathlib import Path

import soundfile

from demo.notebook import exit_code
from hw_base.audio import io as audio
from hw_base.synthetic.corpus import SyntheticSpeech
from tests.conftest import ROOT

# Not run: they install, or need a network or an account. What they would leave is made by the test.
ELSEWHERE = ("pip install", "git clone", "curl ", "apt-get")
SHELL = ("mkdir ", "cp ", "cat ", "tar ")
# A line that matches gets these sets before its own: models and runs of seconds. The first match counts.
SMALL_RUN = ["data.*.workers=0", "data.train.batch_size=4", "trainer.examples=1", "trainer.log_every=2"]
SMALL_RUN += ["trainer.max_steps=4", "trainer.eval_every=2", "trainer.save_every=2"]
CONFORMER = ["n_layers=2", "width=16", "n_heads=2", "ff_width=32", "kernel_size=7", "intermediate_layers=[1]"]
CONFORMER = [f"model.args.{size}" for size in CONFORMER]
PIECES = "text_encoder.args.vocab_size=40"
SETS = [
    (r"train\.py -c configs/librispeech/.*CharTextEncoder", [*SMALL_RUN, *CONFORMER]),
    (r"(train\.py|doctor) -c configs/librispeech/", [*SMALL_RUN, *CONFORMER, PIECES]),
    (r"show_augmentations -c configs/librispeech/", [PIECES]),
]


def commands(page: Path) -> list[str]:
    """The indented lines outside of fences, without their comments."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [match.rstrip() for match in re.findall(r"^    (\S.*?)(?: +# .*)?$", text, re.MULTILINE)]


def run_line(line: str, sets: list[tuple[str, list[str]]] = SETS) -> None:
    """Run one command of a page in the current folder; it must succeed."""
    print(f"$ {line}")
    if line.startswith(ELSEWHERE):
        target = re.search(r"-o (\S+)", line) or re.search(r"/([^/\s]+)$", line)
        if line.startswith("curl "):
            assert target is not None
            assert Path(target[1]).exists(), f"the stand-ins lack what this brings: {line}"
        return
    if line.startswith(SHELL):
        subprocess.run(["bash", "-ec", line], check=True)
        return
    assert line.startswith("python "), line
    more = next((found for pattern, found in sets if re.search(pattern, line)), [])
    words = shlex.split(line)
    if more:
        place = words.index("--set") if "--set" in words else len(words)
        words[place:place] = ["--set", *more]
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
