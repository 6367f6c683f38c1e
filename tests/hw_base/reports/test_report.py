"""The report of real small runs: what it holds, in a browser too, and what hostile runs cannot do to it."""

import itertools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import test as test_script
import train as train_script
from hw_asr import show_augmentations
from hw_base import report
from hw_base.examinations.findings import Finding
from hw_base.reports import common, render
from hw_base.reports.contract import Page
from hw_base.reports.language import Language
from hw_base.reports.media import MediaStore
from hw_base.reports.record import Run, read_runs
from hw_base.watch.diagnosis import Diagnosis, Watch
from hw_base.writers.media import png_bytes, wav_bytes
from tests.browser import chromium, look, wait_for
from tests.conftest import ROOT

pytest.importorskip("plotly", reason="plotly is not installed")
pytest.importorskip("jinja2", reason="jinja2 is not installed")
HOSTILE = (
    "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">{0.__class__}|*"
)


def trained(folder, config, *settings):
    common = ["-d", "cpu", "--set", *settings]
    assert train_script.main(["-c", str(ROOT / "configs" / "tiny" / config), "--run-dir", str(folder), *common]) == 0
    assert test_script.main(["-r", str(folder), "-o", str(folder / "output.json"), *common]) == 0
    return folder


@pytest.fixture(scope="module")
def asr(tmp_path_factory):
    decoders = 'decoders={"argmax": "Greedy", "beam": {"type": "BeamSearch", "args": {"engine": "tensor"}}}'
    return trained(
        tmp_path_factory.mktemp("a") / "asr", "ds2.json", "trainer.max_steps=4", "trainer.eval_every=2", decoders
    )


@pytest.fixture(scope="module")
def tts(tmp_path_factory):
    settings = ("trainer.max_steps=3", "trainer.eval_every=1", "optimizers.model.scheduler.args.warmup_steps=1")
    return trained(tmp_path_factory.mktemp("t") / "tts", "fastspeech2.json", *settings)


@pytest.fixture(scope="module")
def other(asr, tmp_path_factory):
    """A run like the first with another seed, fewer errors, speakers, and something found."""
    folder = tmp_path_factory.mktemp("o") / "other"
    shutil.copytree(asr, folder)
    rows = json.loads((folder / "output.json").read_text())
    (folder / "output.json").write_text(json.dumps([{**row, "pred_text_argmax": row["ground_truth"]} for row in rows]))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "seed": 77}))
    found = {
        "step": 2,
        "name": "x",
        "sentence": "the loss rose",
        "evidence": {"loss": 3},
        "causes": ["lr"],
        "advice": "halve",
    }
    (folder / "diagnosis.jsonl").write_text(json.dumps(found) + '\n{"half')
    return folder


def page_of(tmp_path, *arguments):
    path = tmp_path / "report.html"
    assert report.main([*map(str, arguments), "-o", str(path)]) == 0
    return path.read_text(encoding="utf-8")


def text_of(html):
    """What a person reads, without scripts, styles and what is embedded."""
    return re.sub(r"<[^>]+>", " ", re.sub(r"<(script|style).*?</\1>", " ", html, flags=re.DOTALL))


def test_a_page_holds_everything_of_its_runs(asr, other, tmp_path):
    html = page_of(tmp_path, asr, other)
    assert len(html.encode()) < 10_000_000
    text = text_of(html)
    for heading in (
        "Configs", "Curves", "WER and CER by decoder and split", "Paired comparison of runs",
        "Beam search against argmax",
        "A language model against none", "BPE against characters", "Worst utterances", "Best utterances", "Per speaker",
        "Augmentations before and after", "Findings of the diagnosis", "Speed, hardware and reproduction", "Discussion",
    ):  # fmt: skip
        assert heading in text
    assert re.search(r"seed\s+1\s+77", text)
    assert "other (argmax) has the lower WER: 0.00 %" in text
    assert "the loss rose" in text
    assert "python train.py" in text
    assert "en-us" in text  # a speaker
    assert html.count("<audio") > 6
    assert html.count('src="data:image/webp') > 4
    without_scripts = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="(?!data:|#)', without_scripts)


def test_a_page_of_synthesis_shows_stages_with_sound(tts, tmp_path):
    html = page_of(tmp_path, tts)
    text = text_of(html)
    assert re.search(r"step 1\s.*step 2\s", text, re.DOTALL)
    assert "mcd" in text
    assert "en-us+f3" in text
    assert html.count("<audio") >= 5  # the recording, two stages, two of the test


@pytest.fixture(scope="module")
def other_tts(tts, tmp_path_factory):
    """A run like the first whose utterances all measured better."""
    folder = tmp_path_factory.mktemp("o") / "better"
    shutil.copytree(tts, folder)
    rows = json.loads((folder / "output.json").read_text())
    for row in rows:
        row["metrics"]["mcd"] /= 2
    (folder / "output.json").write_text(json.dumps(rows))
    return folder


def test_synthesis_is_compared_utterance_by_utterance(tts, other_tts, tmp_path):
    text = text_of(page_of(tmp_path, tts, other_tts))
    assert "better has the better mcd" in text
    worst = max(json.loads((tts / "output.json").read_text()), key=lambda row: row["metrics"]["mcd"])
    section = text.split("Worst utterances")[2].partition("Best utterances")[0]  # behind the navigation
    assert "Ranked by mcd" in section
    assert section.index(f"test: {worst['id']}") == section.index("test: ")


def test_pictures_of_the_evaluations_are_shown(asr, tts, tmp_path):
    html = page_of(tmp_path, asr, tts)
    captions = re.findall("<figcaption>(.*?)</figcaption>", html)
    assert captions.count("alignment") == 3  # at three steps
    assert captions.count("Confusion of letters") == 1
    assert "fraction" in text_of(html).partition("The fraction of each target letter")[2]


def test_findings_of_the_watchers_and_the_doctor_are_shown(asr, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(asr, run)
    watch = Watch([], run)
    evidence = {"ratio": 1 / 3, "utterances": ["a", "b", "c", "d"]}
    watch.say(3, [Diagnosis("lr_too_high", "the loss jumps", evidence, ["lr", "data"], "halve it")])
    watch.note(0, [Finding("error", "texts are empty", "u1", ["a bad list"], "mend it").diagnosis()])
    section = text_of(page_of(tmp_path, run)).split("Findings of the diagnosis")[2]
    for part in (
        "the loss jumps", "ratio 0.3333, utterances a, b, c, …", "lr; data", "halve it",
        "before training: texts are empty", "level error, found u1", "a bad list", "mend it",
    ):  # fmt: skip
        assert part in section


def test_each_augmentation_is_heard_and_seen_alone_once_it_was_made(asr, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(asr, run)
    command = ["-c", f"{run}/config.json", "-o", f"{run}/augmentations"]
    assert f"show_augmentations {' '.join(command)}" in text_of(page_of(tmp_path, run))
    four = ["Gain", "ColoredNoise", "PitchShift", "SpecAugment"]
    assert show_augmentations.main([*command, "--set", f"augmentations={json.dumps(four)}"]) == 0
    html = page_of(tmp_path, run)
    section = html.split("Augmentations before and after</h2>")[1].partition("</section>")[0]
    captions = re.findall("<figcaption>(.*?)</figcaption>", section.partition("Each augmentation alone")[2])
    assert captions == ["before", "Gain", "ColoredNoise", "PitchShift", "all", "before and after"]
    assert "show_augmentations" not in section


def test_long_runs_of_many_pictures_make_a_page_below_ten_megabytes(asr, tts, tmp_path):
    """Three runs of 10,000 logged steps and twelve evaluations of three utterances of ten seconds."""
    noise = np.random.default_rng(0)
    runs = [tmp_path / name for name in ("a", "b", "c")]
    for run in runs:
        shutil.copytree(tts, run)
        sound, picture = run / "media" / "long.wav", run / "media" / "large.png"
        samples = torch.from_numpy(noise.uniform(-0.5, 0.5, 10 * 22050))
        sound.write_bytes(wav_bytes(samples, 22050))
        picture.write_bytes(png_bytes(noise.integers(0, 256, (500, 900, 3), dtype=np.uint8)))
        with (run / "metrics.jsonl").open("a") as file:
            for step in range(4, 10_004):
                values = {name: noise.random() for name in ("loss", "mel", "duration", "pitch", "energy", "grad_norm")}
                file.write(json.dumps({"step": step, "split": "train", **values}) + "\n")
            for step, n in itertools.product(range(1000, 13_000, 1000), range(3)):
                for kind, what, path in (("audio", "synthesized", sound), ("image", "alignment", picture)):
                    row = {"step": step, "split": "val", kind: f"u{n}/{what}", "file": f"media/{path.name}"}
                    file.write(json.dumps(row) + "\n")
    html = page_of(tmp_path, *runs, asr)
    assert 8_000_000 < len(html.encode()) < 10_000_000
    assert "found no room in this page" in html


def test_curves_of_many_metrics_are_thinned_and_keep_their_ends():
    rows = [{"step": step, "split": "train", **{f"m{i}": step / 3 for i in range(50)}} for step in range(1, 3001)]
    run = Run(Path("a"), "a", {}, rows)
    (block,) = common.curves([run, run], [], Language()).blocks
    assert len(block.curves) == 100
    assert sum(len(curve.steps) for curve in block.curves) <= 60_000
    assert {(curve.steps[0], curve.steps[-1], curve.values[0]) for curve in block.curves} == {(1, 3000, 0.333333)}


def test_what_test_py_did_not_make_is_asked_for(asr, tmp_path):
    shutil.copytree(asr, tmp_path / "bare", ignore=shutil.ignore_patterns("output.json", "metrics.json"))
    text = text_of(page_of(tmp_path, tmp_path / "bare"))
    assert "No output of test.py" in text
    assert f"python test.py -r {tmp_path}/bare" in text


def test_the_page_in_a_browser(asr, other, tts, tmp_path):
    page_of(tmp_path, asr, other, tts)
    with chromium() as window:
        look(window, 1280)
        window.get(f"file://{tmp_path}/report.html")
        wait_for(
            window, "return document.querySelectorAll('.curves .plot .scatterlayer .trace path.js-line').length >= 4"
        )
        assert window.execute_script("return document.querySelectorAll('.intervals .errorbar').length") == 4
        drawn = "return document.querySelector('.plot .ytitle').textContent"
        assert window.execute_script(drawn) == "loss"
        choose = "const s = document.querySelector('.chart select'); s.value = 'lr';"
        window.execute_script(choose + "s.dispatchEvent(new Event('change', {bubbles: true}))")
        assert wait_for(window, drawn.replace("textContent", "textContent === 'lr'"))
        window.execute_script("window.player = document.querySelector('audio'); window.player.play()")
        assert wait_for(window, "return window.player.currentTime") > 0
        window.execute_script("window.small = document.querySelector('figure img'); small.click()")
        shown = "return document.querySelector('dialog.large[open] img')?.width === small.naturalWidth"
        wait_for(window, shown)
        window.execute_script("document.querySelector('dialog.large').click()")
        assert not window.execute_script("return document.querySelector('dialog.large[open]')")
        light = window.execute_script("return getComputedStyle(document.body).backgroundColor")
        for width, scheme in ((390, "light"), (390, "dark"), (1280, "dark")):
            look(window, width, scheme)
            wait_for(window, f"return innerWidth === {width} && document.documentElement.scrollWidth <= {width}")
        assert window.execute_script("return getComputedStyle(document.body).backgroundColor") != light
        assert window.get_log("browser") == []


def hostile_run(asr, folder):
    shutil.copytree(asr, folder)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines += [{"step": 4, "split": HOSTILE, HOSTILE: 1.0, "loss": 2.0}]
    lines += [{"step": 4, "split": "val", "audio": "a_synthesized", "file": "../../secret.wav"}]
    lines += [{"step": 4, "split": "val", "table": "predictions", "columns": [HOSTILE], "rows": [[HOSTILE]]}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = json.loads((folder / "output.json").read_text())
    rows[0] |= {"id": HOSTILE, "speaker": HOSTILE, "pred_text_argmax": HOSTILE, "audio_path": "/dev/zero"}
    rows[1] |= {"audio_path": "/etc/passwd", "ground_truth": ["not", "a", "text"]}
    (folder / "output.json").write_text(json.dumps(rows))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "name": HOSTILE, "model": HOSTILE}))
    (folder / "git_commit.txt").write_text("$(touch here)\n")
    (folder / "metrics.json").write_text("[[[")
    return folder


def test_names_and_texts_of_strangers_are_text(asr, tmp_path):
    run = hostile_run(asr, tmp_path / "run")
    html = page_of(tmp_path, run, "--title", HOSTILE)
    assert "<img src=x" not in html
    assert html.count("<script") == html.count("</script>") == 4
    assert "&lt;img src=x" in html
    assert "git checkout '$(touch'" in html.replace("&#39;", "'")
    with chromium() as window:
        window.get(f"file://{tmp_path}/report.html")
        wait_for(window, "return document.querySelectorAll('.plot .main-svg').length >= 2")
        assert window.execute_script("return document.title").startswith("</script>")
        assert window.get_log("browser") == []


def test_media_outside_of_the_run_folder_are_not_read(asr, tmp_path):
    (tmp_path / "secret.wav").write_bytes(next(asr.glob("media/val/*.wav")).read_bytes())
    run = hostile_run(asr, tmp_path / "x" / "run")
    (media,) = [read_runs([run])[0].media]
    assert media
    assert all(m.path.is_relative_to(run.resolve()) for m in media)


def test_a_full_page_leaves_media_out_and_says_so(asr):
    runs, say = read_runs([asr]), Language()
    store = MediaStore(30_000)
    html = render.html("t", report.sections_of(runs, Page(store, say)), say, "")
    assert len(re.findall(r"base64,([^\"]+)", html)) > 0
    assert sum(len(found) for found in re.findall(r"base64,([^\"]+)", html)) <= 30_000
    assert store.left_out > 0
    assert f"{store.left_out} sounds and pictures found no room" in html


def test_everything_is_translated(asr, other, tts, other_tts):
    say = Language("ru")
    for paths in ([asr], [asr, other], [tts], [tts, other_tts], [other, other]):
        render.html("t", report.sections_of(read_runs(paths), Page(MediaStore(1000), say)), say, "")
    assert say.missing == set()


def test_a_russian_page(asr, tmp_path):
    html = page_of(tmp_path, asr, "--language", "ru")
    assert '<html lang="ru">' in html
    assert "Худшие записи" in html


def test_markdown_has_the_same_with_files_beside_it(asr, tmp_path):
    page_of(tmp_path, hostile_run(asr, tmp_path / "run"), "--markdown")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "## Worst utterances" in text
    assert "<img" not in text
    files = re.findall(r"\((report_media/[^)]+)\)", text)
    assert len(files) > 5
    assert all((tmp_path / file).stat().st_size > 0 for file in files)


@pytest.mark.parametrize("kind", ["no folder", "no run", "no page"])
def test_what_is_no_run_is_one_line_and_exit_code_2(kind, asr, tmp_path, capsys):
    run = {"no folder": tmp_path / "none", "no run": tmp_path, "no page": asr}[kind]
    output = tmp_path / ("page.txt" if kind == "no page" else "page.html")
    assert report.main([str(run), "-o", str(output)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert not output.exists()
