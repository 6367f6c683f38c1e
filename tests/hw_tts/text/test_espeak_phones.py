import os
import pickle

import pytest
import torch.utils.data

from hw_base.errors import ConfigError, DataError
from hw_base.registry import TEXT_ENCODERS
from hw_base.synthetic import sentences
from hw_base.synthetic.corpus import SyntheticSpeech
from hw_tts.synthesize import COURSE_SENTENCES
from hw_tts.text import spoken
from hw_tts.text.espeak_phones import EspeakPhones

pytest.importorskip("espeakng_loader", reason="phones need espeakng-loader")


@pytest.fixture
def front_end():
    one = TEXT_ENCODERS["EspeakPhones"]()
    yield one
    one.close()


class Texts(torch.utils.data.Dataset):
    def __init__(self, front_end, texts):
        self.front_end, self.texts = front_end, texts

    def __len__(self):
        return len(self.texts)

    def __getitem__(self, index):
        return os.getpid(), self.front_end.symbols(self.texts[index])


def test_symbols_are_those_of_the_corpus(tmp_path):
    corpus = SyntheticSpeech("test", n_utterances=50, cache_dir=str(tmp_path), rate=(150, 260), n_processes=1)
    front_ends = {}
    for record in corpus.records:
        accent = record.speaker.partition("+")[0]
        one = front_ends.setdefault(accent, EspeakPhones(accent))
        assert one.symbols(record.text) == [symbol for symbol, _, _ in record.extra["phones"]]
    assert len(front_ends) > 3
    for one in front_ends.values():
        one.close()


def test_a_learned_table_reads_new_texts(front_end):
    front_end.fit(["she sells six shells", "the red dog"])
    assert front_end.table == sorted({s for t in ("she sells six shells", "the red dog") for s in front_end.symbols(t)})
    ids = front_end.encode("the six shells")
    assert front_end.decode(ids).split() == front_end.symbols("the six shells")
    assert ids[0] == ids[-1] == 1 + front_end.table.index("_")
    assert front_end.unknown("the church")


def test_pauses_stand_at_both_ends_and_at_commas(front_end):
    symbols = front_end.symbols("yes, no")
    assert symbols[0] == symbols[-1] == "_"
    assert symbols[1:-1].count("_") == 1


@pytest.mark.parametrize("text", ["", "  \n", "...", "?!"])
def test_nothing_to_say(front_end, text):
    assert front_end.symbols(text) == []
    with pytest.raises(DataError, match="nothing to say in the text"):
        front_end.encode(text)


def test_unknown_accent():
    with pytest.raises(ConfigError, match=r"no voice 'en-usa'.* Did you mean 'en-us'"):
        EspeakPhones(accent="en-usa")


def test_equal_texts_are_spoken_once(front_end, monkeypatch):
    first = front_end.symbols("one  two")
    front_end.close()
    assert front_end.symbols("one two ") == first
    assert not front_end._speaker.speaking
    monkeypatch.setattr(spoken, "MAX_CACHED", 1)
    front_end.symbols("three")
    assert len(front_end._cache) == 1


def test_it_may_be_pickled(front_end):
    front_end.fit(["one two three"])
    other = pickle.loads(pickle.dumps(front_end))
    assert other.encode("three two") == front_end.encode("three two")
    other.close()


# Starting processes from a program with threads is what loaders do everywhere.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_workers_of_a_loader_read_texts(front_end):
    texts = ["one two", "three four", "five six", "seven eight"]
    expected = [EspeakPhones.symbols(front_end, text) for text in texts]
    front_end._cache.clear()
    loader = torch.utils.data.DataLoader(
        Texts(front_end, texts), batch_size=None, num_workers=2, multiprocessing_context="fork"
    )
    pairs = list(loader)
    assert [symbols for _, symbols in pairs] == expected
    assert os.getpid() not in {process for process, _ in pairs}
    assert front_end._speaker.speaking


def test_a_long_text(front_end):
    sentence = "The quick brown fox jumps over the lazy dog. "
    one, many = front_end.symbols(sentence), front_end.symbols(sentence * 20)
    # Between two sentences one pause stands for the two at their ends.
    assert many == one[:-1] * 20 + ["_"]


@pytest.mark.slow
def test_ten_thousand_characters(front_end):
    sentence = "She sells sea shells. "
    one = front_end.symbols(sentence)
    text = (sentence * 455)[:10_000]
    assert len(front_end.symbols(text)) > 450 * (len(one) - 1)


def test_a_model_of_the_wide_corpus_can_say_the_courses_sentences():
    front_end = EspeakPhones()
    front_end.fit(sentences.draw("train", 1000, 0, "wide"))
    plain = ["The quick brown fox jumps over the lazy dog.", "She sells measured joy at the azure shore.", "Poor fire!"]
    for text in (*COURSE_SENTENCES, *plain):
        assert front_end.unknown(text) == [], text
    front_end.close()
