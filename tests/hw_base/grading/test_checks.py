"""Signs of tampering: found where they are, and not found where they are not."""

import json

import pytest

from hw_base.grading import checks, local_paths, prompts, sandbox, texts
from hw_base.grading.contract import Item, grading_of
from hw_base.grading.outcome import SubmissionError
from hw_base.grading.settings import Checks, Settings
from hw_base.grading.single import grade
from tests.hw_base.grading.attacks import COMMAND
from tests.hw_base.grading.cases import HONEST, NO_CHECKS, make_request, write_hidden

ASR = grading_of("asr")
SETTINGS = Settings.model_validate({"task": "asr"})
ITEMS = [Item(f"u{i}", "", f"text {i}", None) for i in range(6)]


def names(findings):
    return [finding["name"] for finding in findings]


def test_honest_predictions_have_no_findings():
    predictions = {item.id: f"texd {item.id}" for item in ITEMS}
    assert checks.of_predictions(ASR, ITEMS, predictions, SETTINGS) == []
    assert checks.of_ids(ITEMS, predictions) == []
    assert checks.of_fresh_speech(0.1, 0.3) == []


def test_some_right_answers_are_not_copied_references():
    predictions = {item.id: item.text for item in ITEMS} | {"u0": "wrong"}
    assert checks.of_predictions(ASR, ITEMS, predictions, SETTINGS) == []
    assert names(checks.of_predictions(ASR, ITEMS, {i.id: i.text for i in ITEMS}, SETTINGS)) == [
        "identical_to_references"
    ]


def test_who_knows_only_the_hidden_data_is_found():
    assert names(checks.of_fresh_speech(0.05, 1.0)) == ["knows_only_hidden_data"]
    assert checks.of_fresh_speech(0.9, 1.0) == []


def test_common_mistakes_count_and_common_right_answers_do_not():
    one = {f"u{i}": f"mistake {i}" for i in range(10)}
    other = {**one, "u0": "another mistake"}
    assert set(checks.common_errors({"ada": one, "bob": other, "eve": {"u1": "mistake 1"}})) == {"ada", "bob"}
    assert checks.common_errors({"ada": one, "bob": {k: f"{v}!" for k, v in one.items()}}) == {}


# The length of a clip and how many there are, which differs between the runs.
COUNTING = "str(os.path.getsize(sys.argv[1] + '/audio/' + n + '.wav') + len(os.listdir(sys.argv[1] + '/audio')))"
CHEATS = {
    "twins_differ": "answer(lambda n: 'text of ' + n)",
    "words_in_silence": "answer(lambda n: 'many words that nobody has said')",
    "runs_differ": f"answer(lambda n: 'few ' + {COUNTING})",
}


@pytest.mark.skipif(sandbox.problem() is not None, reason=str(sandbox.problem()))
@pytest.mark.parametrize("name", CHEATS)
def test_clips_show_who_does_not_listen(name, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "main.py").write_text(HONEST + CHEATS[name])
    wanted = {**NO_CHECKS, "silence": 1, "twins": 2, "repeat": 2}
    request = make_request(write_hidden(tmp_path / "hidden"), command=COMMAND, checks=wanted)
    report = grade(tmp_path / "in", "ada", request, tmp_path / "report.json")
    assert report["exit_code"] == 0, report["reason"]
    assert name in names(report["findings"])


def test_names_of_clips_say_nothing_and_depend_on_the_seed(tmp_path):
    wanted = Checks(silence=1, noise=1, twins=2, fresh=0)
    first, second = (prompts.choose(ITEMS, ASR, wanted, seed, tmp_path) for seed in ("a", "b"))
    assert len(first) == len({prompt.name for prompt in first}) == 10
    assert not any(item.id in prompt.name[1:] for item in ITEMS for prompt in first)
    assert [prompt.name for prompt in first] != [prompt.name for prompt in second]
    assert first == prompts.choose(ITEMS, ASR, wanted, "a", tmp_path)


def test_fresh_speech_is_another_for_every_seed(tmp_path):
    one, two = (prompts.fresh_items(2, seed, tmp_path) for seed in (1, 2))
    assert [item.text for item in one] != [item.text for item in two]


def test_a_path_is_taken_from_the_submission(tmp_path):
    (tmp_path / "lm").mkdir()
    (tmp_path / "lm" / "words.arpa").write_text("x")
    config = {"decoders": {"a": {"args": {"lm": "/home/ada/words.arpa"}}}, "data": {"train": "/anything"}}
    inside = local_paths.localized(config, tmp_path)
    assert inside["decoders"]["a"]["args"]["lm"] == str(tmp_path / "lm" / "words.arpa")
    assert inside["data"] == config["data"]
    for path in ("/etc/passwd", "../../words", "~/x", "$HOME/x", "lm/../../x", "/etc/*", ".."):
        with pytest.raises(SubmissionError, match=r"decoders\.a\.args\.lm"):
            local_paths.localized({"decoders": {"a": {"args": {"lm": path}}}}, tmp_path)


def test_what_steers_a_terminal_becomes_visible():
    assert texts.clean("a\x1b[31m\u202eb\x00\ud800") == "a\\x1b[31m\\u202eb\\x00\\ud800"
    assert (
        texts.clean("plain, \u043f\u0440\u0438\u0432\u0435\u0442\n") == "plain, \u043f\u0440\u0438\u0432\u0435\u0442\n"
    )
    assert texts.clean("x" * 3000).endswith("[... 1000 characters more]")
    assert json.dumps(texts.clean("\ud800"))
