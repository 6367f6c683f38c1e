"""New voices: what their rows begin with, that old ones keep theirs, and moments that follow by name."""

import json

import pytest
import torch

import train as train_script
from hw_base import checkpoint
from hw_base.config.resolve import resolve
from hw_base.errors import CheckpointError, ConfigError
from hw_base.runs.experiment import Experiment
from hw_tts.speakers import initial as new_speakers
from hw_tts.speakers import table as speaker_table
from hw_tts.speakers.initial import NewSpeakers
from hw_tts.speakers.table import measure
from tests.conftest import ROOT

TINY = ROOT / "configs" / "tiny" / "vits2.json"
TABLE = "generator.emb_g.weight"


def speakers(**changed):
    """Four known speakers, one new one whose recordings are like those of the second."""
    torch.manual_seed(0)
    known = ["a", "b", "c", "d"]
    voices = {name: torch.randn(2 + 6) for name in known}
    voices["x"] = voices["b"] + 0.01 * torch.randn(8)
    return NewSpeakers(
        **{"table": torch.randn(4, 5), "known": known, "new": ["x"], "voices": voices, "seed": 1} | changed
    )


def test_random_rows_are_spread_as_the_known_ones():
    given = speakers(table=torch.randn(4, 2) * 3 + 10, new=[f"n{i}" for i in range(4000)])
    rows = new_speakers.RandomSpeakers().rows(given)
    assert torch.allclose(rows.mean(dim=0), given.table.mean(dim=0), atol=0.2)
    assert torch.allclose(rows.std(dim=0), given.table.std(dim=0, correction=0), atol=0.2)
    assert torch.equal(rows, new_speakers.RandomSpeakers().rows(given))


def test_the_mean_is_that_of_the_known_ones():
    given = speakers(new=["x", "y"])
    assert torch.equal(new_speakers.MeanSpeaker().rows(given), given.table.mean(dim=0).expand(2, 5))


def test_the_nearest_has_the_most_similar_recordings():
    given = speakers()
    assert torch.equal(new_speakers.NearestSpeaker().rows(given), given.table[1:2])
    unmeasured = {name: voice for name, voice in given.voices.items() if name != "b"}
    rows = new_speakers.NearestSpeaker().rows(speakers(voices=unmeasured))
    assert not torch.equal(rows, given.table[1:2])


def test_mixtures_go_by_distance_or_by_given_weights():
    given = speakers()
    near = new_speakers.MixedSpeakers(temperature=1e-3).rows(given)
    assert torch.allclose(near, given.table[1:2])
    even = new_speakers.MixedSpeakers(temperature=1e6).rows(given)
    assert torch.allclose(even, given.table.mean(dim=0, keepdim=True), atol=1e-4)
    weighted = new_speakers.MixedSpeakers(weights={"x": {"a": 3.0, "c": 1.0}}).rows(given)
    assert torch.allclose(weighted[0], 0.75 * given.table[0] + 0.25 * given.table[2])


def test_given_speakers_are_taken_by_name():
    given = speakers(new=["x", "y"])
    rows = new_speakers.GivenSpeakers({"x": "d", "y": "a"}).rows(given)
    assert torch.equal(rows, given.table[[3, 0]])


def test_estimation_finds_the_row_that_explains_best():
    given = speakers()
    target = torch.randn(1, 5)
    estimated = new_speakers.EstimatedSpeakers(steps=300, lr=0.1)
    found = estimated.refine(estimated.rows(given), lambda rows, step: (rows - target).square().sum())
    assert torch.allclose(found, target, atol=0.02)


@pytest.mark.parametrize(
    ("initializer", "message"),
    [
        (new_speakers.GivenSpeakers({"x": "e"}), "the checkpoint knows no speaker 'e'"),
        (new_speakers.GivenSpeakers({"z": "a"}), "has no entry for the new speaker 'x'"),
        (new_speakers.MixedSpeakers({"x": {"a": 0.0}}), "expected a positive sum of weights"),
    ],
)
def test_names_that_are_not_there_are_refused(initializer, message):
    with pytest.raises(ConfigError, match=message):
        initializer.rows(speakers())


def test_without_measurements_no_distance_is_made_up():
    with pytest.raises(ConfigError, match="no measurements"):
        new_speakers.NearestSpeaker().rows(speakers(voices={"x": torch.zeros(8)}))


def test_a_voice_is_measured_over_all_its_frames():
    class Recorded:
        def __init__(self, speaker, pitch, mel):
            self.speaker, self.pitch, self.mel = speaker, torch.tensor(pitch), torch.tensor(mel)

    records = [Recorded("a", [100.0, 200.0], [[1.0, 3.0]]), Recorded("a", [400.0, 1.0], [[5.0, 7.0]])]
    voiced = {100.0, 200.0, 400.0}
    found = measure(
        records,
        lambda r: {
            "pitch": r.pitch,
            "voiced": torch.tensor([p in voiced for p in r.pitch.tolist()]),
            "spectrogram": r.mel,
        },
    )
    logs = torch.tensor([100.0, 200.0, 400.0]).log()
    mel = torch.tensor([1.0, 3.0, 5.0, 7.0])
    expected = [logs.mean(), logs.std(correction=0), mel.mean(), mel.std(correction=0)]
    assert torch.allclose(found["a"], torch.stack(expected))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny model of two voices, and the splits of a third."""
    folder = tmp_path_factory.mktemp("voices")
    path = folder / "run"
    assert train_script.main(["-c", str(TINY), "--run-dir", str(path), "-d", "cpu", "--set", "metrics={}"]) == 0
    data = json.loads(TINY.read_text())["data"]
    for split in data.values():
        split["datasets"][0]["args"]["voices"] = ["en-us+m3"]
    return path / "checkpoint-00000004.pth", data, folder


def adapted(trained, name, *sets):
    source, data, folder = trained
    config = {**json.loads(TINY.read_text()), "data": data, "init_from": str(source), "metrics": {}}
    config["trainer"] = {**config["trainer"], "max_steps": 2}
    file = folder / f"{name}.json"
    file.write_text(json.dumps(config))
    flags = [part for item in sets for part in ("--set", item)]
    code = train_script.main(["-c", str(file), "--run-dir", str(folder / name), "-d", "cpu", *flags])
    return code, folder / name / "checkpoint-00000002.pth"


INITS = ["RandomSpeakers", "MeanSpeaker", "NearestSpeaker", "MixedSpeakers"]
INITS += [
    '{"type": "EstimatedSpeakers", "args": {"steps": 2}}',
    '{"type": "GivenSpeakers", "args": {"speakers": {"en-us+m3": "en-us"}}}',
]


@pytest.mark.parametrize("init", INITS)
def test_a_checkpoint_learns_a_new_voice_and_all_else_stays(trained, init):
    code, path = adapted(
        trained, f"init{INITS.index(init)}", f"new_speakers={init}", 'optimizers.generator.train=["emb_g.*"]'
    )
    assert code == 0
    before, after = checkpoint.load(trained[0]), checkpoint.load(path)
    assert after["task"]["speakers"] == ["en-us", "en-us+f3", "en-us+m3"]
    assert set(after["task"]["voices"]) == set(after["task"]["speakers"])
    old, new = before["model"][TABLE], after["model"][TABLE]
    assert new.shape == (3, old.shape[1])
    for key, value in after["model"].items():
        if key.startswith("generator.") and key != TABLE:
            assert torch.equal(value, before["model"][key]), key
    moments = after["optimizations"]["generator"]["optimizer"]["state"]
    assert [tuple(state["exp_avg"].shape) for state in moments.values()] == [tuple(new.shape)]


def begun(trained, *sets):
    """A trainer of the third voice that has not taken a step."""
    source, data, _ = trained
    tree = {**json.loads(TINY.read_text()), "data": data, "init_from": str(source), "metrics": {}}
    return Experiment(resolve(tree, sets), torch.device("cpu")).trainer(None)


@pytest.mark.parametrize("sets", [[], ['optimizers.generator.lr_factors={"emb_g.*": 2.0, "dec.*": 0.5}']])
def test_moments_follow_their_parameters_by_name(trained, sets):
    """Also where other learning rates put the parameters into another order than they had there."""
    trainer = begun(trained, "init_optimizers=true", *sets)
    optimizations = checkpoint.load(trained[0])["optimizations"]
    for group, network in trainer.model.parameter_groups().items():
        theirs = optimizations[group]["optimizer"]["state"]
        ours = trainer.optimizations[group].optimizer.state
        assert len(theirs) == len(ours)
        for place, (name, parameter) in enumerate(network.named_parameters()):
            for key, value in theirs.get(place, {}).items():
                adopted = ours[parameter][key]
                if name == "emb_g.weight" and key != "step":
                    assert not adopted[2:].any()
                    adopted = adopted[:2]
                assert torch.equal(adopted, value), (name, key)


def test_training_goes_on_with_the_moments(trained):
    code, path = adapted(trained, "moments", "init_optimizers=true")
    assert code == 0
    moments = checkpoint.load(path)["optimizations"]["generator"]["optimizer"]["state"]
    assert all(float(state["step"]) == 6 for state in moments.values())  # 4 there, 2 here


def test_estimated_rows_explain_the_recordings_better_than_those_they_began_with(trained):
    """Over the same batches, with the same noise; only the rows of the new voice differ."""
    model = begun(trained, 'new_speakers={"type": "MixedSpeakers"}')
    estimated = begun(trained, 'new_speakers={"type": "EstimatedSpeakers", "args": {"steps": 40, "lr": 0.5}}')
    explains = speaker_table._Explaining(model.model, model.setup.config, TABLE, 2, model.loader)
    losses = []
    for trainer in (model, estimated):
        torch.manual_seed(0)
        rows = trainer.model.generator.emb_g.weight.detach()[2:]
        losses.append(sum(float(explains(rows, step).detach()) for step in range(len(model.loader))))
    assert losses[1] < losses[0], losses
    for (name, one), other in zip(model.model.named_parameters(), estimated.model.parameters(), strict=True):
        rest = slice(2) if name == TABLE else slice(None)
        assert torch.equal(one[rest], other[rest]), name


def test_a_model_of_one_voice_cannot_be_extended(trained, capsys):
    source, _, folder = trained
    state = checkpoint.load(source)
    state["model"] = {key: value for key, value in state["model"].items() if key != TABLE}
    single = folder / "single.pth"
    checkpoint.save(single, state)
    code, _ = adapted((single, *trained[1:]), "single")
    assert code == CheckpointError.exit_code
    assert "a model of a single voice has no table of speakers to extend" in capsys.readouterr().err


def test_decoder_and_flow_are_taken_and_the_rest_starts_anew(trained):
    """Also a table of speakers that starts anew has a row for each of them."""
    taken = ("generator.dec.", "generator.flow.")
    anew = 'init_anew=["generator.[!df]*", "generator.dp.*", "*discriminator.*"]'
    given = checkpoint.load(trained[0])["model"]
    found = begun(trained, "new_speakers=RandomSpeakers", anew).model.state_dict()
    equal = {name for name in given if name != TABLE and torch.equal(found[name], given[name])}
    assert {name for name in given if name.startswith(taken)} <= equal
    assert not any(name.startswith(("generator.enc_p.encoder", "generator.enc_q.enc.")) for name in equal)
    assert len(found[TABLE]) == len(given[TABLE]) + 1
    assert not torch.equal(found[TABLE][: len(given[TABLE])], given[TABLE])


def test_symbols_that_the_checkpoint_lacks_are_learned_where_it_is_asked(trained):
    nouns, verbs = ("boys", "measures", "azure oysters", "youths"), ("enjoy", "destroy", "employ", "allure")
    texts = trained[2] / "texts.txt"
    texts.write_text("\n".join(f"pure {a} {b} our casual {c}" for a in nouns for b in verbs for c in nouns))
    data = [f"data.train.datasets.0.args.{key}" for key in (f"texts={texts}", "n_utterances=12")]
    more = [*data, 'init_anew=["generator.enc_p.*", "generator.dp.*"]']
    given = checkpoint.load(trained[0])
    known = len(given["model"]["generator.enc_p.emb.weight"])
    assert len(begun(trained, *more).setup.text_encoder) == known
    trainer = begun(trained, *more, "init_text_encoder=false")
    symbols = len(trainer.setup.text_encoder)
    assert symbols != known
    assert {"OI", "Z"} <= {symbol.strip("',") for symbol in trainer.setup.text_encoder.names(range(symbols))}
    found = trainer.model.state_dict()
    assert len(found["generator.enc_p.emb.weight"]) == symbols
    decoder = [name for name in found if name.startswith("generator.dec.")]
    assert decoder
    assert all(torch.equal(found[name], given["model"][name]) for name in decoder)
    with pytest.raises(CheckpointError, match=r"generator\.enc_p\.emb\.weight"):
        begun(trained, *data, "init_text_encoder=false")


@pytest.mark.parametrize("model", ["FastSpeech", "FastSpeech2"])
def test_acoustic_models_of_several_voices_learn_new_ones(tmp_path, model):
    tree = json.loads((ROOT / "configs" / "tiny" / "fastspeech2.json").read_text())
    sizes = {"n_encoder_layers": 1, "n_decoder_layers": 1, "width": 16, "ff_width": 16}
    tree |= {"model": {"type": model, "args": sizes}, "losses": {"mel": 1.0, "duration": 1.0}, "metrics": {}}
    tree["trainer"] = {"max_steps": 2, "monitor": None}
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(json.dumps(tree))
    assert train_script.main(["-c", str(old), "--run-dir", str(tmp_path / "old"), "-d", "cpu"]) == 0
    source = tmp_path / "old" / "checkpoint-00000002.pth"
    for split in tree["data"].values():
        split["datasets"][0]["args"]["voices"] = ["en-us+m3"]
    new.write_text(json.dumps({**tree, "init_from": str(source), "new_speakers": "NearestSpeaker"}))
    assert train_script.main(["-c", str(new), "--run-dir", str(tmp_path / "new"), "-d", "cpu"]) == 0
    before, after = checkpoint.load(source), checkpoint.load(tmp_path / "new" / "checkpoint-00000002.pth")
    assert after["task"]["speakers"] == [*before["task"]["speakers"], "en-us+m3"]
    name = "encoder.speakers.weight"
    assert len(after["model"][name]) == len(before["model"][name]) + 1
