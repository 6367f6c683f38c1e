"""Configs: what is read, what is refused and in which words, what is built."""

import copy
import json
import subprocess
import sys

import pytest
import torch
from torch import nn

from hw_base import registry
from hw_base.config import read as config_files
from hw_base.config import resolve as config
from hw_base.config.schema import Component
from hw_base.errors import ConfigError
from hw_base.registry import Registry
from tests.conftest import ROOT

TINY = config_files.read(ROOT / "configs" / "tiny" / "ds2.json")


def changed(path, value):
    """The tiny config with one key set; `value` ... removes it."""
    tree = copy.deepcopy(TINY)
    *parents, last = path.split(".")
    node = tree
    for key in parents:
        node = node[int(key)] if isinstance(node, list) else node[key]
    if value is ...:
        del node[last]
    else:
        node[int(last) if isinstance(node, list) else last] = value
    return tree


BAD = [
    ("task", ..., "task: required, but missing"),
    ("task", "asrr", "task: no task is named 'asrr'. Did you mean 'asr'?"),
    ("name", "a/b", "name: String should match pattern"),
    ("new_speakers", "MeanSpeaker", "new_speakers: unknown key."),
    ("nmae", "x", "nmae: unknown key. Did you mean 'name'?"),
    ("seed", "one", "seed: expected a valid integer, found 'one'"),
    ("seed", -1, "seed: expected greater than or equal to 0, found -1"),
    ("seed", 1.5, "seed: expected a valid integer"),
    ("model.type", "DeepSpeach2", "model.type: no model is named 'DeepSpeach2'. Did you mean 'DeepSpeech2'?"),
    ("model", "deepspeech", "model.type: no model is named 'deepspeech'"),
    ("model.args.n_hiden", 8, "model.args.n_hiden: unknown key. Did you mean 'n_hidden'?"),
    ("model.args.n_hidden", "many", "model.args.n_hidden: expected a valid integer, found 'many'"),
    ("model.args.n_hidden", 0, "model.args.n_hidden: expected greater than 0, found 0"),
    ("model.args.cell", "rnn", "model.args.cell: expected 'gru' or 'lstm', found 'rnn'"),
    ("model.args.n_tokens", 29, "model.args.n_tokens: set by the program; leave it out of the config"),
    ("model.arg", {}, "model.arg: unknown key. Did you mean 'args'?"),
    ("model.args", [1], "model.args: expected an object, found [1]"),
    ("data.train.datasets", [], "data.train.datasets: List should have at least 1 item"),
    ("data.train.datasets.0.args.part", "dev", "data.train.datasets.0.args.part: expected 'train', 'val' or 'test'"),
    ("data.train.datasets.0.args.part", ..., "data.train.datasets.0.args.part: required, but missing"),
    ("data.train.datasets.0.args.n_utterances", 10**9, "data.train.datasets.0.args.n_utterances: expected less"),
    ("data.train.batch_size", 0, "data.train.batch_size: expected greater than 0, found 0"),
    ("data.train.on_bad_data", "ignore", "data.train.on_bad_data: expected 'fail' or 'skip', found 'ignore'"),
    ("augmentations.1.type", "SpecAugmnt", "augmentations.1.type: no augmentation is named 'SpecAugmnt'."),
    ("losses", {}, "losses: Dictionary should have at least 1 item"),
    ("losses.ctc", -1.0, "losses.ctc.weight: expected greater than or equal to 0, found -1.0"),
    ("losses.ctc", {"type": "CTCLoss", "warmup_steps": -1}, "losses.ctc.warmup_steps: expected greater than or equal"),
    ("losses.ctx", 1.0, "losses.ctx.type: no loss is named 'ctx'. Known: "),
    ("trainer.eval_every", 0, 'trainer.eval_every: expected a number of steps, or "1 epoch", "5 epochs", found 0'),
    ("trainer.save_every", "0 epochs", 'trainer.save_every: expected a number of steps, or "1 epoch"'),
    ("trainer.save_every", True, 'trainer.save_every: expected a number of steps, or "1 epoch"'),
    ("optimizers.model.type", "Adamw", "optimizers.model.type: no optimizer is named 'Adamw'. Did you mean 'AdamW'?"),
    ("optimizers.model.args.lr", "fast", "optimizers.model.args.lr: expected a valid number, found 'fast'"),
    ("optimizers.model.args.lrr", 0.1, "optimizers.model.args.lrr: unknown key. Did you mean 'lr'?"),
    ("optimizers.model.scheduler", "OneCycle", "optimizers.model.scheduler.type: no scheduler is named 'OneCycle'."),
    (
        "optimizers.model.scheduler",
        {"type": "OneCycleLR", "args": {"total_steps": 5}},
        "optimizers.model.scheduler.args.total_steps: set by the program",
    ),
    (
        "optimizers.modle",
        "SGD",
        "optimizers.modle: DeepSpeech2 has no parameter group of this name. Did you mean 'model'?",
    ),
    ("trainer.epochs", 3, "trainer: give the length of training as max_steps or as epochs, one of the two"),
    ("trainer.keep", 1, "trainer.keep: expected greater than or equal to 2, found 1"),
    ("trainer.amp", "fp8", "trainer.amp: expected 'auto', 'measured', 'off', 'bf16' or 'fp16', found 'fp8'"),
    ("trainer.monitor", "min val/werr", "trainer.monitor: val has no value named 'werr'. Did you mean 'wer'?"),
    ("trainer.monitor", "min vall/wer", "trainer.monitor: no evaluation split is named 'vall'. Did you mean 'val'?"),
    ("trainer.monitor", "min test/wer", "trainer.monitor: 'test' is kept for the test"),
    ("trainer.monitor", "val/wer", 'trainer.monitor: expected "min SPLIT/NAME" or "max SPLIT/NAME"'),
    ("decoders.argmax", "Gready", "decoders.argmax.type: no decoder is named 'Gready'. Did you mean 'Greedy'?"),
    ("metrics.wer.type", "WERR", "metrics.wer.type: no metric is named 'WERR'."),
    ("writers", ["Tensorboard"], "writers.0.type: no writer is named 'Tensorboard'. Did you mean 'TensorBoardWriter'?"),
]


@pytest.mark.parametrize(("path", "value", "expected"), BAD, ids=[f"{p}={v!r}"[:60] for p, v, _ in BAD])
def test_a_mistake_gives_its_line(path, value, expected):
    tree = changed(path, value) if path != "metrics.wer.type" else changed("metrics.wer", {"type": value})
    with pytest.raises(ConfigError) as caught:
        config.resolve(tree)
    lines = str(caught.value).splitlines()
    assert [line for line in lines if line.startswith(expected)], lines
    assert len(lines) == 1, lines


def test_all_mistakes_are_reported_at_once():
    tree = changed("model.args.n_hiden", 3)
    tree["trainer"]["log_evry"] = 1
    tree["optimizers"]["model"]["args"]["lr"] = "x"
    tree["augmentations"][0]["args"]["p"] = 2.0
    with pytest.raises(ConfigError) as caught:
        config.resolve(tree)
    places = {line.split(":")[0] for line in str(caught.value).splitlines()}
    assert places == {
        "trainer.log_evry",
        "model.args.n_hiden",
        "optimizers.model.args.lr",
        "augmentations.0.args.p",
    }


BAD_FILES = [
    ('{"a": 1, "a": 2}', "json", ':1:10: the key "a" appears twice'),
    ('{"a": {"b": 1,\n "b": 2}}', "json", ':2:2: the key "b" appears twice'),
    ('{"a": NaN}', "json", ":1:7: NaN is not a finite number"),
    ('{"a": -Infinity}', "json", ":1:7: -Infinity is not a finite number"),
    ('{"a": 1e999}', "json", ":1:7: 1e999 is not a finite number"),
    ("[" * 100_000, "json", ":1:33: nested deeper than 32 levels"),
    ('{"a": 1,}', "json", ":1:8: not JSON" if sys.version_info >= (3, 13) else ":1:9: not JSON"),  # 3.13: the comma
    ('{"a": "x', "json", "not JSON"),
    ("[1, 2]", "json", "a config is a mapping of sections, found list"),
    ("", "json", "not JSON"),
    ("a: 1\na: 2\n", "yaml", ':2:1: the key "a" appears twice'),
    ("a: .nan\n", "yaml", ":1:4: .nan is not a finite number"),
    ("a: 1e999\n", "yaml", ":1:4: 1e999 is not a finite number"),
    ("a: &x [1]\nb: *x\n", "yaml", ":1:4: YAML anchors and aliases are not allowed"),
    ("a: [" + "[" * 3000, "yaml", "nested deeper than 32 levels"),
    ("a: [1, 2\nb: 3\n", "yaml", "not YAML"),
    ("a: 1\n---\nb: 2\n", "yaml", "a second document"),
    ("? [1, 2]\n: 3\n", "yaml", ":1:3: a key is a plain name"),
    ("- 1\n- 2\n", "yaml", "a config is a mapping of sections, found list"),
]


@pytest.mark.parametrize(("text", "suffix", "expected"), BAD_FILES, ids=[f[0][:20] for f in BAD_FILES])
def test_a_malformed_file_is_refused_with_its_place(tmp_path, text, suffix, expected):
    path = tmp_path / f"c.{suffix}"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config_files.read(path)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_files_that_are_no_configs(tmp_path):
    for name, expected in (("none.json", "no such file"), ("x.toml", "a config is a .json, .yaml or .yml file")):
        with pytest.raises(ConfigError, match=expected):
            config_files.read(tmp_path / name)
    (tmp_path / "latin.json").write_bytes(b'{"a": "\xe9"}')
    with pytest.raises(ConfigError, match="not UTF-8"):
        config_files.read(tmp_path / "latin.json")


def test_yaml_scalars_follow_json(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "a: 1e-3\nb: no\nc: 012\nd: 1:30\ne: true\nf: null\ng: -2\nh: .5\ni: 'true'\nj: on\nk: {x: [1, 2.0]}\n"
    )
    assert config_files.read(tmp_path / "c.yaml") == {
        "a": 0.001, "b": "no", "c": "012", "d": "1:30", "e": True, "f": None, "g": -2, "h": 0.5, "i": "true", "j": "on",
        "k": {"x": [1, 2.0]},
    }  # fmt: skip


def test_json_and_yaml_give_the_same_config(tmp_path):
    import yaml

    (tmp_path / "c.yaml").write_text(yaml.safe_dump(TINY))
    assert config.load(tmp_path / "c.yaml") == config.resolve(TINY)


def test_the_resolved_config_is_complete_and_stable():
    first = config.resolve(TINY)
    plain = config.as_dict(first)
    assert plain["model"]["args"]["time_stride"] == 2
    assert plain["text_encoder"]["type"] == "CharTextEncoder"
    assert plain["trainer"]["type"] == "CTCTrainer"
    weight = {"weight": 1.0, "warmup_steps": 0}
    assert plain["losses"]["ctc"] == {"type": "CTCLoss", "args": plain["losses"]["ctc"]["args"], **weight}
    assert config.as_dict(config.resolve(json.loads(json.dumps(plain)))) == plain


def test_overrides():
    got = config.resolve(
        TINY,
        [
            "trainer.max_steps=5",
            "trainer.max_steps=6",
            "optimizers.model.args.lr=1e-4",
            "model.args.conv_channels=[8]",
            "data.train.datasets.0.args.n_utterances=3",
            "text_encoder.args.alphabet=' ab'",
            "decoders.second=Greedy",
            "optimizers.model.scheduler=null",
            "augmentations=[]",
        ],
    )
    assert got.trainer.max_steps == 6
    assert got.optimizers["model"].args["lr"] == 1e-4
    assert got.model.args["conv_channels"] == [8]
    assert got.data["train"].datasets[0].args["n_utterances"] == 3
    assert got.text_encoder.args["alphabet"] == " ab"
    assert list(got.decoders) == ["argmax", "second"]
    assert got.optimizers["model"].scheduler is None
    assert got.augmentations == []
    assert TINY["trainer"]["max_steps"] == 8


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("trainer.max_stepz=5", "trainer.max_stepz: unknown key. Did you mean 'max_steps'?"),
        ("trainer", "--set trainer: expected KEY=VALUE"),
        ("data.train.datasets.7.type=X", "--set data.train.datasets.7.type: data.train.datasets is a list of 1"),
        ("data.train.datasets.first.type=X", "use a number from 0"),
        ("seed.x=1", "--set seed.x: seed is 1, which has no keys"),
        ("trainer.max_steps=[1", "--set trainer.max_steps:1:3: not YAML"),
    ],
)
def test_bad_overrides(override, expected):
    with pytest.raises(ConfigError) as caught:
        config.resolve(TINY, [override])
    assert expected in str(caught.value)


def test_registries_are_closed_and_check_signatures():
    things = Registry("thing")

    @things.register()
    class Known:
        def __init__(self, size: int = 3) -> None:
            self.size = size

    with pytest.raises(ValueError, match="thing 'Known' is already registered"):
        things.register("Known")(Known)
    with pytest.raises(TypeError, match="must name its arguments"):

        @things.register()
        class Open:
            def __init__(self, **kwargs: int) -> None: ...

    with pytest.raises(KeyError, match="Did you mean 'Known'"):
        things["Knwon"]
    assert config.build("x", Component(type="Known", args={"size": 5}), things, unasked=1).size == 5


def test_no_config_reaches_code_by_a_path():
    for name in ("os.system", "torch.nn.Linear", "hw_asr.models.deepspeech2.DeepSpeech2"):
        with pytest.raises(ConfigError, match=r"model\.type: no model is named"):
            config.resolve(changed("model.type", name))


@pytest.mark.parametrize("name", sorted(registry.OPTIMIZERS))
def test_every_optimizer_is_configured_by_its_signature(name):
    section = Component(type=name, args={"lr": 0.1, "weight_decay": 0.0})
    optimizer = config.build("optimizers.model", section, registry.OPTIMIZERS, params=nn.Linear(2, 2).parameters())
    assert optimizer.defaults["lr"] == 0.1
    with pytest.raises(ConfigError, match=r"optimizers\.model\.args\.learning_rate: unknown key"):
        config.resolve(changed("optimizers.model", {"type": name, "args": {"learning_rate": 0.1}}))
    assert isinstance(optimizer, torch.optim.Optimizer)


def test_a_section_of_one_task_stands_in_its_configs_alone():
    synthesis = config.load(ROOT / "configs" / "tiny" / "vits2.json", ["new_speakers=NearestSpeaker"])
    assert synthesis.new_speakers.type == "NearestSpeaker"
    assert "new_speakers" in config.as_dict(synthesis)
    assert "new_speakers" not in config.as_dict(config.resolve(TINY))
    assert config.resolve({**TINY, "new_speakers": None}) == config.resolve(TINY), "as older checkpoints have it"
    assert issubclass(registry.TASKS["tts"].config_class, type(config.resolve(TINY)))


def test_the_arguments_that_the_program_gives_are_those_of_the_task():
    tree = config_files.read(ROOT / "configs" / "tiny" / "vits2.json")
    tree["model"]["args"]["n_speakers"] = 2
    with pytest.raises(ConfigError, match=r"model\.args\.n_speakers: set by the program"):
        config.resolve(tree)


def test_paths_in_a_file_are_expanded_whatever_was_imported_before(tmp_path):
    tree = {**TINY, "decoders": {"beam": {"type": "BeamSearch", "args": {"lm": "$FOLDER/lm.arpa"}}}}
    (tmp_path / "config.json").write_text(json.dumps(tree))
    code = "import sys; from hw_base.config.resolve import read; print(read(sys.argv[1])['decoders']['beam']['args'])"
    command = [sys.executable, "-c", code, str(tmp_path / "config.json")]
    done = subprocess.run(command, cwd=ROOT, env={"FOLDER": "/corpora"}, capture_output=True, text=True)
    assert done.stdout.strip() == "{'lm': '/corpora/lm.arpa'}", done.stderr
