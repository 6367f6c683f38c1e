"""Hidden data, requests and submissions of the tests of grading."""

import math
import struct
import wave

from hw_base.grading import hidden
from hw_base.grading.contract import grading_of
from hw_base.grading.limits import Limits
from hw_base.grading.request import Request
from hw_base.grading.settings import Settings

# A word that stands nowhere but in the references.
SECRET = "zanzibar"
WORDS = ("one", "two", "three", "four", "five", "six")
TEXTS = {f"utt{i}": f"{SECRET} {word} sentence number {word}" for i, word in enumerate(WORDS)}
ALTERED = f"{SECRET} but nobody says this"
NO_CHECKS = {"silence": 0, "noise": 0, "twins": 0, "fresh": 0, "repeat": 0}

# A student's program that predicts something for every clip.
HONEST = """
import contextlib, json, os, sys
def answer(text):
    names = sorted(n[:-4] for n in os.listdir(sys.argv[1] + "/audio"))
    rows = [{"id": n, "pred_text_argmax": text(n)} for n in names]
    json.dump(rows, open("output.json", "w"))
"""


def write_hidden(folder, canary=True):
    """Six short tones with their texts; the last one's reference has been altered in a canary."""
    for name in ("audio", "transcriptions", "canaries"):
        (folder / name).mkdir(parents=True)
    for i, (key, text) in enumerate(TEXTS.items()):
        write_tone(folder / "audio" / f"{key}.wav", 200 + 40 * i)
        (folder / "transcriptions" / f"{key}.txt").write_text(text)
    if canary:
        (folder / "canaries" / "utt5.txt").write_text(ALTERED)
    return folder


def write_tone(path, frequency, seconds=0.4, rate=16000, level=0.3):
    samples = [int(32767 * level * math.sin(2 * math.pi * frequency * t / rate)) for t in range(int(seconds * rate))]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))


def make_request(folder, limits="", task="asr", isolated=True, adjustments=None, **settings):
    grading = grading_of(task)
    items = hidden.read(folder, None, grading.given)
    settings = {
        "checks": NO_CHECKS,
        "table": [{"score": 10, "metric": "wer", "at_most": 0.5}],
        "max_score": 10,
    } | settings
    return Request(
        task=task,
        grading=grading,
        items=items,
        settings=Settings.model_validate({"task": task, **settings}),
        limits=Limits.parse(limits),
        isolated=isolated,
        data_digest=hidden.digest(items),
        adjustments=adjustments or {},
    )
