"""Checkpoints that are damaged on the disk."""

import random
import shutil

from hw_base import checkpoint
from hw_base.errors import CheckpointError
from tests.conftest import same
from tests.faults.table import row
from tests.hw_base.files.test_checkpoint_checks import trainer

PAGE = 4096


def truncated(content, chosen):
    return content[: chosen.randrange(len(content))]


def one_bit(content, chosen):
    content[chosen.randrange(len(content))] ^= 1 << chosen.randrange(8)


def many_bits(content, chosen):
    for _ in range(chosen.randrange(2, 200)):
        one_bit(content, chosen)


def end_flipped(content, chosen):
    """In the directory of the archive and in the checksum."""
    content[-chosen.randrange(1, 600)] ^= 1 << chosen.randrange(8)


def page_zeroed(content, chosen):
    start = chosen.randrange(len(content) // PAGE + 1) * PAGE
    end = min(len(content), start + PAGE * chosen.randrange(1, 4))
    content[start:end] = bytes(end - start)


def page_of_another_place(content, chosen):
    pages = range(-(-len(content) // PAGE))
    source, target = (chosen.choice(pages) * PAGE for _ in range(2))
    content[target : target + PAGE] = content[source : source + PAGE]


def bytes_lost(content, chosen):
    start = chosen.randrange(len(content))
    del content[start : start + chosen.randrange(1, 2000)]


def bytes_added(content, chosen):
    start = chosen.randrange(len(content) + 1)
    content[start:start] = chosen.randbytes(chosen.randrange(1, 2000))


def empty(content, chosen):
    content.clear()


def zeros(content, chosen):
    content[:] = bytes(len(content))


def noise(content, chosen):
    content[:] = chosen.randbytes(len(content))


def html(content, chosen):
    content[:] = b"<!DOCTYPE html><title>404 Not Found</title>" * chosen.randrange(1, 300)


def twice(content, chosen):
    content += bytes(content)


# Weighted by how many different damages each can do.
DAMAGES = [truncated, one_bit, many_bits, end_flipped, page_zeroed, page_of_another_place, bytes_lost, bytes_added] * 8
DAMAGES += [empty, zeros, noise, html, twice]


@row(
    5,
    "a checkpoint truncated, bits flipped, pages zeroed or swapped, empty, HTML",
    "found and named in one line, or unchanged to the bit; the good one before it is used",
)
def damaged_checkpoints(trials):
    folder = trials.new_folder("run")
    trainer(run_dir=folder, max_steps=6).train()
    newest, previous = checkpoint.numbered(folder)[:2]
    content, state = newest.read_bytes(), checkpoint.load(newest)
    for number in range(trials.size(150, 2000)):
        chosen = random.Random(number)
        damage = DAMAGES[number % len(DAMAGES)]
        with trials.trial(f"{damage.__name__} with seed {number}"):
            damaged = bytearray(content)
            damaged = damage(damaged, chosen) or damaged
            newest.write_bytes(damaged)
            found = checkpoint.newest_good(folder)
            if damaged == content:
                assert found == newest
                continue
            try:
                loaded = checkpoint.load(newest)
            except CheckpointError as error:
                assert str(error).startswith(f"{newest}: ")
                assert len(str(error).splitlines()) == 1
                assert found == previous
            else:
                assert same(loaded, state)  # harmless, and proved to be
                assert found == newest
    newest.write_bytes(content)
    best = folder / checkpoint.BEST
    for number in range(trials.size(5, 40)):
        with trials.trial(f"every checkpoint damaged but one, seed {number}") as other:
            copy = shutil.copytree(folder, other / "run")
            good = random.Random(number).choice(checkpoint.numbered(copy))
            for path in [*checkpoint.numbered(copy), copy / best.name]:
                if path != good:
                    damaged = bytearray(path.read_bytes())
                    many_bits(damaged, random.Random(number))
                    path.unlink()  # it may share its content with another name
                    path.write_bytes(damaged)
            assert checkpoint.newest_good(copy) == good
            assert checkpoint.best_step(copy) is None
