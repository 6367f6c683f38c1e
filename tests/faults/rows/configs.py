"""Bad configs and overrides: known mistakes, and whatever a generator thinks of."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

import train as train_script
from tests.conftest import ROOT
from tests.faults.said import output_of
from tests.faults.table import row
from tests.hw_base.config import test_config, test_fuzz

# Each mistake alone, beside those that the tests of the config know.
SETS = [
    "trainer.max_steps=-1", "trainer.max_steps=1e99", "trainer.max_steps=yes", "trainer.log_every=0", "seed=-1",
    "trainer.accumulate=0", "trainer.ema_decay=1", "trainer.ema_decay=nan", "trainer.early_stop=0", "trainer=null",
    "trainer.max_bad_steps=0", "trainer.keep_best=-1", "data=null", "data.train=[]", "data.train.workers=-1",
    "data.train.batch_size=1.5", "data.train.max_batch_seconds=0", "data.train.jitter=1", "data.train.jitter=-0.1",
    "data.train.collate=Nothing", "data.train.datasets=null", "data.train.datasets.0=SyntheticSpeach",
    "data.train.datasets.0.args.n_utterances=0", "data.train.datasets.0.args.nothing=1", "features.args.n_mels=0",
    "features.args.n_mels=nan", "features=null", "features.type=3", "model=null", "model.args=null", "losses=null",
    "losses.ctc=nan", "losses.ctc=heavy", "optimizers=null", "optimizers.model=null", "metrics.wer=Wer",
    "optimizers.model.clip_norm=0", "optimizers.model.freeze=7", "optimizers.model.thaw={x: 0}", "decoder=other",
    "optimizers.model.lr_factors={x: -1}", "optimizers.model.scheduler.every=day", "decoders.argmax=null",
    "augmentations.0.args.p=2", "augmentations=SpecAugment", "writers=CometWriter", "writers=[3]", "init_from=7",
]  # fmt: skip


def refused(arguments):
    """A config that ``train.py`` must refuse with exit code 2 and plain lines."""
    code, said = output_of(lambda: train_script.main(["-d", "cpu", "--print-config", *arguments]))
    assert code == 2, f"exit code {code}"
    lines = [line for line in said.splitlines() if line]
    assert any(line.startswith("error: ") for line in lines), lines
    assert "Traceback" not in said


def fuzz(trials, test, strategies, count):
    """Let a property-based test look at so many more examples; one that fails is a miss, with its example."""
    seen = 0

    def counted(**drawn):
        nonlocal seen
        seen += 1
        test.hypothesis.inner_test(**drawn)

    with trials.trial(test.__name__):
        settings(test_fuzz.QUICK, max_examples=count)(given(**strategies)(counted))()
    trials.outcome.trials += seen - 1
    trials.outcome.survived += seen - 1  # the last example is the one that failed, if one did


@row(
    10,
    "114 bad configs and --set, and thousands of generated ones",
    "one line for each mistake with its place and exit code 2, or a checked config; never a traceback",
)
def bad_configs(trials):
    folder = trials.new_folder()
    tiny = ROOT / "configs" / "tiny" / "ds2.json"
    for override in SETS[: trials.size(12, len(SETS))]:
        with trials.trial(f"--set {override}"):
            refused(["-c", str(tiny), "--set", override])
    for path, value, _ in test_config.BAD[: trials.size(8, len(test_config.BAD))]:
        with trials.trial(f"{path}: {value!r}"):
            changed = test_config.changed(path.removesuffix(".type") if path == "metrics.wer.type" else path, value)
            (folder / "bad.json").write_text(json.dumps(changed))
            refused(["-c", str(folder / "bad.json")])
    for text, suffix, _ in test_config.BAD_FILES[: trials.size(6, len(test_config.BAD_FILES))]:
        with trials.trial(f"{suffix}: {text[:30]!r}"):
            (folder / f"bad.{suffix}").write_text(text)
            refused(["-c", str(folder / f"bad.{suffix}")])
    if not trials.whole:
        return  # the tests fuzz with fewer examples
    data = {"name": test_fuzz.names, "data": st.data()}
    fuzz(trials, test_fuzz.test_any_value_at_any_place_of_a_config, data, 1000)
    fuzz(trials, test_fuzz.test_any_override, data, 1000)
    content = st.binary(max_size=40) | st.text(max_size=40).map(str.encode)
    content |= test_fuzz.values.map(lambda value: json.dumps(value).encode())
    for suffix in ("json", "yaml"):
        files = {"tmp_path_factory": st.just(_Folder(folder)), "suffix": st.just(suffix), "content": content}
        fuzz(trials, test_fuzz.test_any_file, files, 500)


class _Folder:
    """Where the test of files writes, as its fixture has it."""

    def __init__(self, folder):
        self.getbasetemp = lambda: folder
