"""``--set``: many places at once, values kept whole, what a change takes out, paths."""

import json
import logging

import pytest

import train as train_script
from hw_base.config import read as config_files
from hw_base.config import resolve as config
from hw_base.config.overrides import Overrides
from hw_base.errors import ConfigError
from tests.conftest import ROOT

TINY = config_files.read(ROOT / "configs" / "tiny" / "ds2.json")
LIBRISPEECH = config_files.read(ROOT / "configs" / "librispeech" / "ds2.json")


def applied(*texts, tree=TINY):
    given = Overrides(texts)
    copy = config_files.parse_json(json.dumps(tree), "copy")
    given.apply(copy)
    assert not given.errors
    return copy


def refused(*texts, tree=TINY):
    with pytest.raises(ConfigError) as caught:
        config.resolve(tree, texts)
    return str(caught.value)


def test_a_star_reaches_every_dataset_of_every_split():
    changed = config.resolve(LIBRISPEECH, ["data.*.datasets.*.args.root=/corpora"])
    roots = [dataset.args["root"] for split in changed.data.values() for dataset in split.datasets]
    assert roots == ["/corpora"] * 4
    some = config.resolve(LIBRISPEECH, ["data.test*.batch_size=3"])
    assert {name: split.batch_size == 3 for name, split in some.data.items()} == {
        "train": False, "val": False, "test-clean": True, "test-other": True,
    }  # fmt: skip


def test_places_that_a_star_reaches_do_not_share_their_value():
    tree = applied("data.*.datasets=[{type: SyntheticSpeech}]", "data.val.datasets.0.args.part=val")
    assert tree["data"]["val"]["datasets"][0]["args"] == {"part": "val"}
    assert "args" not in tree["data"]["train"]["datasets"][0]


def test_a_star_that_matches_nothing_is_an_error():
    assert "--set writers.*.args.x: * matches nothing there" in refused("writers.*.args.x=1")
    assert "--set data.x*.limit: * matches nothing there" in refused("data.x*.limit=1")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a #b", "a #b"),
        ("#", "#"),
        ("C#: a", "C#: a"),
        ("'a #b'", "a #b"),
        ('{a: "x #y", b: 1e-3}', {"a": "x #y", "b": 0.001}),
        ("no", "no"),
        ("1e-3", 0.001),
        ("", None),
    ],
)
def test_a_value_is_kept_whole(text, value):
    assert applied(f"about={text}")["about"] == value


def test_what_follows_a_value_is_refused_and_not_dropped():
    assert "'# two' is left over; put the whole value in quotation marks" in refused(
        "model.args.conv_channels=[8] # two"
    )


def test_another_type_drops_the_arguments_of_the_old_one_and_says_which(caplog):
    with caplog.at_level(logging.INFO):
        changed = config.resolve(TINY, ["model.type=DeepSpeech", "model.args.stride=2"])
    assert changed.model.type == "DeepSpeech"
    assert changed.model.args["stride"] == 2
    assert changed.model.args["n_hidden"] == 2048  # DeepSpeech's own default, not what DeepSpeech2 had
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith(
        "--set model.type: DeepSpeech instead of DeepSpeech2; dropped the arguments of DeepSpeech2: "
    )
    assert "n_hidden" in line
    assert config.resolve(TINY, ["model.type=DeepSpeech2"]).model == config.resolve(TINY).model


def test_arguments_from_the_command_line_outlive_another_type():
    assert config.resolve(TINY, ["model.args.n_hidden=16", "model.type=DeepSpeech"]).model.args["n_hidden"] == 16


@pytest.mark.parametrize(("key", "other"), [("max_steps", "epochs"), ("epochs", "max_steps")])
def test_one_length_of_training_replaces_the_other(key, other, caplog):
    raw = {**TINY, "trainer": {**{k: v for k, v in TINY["trainer"].items() if k != "max_steps"}, other: 7}}
    with caplog.at_level(logging.INFO):
        changed = config.resolve(raw, [f"trainer.{key}=3"]).trainer
    assert (getattr(changed, key), getattr(changed, other)) == (3, None)
    assert [r.getMessage() for r in caplog.records] == [f"--set trainer.{key}=3: replaces trainer.{other}=7"]
    assert "one of the two" in refused("trainer.max_steps=3", "trainer.epochs=3", tree=raw)


def test_paths_are_expanded_where_a_class_declares_them(monkeypatch, tmp_path):
    monkeypatch.setenv("CORPORA", "/corpora")
    monkeypatch.setenv("HOME", "/home/me")
    changed = config.resolve(
        LIBRISPEECH, ["data.*.datasets.*.args.root=$CORPORA/x", "init_from=~/a.pth", "about=~/$CORPORA", "name=run"]
    )
    assert changed.data["train"].datasets[0].args["root"] == "/corpora/x"
    assert changed.init_from == "/home/me/a.pth"
    assert changed.about == "~/$CORPORA"
    inner = "{type: LJSpeech, args: {root: '${CORPORA}/lj', part: train}}"
    nested = applied(f"data.train.datasets.0={{type: Aligned, args: {{dataset: {inner}, alignments: ~/t}}}}")
    args = nested["data"]["train"]["datasets"][0]["args"]
    assert (args["alignments"], args["dataset"]["args"]["root"]) == ("/home/me/t", "/corpora/lj")
    (tmp_path / "c.yaml").write_text("decoders: {lm: {type: BeamSearch, args: {lm: ~/lm.arpa}}}\nname: ~x\n")
    assert config.read(tmp_path / "c.yaml") == {
        "decoders": {"lm": {"type": "BeamSearch", "args": {"lm": "/home/me/lm.arpa"}}},
        "name": "~x",
    }


def test_paths_of_a_config_that_is_no_file_are_taken_as_they_are(monkeypatch):
    """Such as a stranger's checkpoint; only what the command line adds is expanded."""
    monkeypatch.setenv("SECRET", "s3cr3t")
    raw = config.as_dict(config.resolve(LIBRISPEECH))
    raw["data"]["train"]["datasets"][0]["args"]["root"] = "$SECRET"
    raw["init_from"] = "~/a.pth"
    got = config.resolve(raw, ["data.val.datasets.0.args.root=$SECRET", "trainer.log_every=1"])
    assert got.data["train"].datasets[0].args["root"] == "$SECRET"
    assert got.data["val"].datasets[0].args["root"] == "s3cr3t"
    assert got.init_from == "~/a.pth"


def test_a_variable_that_is_not_set_and_an_unknown_user_are_named():
    assert "init_from: the variable $HW_NOT_SET in '${HW_NOT_SET}/a' is not set" in refused("init_from=${HW_NOT_SET}/a")
    assert "init_from: '~no-such-user/a' names no user" in refused("init_from=~no-such-user/a")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("." * 3000 + "=1", "3001 levels; a config has at most 32"),
        ("optimizers.model.args.betas=[0.9]", "optimizers.model.args.betas: too few values, found [0.9]"),
        ("optimizers.model.args.betas=[0.9, 5]", "AdamW refuses its arguments: Invalid beta parameter at index 1"),
        (
            "optimizers.model.scheduler={type: StepLR, args: {step_size: 0}}",
            "optimizers.model.scheduler: fails at its first step",
        ),
        ("task=[]", "task: expected the name of a task, found []"),
        ("task={}", "task: expected the name of a task, found {}"),
        ("data.train.workers=100000", 'data.train.workers: expected 0 to 512, or "auto"'),
        ("model.args.n_layers=1000000000", "model.args.n_layers: expected less than or equal to 1000"),
        ("model.args.n_hidden=1000000", "model.args.n_hidden: expected less than or equal to 65536"),
        ("name=\udcff", "a text holds a null character or half of a surrogate pair"),
    ],
    ids=lambda text: ascii(text)[:40],
)
def test_a_mistake_gives_its_line(text, expected):
    message = refused(text)
    assert expected in message
    assert len(message.splitlines()) == 1
    assert len(message) < 400


def test_one_flag_takes_several_changes(capsys):
    sets = ["--set", "trainer.max_steps=3", "data.*.batch_size=2", "--set", "seed=4"]
    assert train_script.main(["-c", str(ROOT / "configs/tiny/ds2.json"), *sets, "--print-config"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["trainer"]["max_steps"], printed["data"]["train"]["batch_size"], printed["seed"]) == (3, 2, 4)


PLATEAU = "{type: ReduceLROnPlateau, args: {patience: 0}, every: evaluation}"


def test_a_plateau_schedule_without_a_monitor_is_refused():
    message = refused(f"optimizers.model.scheduler={PLATEAU}", "trainer.monitor=null")
    assert message == 'optimizers.model.scheduler: needs trainer.monitor, for example "min val/loss"'


def test_a_plateau_schedule_that_contradicts_the_monitor_is_refused():
    sets = [f"optimizers.model.scheduler={PLATEAU}", "trainer.monitor=max val/cer"]
    assert "'min' contradicts trainer.monitor 'max val/cer'" in refused(
        *sets, "optimizers.model.scheduler.args.mode=min"
    )
    config.resolve(TINY, [*sets, "optimizers.model.scheduler.args.mode=max"])


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_plateau_schedule_follows_the_monitor(mode, tmp_path):
    import torch

    from hw_base.runs.experiment import Experiment

    sets = [f"optimizers.model.scheduler={PLATEAU}", f"trainer.monitor={mode} val/cer", "optimizers.model.args.lr=1.0"]
    trainer = Experiment(config.resolve(TINY, sets), torch.device("cpu")).trainer(None)
    update = trainer.setup.optimizations["model"]
    for value in (0.5, 0.4, 0.3):
        update.end_evaluation(value)
    assert update.lr == pytest.approx(1.0 if mode == "min" else 0.01)


def test_what_a_checkpoint_says_wrongly_is_said_to_be_in_the_checkpoint():
    raw = {**TINY, "nmae": 1, "seed": "x", "trainer": {**TINY["trainer"], "keep": 1}}
    with pytest.raises(ConfigError) as caught:
        config.resolve(raw, ["seed=y"], checkpoint="a.pth", laid_over={"trainer": raw["trainer"]})
    lines = {line.partition(":")[0]: line for line in str(caught.value).splitlines()}
    assert lines.keys() == {"nmae", "seed", "trainer.keep"}
    assert lines["nmae"] == "nmae: unknown key. Did you mean 'name'? (in the config of the checkpoint a.pth)"
    assert "checkpoint" not in lines["seed"] + lines["trainer.keep"]
