import pickle

import pytest
import torch

from hw_asr.decoders.scoring.tokens import SEPARATOR, WORD_START, describe_tokens
from hw_asr.text_encoders.characters import CharTextEncoder
from hw_asr.text_encoders.sentencepiece import SentencePieceTextEncoder
from hw_base.errors import CheckpointError, ConfigError, DataError

sentencepiece = pytest.importorskip("sentencepiece", reason="trains the vocabularies")

TEXTS = [
    f"The {animal} {verb} {place} the {thing}."
    for animal in ("cat", "dog", "quick brown fox", "lazy bear")
    for verb in ("sat", "jumped", "wasn't seen", "was running")
    for place in ("on", "over", "under")
    for thing in ("mat", "garden wall", "river", "hill")
]


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def encoder(request):
    encoder = SentencePieceTextEncoder(vocab_size=40, model_type=request.param)
    encoder.fit(TEXTS)
    return encoder


def test_the_vocabulary_has_the_size_asked_for_and_pieces_longer_than_characters(encoder):
    assert len(encoder) == 40
    n_characters = sum(len(encoder.normalize(text)) for text in TEXTS)
    assert sum(len(encoder.encode(text)) for text in TEXTS) < 0.9 * n_characters


def test_texts_come_back_and_ids_stay_clear_of_the_blank(encoder):
    characters = CharTextEncoder()
    for text in [*TEXTS, "", "Zebra's XYLOPHONE!", "caf\u00e9 42", "a", "quiz " * 2000]:
        ids = encoder.encode(text)
        assert all(type(i) is int and 1 <= i < 40 for i in ids)
        assert encoder.normalize(text) == characters.normalize(text)
        assert encoder.decode(ids) == encoder.normalize(text)
        assert encoder.unknown(text) == characters.unknown(text)


def test_training_repeats_itself(encoder):
    again = SentencePieceTextEncoder(40, encoder.model_type)
    again.fit(iter(TEXTS))
    assert again.model == encoder.model


def test_long_transcripts_are_trained_on():
    """By default SentencePiece drops lines of more than 4192 bytes."""
    encoder = SentencePieceTextEncoder(vocab_size=34)
    encoder.fit(["abcabc " * 3000])
    assert len(encoder.encode("abcabc abcabc")) == 2


def test_the_state_is_all_that_is_needed(encoder, tmp_path):
    path = tmp_path / "state.pth"
    torch.save(encoder.state_dict(), path)
    restored = SentencePieceTextEncoder()
    restored.load_state_dict(torch.load(path, weights_only=True))
    assert len(restored) == 40
    assert [restored.encode(text) for text in TEXTS] == [encoder.encode(text) for text in TEXTS]
    assert restored.model == encoder.model
    assert pickle.loads(pickle.dumps(encoder)).encode(TEXTS[0]) == encoder.encode(TEXTS[0])


def test_a_model_file_is_used_as_it_is(encoder, tmp_path):
    path = tmp_path / "tokenizer.model"
    path.write_bytes(encoder.model)
    given = SentencePieceTextEncoder(model_path=str(path))
    given.fit(["something else"])
    assert given.model == encoder.model


def test_what_a_foreign_model_lacks_is_left_out_and_reported(tmp_path):
    path = tmp_path / "foreign.model"
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["abba baab"] * 9),
            model_writer=file,
            vocab_size=5,
            bos_id=-1,
            eos_id=-1,
            minloglevel=2,
        )
    encoder = SentencePieceTextEncoder(model_path=str(path))
    assert encoder.unknown("abz\u4e2d ba") == ["\u4e2d", "z"]
    assert encoder.decode(encoder.encode("abz ba")) == "ab ba"


def test_decoders_see_where_words_begin(encoder):
    tokens = describe_tokens(encoder)
    pieces = encoder._trained
    for i in range(1, len(encoder)):
        piece = pieces.id_to_piece(i)
        assert tokens.names[i] == piece
        begins = WORD_START if piece.startswith("\u2581") else 0
        assert tokens.kinds[i] == (SEPARATOR if piece == "\u2581" else begins)


def test_mistakes_are_refused(encoder, tmp_path):
    with pytest.raises(ConfigError, match=r"vocab_size: 5000 bpe pieces: Vocabulary size too high.*<= \d+"):
        SentencePieceTextEncoder(5000).fit(TEXTS)
    with pytest.raises(ConfigError, match="vocab_size: 10 bpe pieces: Vocabulary size is smaller"):
        SentencePieceTextEncoder(10).fit(TEXTS)
    with pytest.raises(DataError, match="no transcript"):
        SentencePieceTextEncoder().fit(["", "42"])
    with pytest.raises(ConfigError, match="neither trained nor loaded"):
        SentencePieceTextEncoder().encode("a")
    assert len(SentencePieceTextEncoder(64)) == 64
    with pytest.raises(DataError, match=r"token ids \[0, 40\] are outside 1\.\.39"):
        encoder.decode([0, 40, 3])
    (tmp_path / "wrong.model").write_bytes(b"no model")
    for path in ("wrong.model", "missing.model"):
        with pytest.raises(ConfigError, match="is not a SentencePiece model"):
            SentencePieceTextEncoder(model_path=str(tmp_path / path))
    for state in ({"alphabet": "ab"}, {"alphabet": "ab", "model": torch.ones(50, dtype=torch.uint8)}):
        with pytest.raises(CheckpointError, match="SentencePiece model"):
            SentencePieceTextEncoder().load_state_dict(state)
