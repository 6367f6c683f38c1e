import json

import pytest
import torch

from hw_asr.text_encoders.sentencepiece import SentencePieceTextEncoder
from hw_asr.train_tokenizer import main
from hw_base.audio import io as audio

pytest.importorskip("sentencepiece", reason="trains the vocabulary")

TEXTS = ["the cat sat on the mat", "the dog sat on the cat", "on the mat the cat sat"]


def test_the_model_is_that_of_training_and_can_be_named_in_a_config(tmp_path, capsys):
    (tmp_path / "transcriptions").mkdir()
    for i, text in enumerate(TEXTS):
        audio.save(tmp_path / "audio" / f"{i}.wav", 0.1 * torch.randn(8000), 16000)
        (tmp_path / "transcriptions" / f"{i}.txt").write_text(text)
    config = {
        "task": "asr",
        "name": "tokens",
        "data": {"train": {"datasets": [{"type": "CustomDir", "args": {"root": str(tmp_path)}}]}},
        "text_encoder": {"type": "SentencePieceTextEncoder", "args": {"vocab_size": 34}},
        "model": "DeepSpeech2",
        "optimizers": {"model": {"type": "AdamW"}},
        "trainer": {"max_steps": 1},
    }
    path, output = tmp_path / "config.json", tmp_path / "new" / "tokenizer.model"
    path.write_text(json.dumps(config))
    assert main(["-c", str(path), "-o", str(output)]) == 0
    assert "34 tokens with the blank" in capsys.readouterr().out
    trained = SentencePieceTextEncoder(34)
    trained.fit(TEXTS)
    assert SentencePieceTextEncoder(model_path=str(output)).encode(TEXTS[0]) == trained.encode(TEXTS[0])

    again = ["-c", str(path), "-o", str(output), "--set"]
    assert main([*again, f"text_encoder.args.model_path={output}"]) == 2
    assert "names a trained model already" in capsys.readouterr().err
    assert main([*again, "text_encoder=CharTextEncoder"]) == 2
    assert "CharTextEncoder has nothing to train" in capsys.readouterr().err
