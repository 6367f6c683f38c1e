import copy
import os
import pickle
import signal
import threading
from pathlib import Path

import pytest

from hw_base.errors import ConfigError, DataError
from hw_base.synthetic.espeak import Utterance
from hw_base.synthetic.lazy_speaker import LazySpeaker

pytest.importorskip("espeakng_loader", reason="speaking needs espeakng-loader")

HELLO = Utterance("hello", "en-us")


@pytest.fixture
def lazy():
    one = LazySpeaker()
    yield one
    one.close()


def process_of(lazy):
    return lazy._speaker._process


def test_it_starts_with_the_first_question_and_starts_again_after_closing(lazy):
    assert not lazy.speaking
    first = lazy.say(HELLO)
    process = process_of(lazy)
    assert lazy.speaking
    lazy.close()
    lazy.close()
    assert process.returncode is not None
    assert not lazy.speaking
    assert lazy.say(HELLO).phones == first.phones


def test_ipa_of_several_texts(lazy):
    expected = ["həlˈoʊ wˈɜːld", "", "wˈʌn tˈuː"]  # noqa: RUF001
    assert lazy.ipa(["hello world", "", "one. two"], "en-us") == expected
    assert lazy.ipa(["bath"], "en-us") != lazy.ipa(["bath"], "en-gb-x-rp")
    with pytest.raises(ConfigError, match="no voice 'xx'"):
        lazy.ipa(["a"], "xx")


def test_copies_have_processes_of_their_own(lazy):
    lazy.say(HELLO)
    for other in (copy.deepcopy(lazy), pickle.loads(pickle.dumps(lazy))):
        assert not other.speaking
        assert other.say(HELLO).phones == lazy.say(HELLO).phones
        assert process_of(other).pid != process_of(lazy).pid
        other.close()
    assert lazy.speaking


def test_the_process_ends_with_the_object():
    one = LazySpeaker()
    one.say(HELLO)
    process = process_of(one)
    del one
    assert process.returncode is not None


def test_a_killed_process_is_an_error_once(lazy):
    phones = lazy.say(HELLO).phones
    os.kill(process_of(lazy).pid, signal.SIGKILL)
    process_of(lazy).wait()
    with pytest.raises(DataError, match="has ended"):
        lazy.say(HELLO)
    assert lazy.say(HELLO).phones == phones


def test_threads_take_turns(lazy):
    answers = []
    texts = ["one", "two three", "four five six"] * 3
    threads = [threading.Thread(target=lambda t=t: answers.append((t, lazy.ipa([t], "en-us")[0]))) for t in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == len(texts)
    assert all(answer == lazy.ipa([text], "en-us")[0] for text, answer in answers)


@pytest.mark.skipif(not hasattr(os, "fork") or not Path("/proc/self/fd").exists(), reason="needs fork and /proc")
def test_a_fork_has_a_process_of_its_own_and_no_pipe_of_its_parents(lazy):
    lazy.say(HELLO)
    pipes = {os.readlink(f"/proc/self/fd/{p.fileno()}") for p in (process_of(lazy).stdin, process_of(lazy).stdout)}
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        verdict = b"failed"
        try:
            names = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
            inherited = pipes & {os.readlink(name) for name in names if os.path.islink(name)}
            started = lazy.speaking
            phones = lazy.say(HELLO).phones
            lazy.close()
            verdict = f"{len(inherited)} {started} {[s for s, _ in phones]}".encode()
        finally:
            os.write(writer, verdict)
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        verdict = pipe.read().decode()
    os.waitpid(child, 0)
    # The parent's process has not been ended by the child.
    assert verdict == f"0 False {[s for s, _ in lazy.say(HELLO).phones]}"
