"""What the notebooks share: installing what is missing, and running programs as their command lines say."""

import configparser
import importlib
import importlib.metadata
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

# Of `setup.cfg`; the others are for trackers, courses and pages of their own.
EXTRAS = ("corpus", "text", "decoding", "synthesis", "report")
# Need a compiler or an older Python, and the notebooks do without.
LEFT_OUT = ("kenlm", "flashlight-text")
# A build of the same release is kept, whatever its CUDA: they are large, and a machine's own fits its GPU.
HEAVY = ("torch", "torchaudio")


def requirements(root: Path) -> list[str]:
    """What the notebooks need, as `setup.cfg` in the project's folder bounds it."""
    settings = configparser.ConfigParser()
    settings.read(root / "setup.cfg", encoding="utf-8")
    extras = settings["options.extras_require"]
    texts = [settings["options"]["install_requires"], *(extras[name] for name in EXTRAS)]
    return [line for text in texts for line in text.splitlines() if line and not line.startswith(LEFT_OUT)]


def installed(package: str) -> str | None:
    """The version of a package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def missing(lines: list[str]) -> list[str]:
    """Those requirements that the installed packages do not meet."""
    from packaging.requirements import Requirement
    from packaging.version import Version

    wanted = []
    for line in lines:
        requirement = Requirement(line)
        version = installed(requirement.name)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        if version is not None and requirement.name in HEAVY:
            (pinned,) = requirement.specifier
            if Version(version).release[:2] == Version(pinned.version).release[:2]:
                continue
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            wanted.append(line)
    return wanted


def install(root: Path) -> None:
    """Install what is missing; nothing is touched where everything is there."""
    wanted = missing(requirements(root))
    if wanted:
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *wanted], check=True)
    print(f"torch {installed('torch')}; newly installed: {', '.join(wanted) or 'nothing'}")


def run(line: str) -> None:
    """Run ``python train.py ...`` or ``python -m PROGRAM ...`` in this process, which saves importing torch again.

    Args:
        line: as it would stand on a command line.

    Raises:
        RuntimeError: the program ended with another exit code than 0; what it printed says why.
    """
    print(f"$ {line}")
    code = exit_code(line)
    if code:
        raise RuntimeError(f"exit code {code}: {line}")


def exit_code(line: str) -> int:
    """The exit code of a program that is run in this process."""
    _, *words = shlex.split(line)
    if words[0] == "-m":
        name, arguments = words[1], words[2:]
        module = importlib.import_module(name)
        module = module if hasattr(module, "main") else importlib.import_module(f"{name}.__main__")
    else:
        module, arguments = importlib.import_module(words[0].removesuffix(".py")), words[1:]
    try:
        return int(module.main(arguments) or 0)
    except SystemExit as end:  # of argparse
        return int(end.code or 0)


def sample(path: Path, n_utterances: int = 60) -> Path:
    """An archive in the layout of a homework's data set: ``audio/<id>.flac`` and ``transcriptions/<id>.txt``.

    One voice of the embedded corpus speaks sentences of its wide grammar, most words of which the everyday one lacks.
    """
    import soundfile

    from hw_base.audio import io as audio
    from hw_base.synthetic.corpus import SyntheticSpeech

    folder = path.with_suffix("")
    records = SyntheticSpeech("test", n_utterances=n_utterances, voices=["en-us+f2"], grammar="wide").records
    for name in ("audio", "transcriptions"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, record in enumerate(records):
        waveform, rate = audio.load(record.audio_path, 16000)
        soundfile.write(folder / "audio" / f"{number:03}.flac", waveform.squeeze(0).numpy(), rate)
        (folder / "transcriptions" / f"{number:03}.txt").write_text(f"{record.text}\n", encoding="utf-8")
    made = shutil.make_archive(str(folder), "zip", folder)
    shutil.rmtree(folder)
    return Path(made)


def _speech(part: str, n_utterances: int) -> dict[str, Any]:
    """Sentences of one part, all in one voice at nearly one speed: easy enough to be learned in a minute."""
    args = {"part": part, "n_utterances": n_utterances, "voices": ["en-us"], "rate": [160, 180], "pitch": [50, 50]}
    return {"datasets": [{"type": "SyntheticSpeech", "args": args}], "batch_size": 8}


_SIZE = {"conv_channels": [8, 8], "kernel_sizes": [[11, 5], [11, 5]], "n_layers": 2, "n_hidden": 96, "dropout": 0.0}
_SMALL = {
    "task": "asr",
    "name": "demo",
    "seed": 1,
    "data": {"train": _speech("train", 400), "val": _speech("val", 60), "test": _speech("test", 100)},
    "features": {"type": "LogMelSpectrogram", "args": {"n_mels": 40}},
    "model": {"type": "DeepSpeech2", "args": _SIZE},
    "losses": {"ctc": 1.0},
    "optimizers": {"model": {"type": "AdamW", "args": {"lr": 0.003}, "scheduler": "OneCycleLR", "clip_norm": 5.0}},
    "trainer": {"epochs": 9, "monitor": "min val/wer", "amp": "off"},
}


def newest(root: Path, *names: str) -> Path | None:
    """The best checkpoint of the newest run of one of these experiments below ``saved/``."""
    from hw_base import checkpoint
    from hw_base.runs import folder

    runs = [folder.newest_run(name, str(root / "saved")) for name in names]
    found = [run / checkpoint.BEST for run in runs if run is not None and (run / checkpoint.BEST).exists()]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def recognizer(root: Path, work: Path) -> str:
    """A checkpoint: of $HW_CHECKPOINT, else the newest of ``configs/ds2.json``, else a small new one.

    The small one knows one synthetic voice, and is trained in about a minute.
    """
    found = os.environ.get("HW_CHECKPOINT") or newest(root, "ds2")
    if found:
        return str(found)
    (work / "small.json").write_text(json.dumps(_SMALL))
    run(f"python train.py -c {work}/small.json -d cpu --run-dir {work}/small")
    return f"{work}/small/model_best.pth"


def synthesizer(root: Path, work: Path) -> str:
    """A checkpoint that speaks: of $HW_TTS_CHECKPOINT, else the newest of ``configs/fastspeech2.json``, else a new one.

    The new one takes a third of the recipe's training: a few minutes.
    """
    found = os.environ.get("HW_TTS_CHECKPOINT") or newest(root, "fastspeech2")
    if found:
        return str(found)
    config = shlex.quote(f"{root}/configs/fastspeech2.json")
    run(f"python train.py -c {config} --set trainer.max_steps=200 --run-dir {work}/fastspeech2")
    return f"{work}/fastspeech2/model_best.pth"


def player(waveform: Any, rate: int) -> Any:
    """A player for a waveform (S,), stored in the notebook as MP3."""
    import base64
    import io

    import numpy as np
    import soundfile
    from IPython.display import HTML

    file = io.BytesIO()
    samples = np.asarray(waveform, dtype=np.float32).clip(-1, 1)
    soundfile.write(file, samples, rate, format="MP3", compression_level=0.8)
    sound = base64.b64encode(file.getvalue()).decode()
    return HTML(f'<audio controls src="data:audio/mpeg;base64,{sound}"></audio>')


def picture(figure: Any) -> Any:
    """A figure of matplotlib as a small PNG."""
    import io

    from IPython.display import Image

    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=64)
    return Image(file.getvalue())


def shown(path: Path, width: int = 900) -> Any:
    """A picture of a file, small enough to be stored in the notebook."""
    import io

    from IPython.display import Image
    from PIL import Image as Pictures

    with Pictures.open(path) as found:
        small = found.convert("RGB").resize((width, round(width * found.height / found.width)))
    file = io.BytesIO()
    small.quantize(32).save(file, format="PNG", optimize=True)
    return Image(file.getvalue())
