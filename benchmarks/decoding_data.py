"""Posteriors for the decoding benchmark: real sentences, CTC-like errors; language models of other real texts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import editdistance
import sentencepiece
import torch

from hw_asr.decoders.scoring.tokens import describe_tokens
from hw_asr.language_models.arpa import write_arpa
from hw_asr.language_models.kneser_ney import estimate
from hw_asr.text_encoders.characters import CharTextEncoder
from hw_base.synthetic.sentences import draw
from hw_base.text import BaseTextEncoder

TEXTS = Path(__file__).resolve().parents[2] / "shared" / "data" / "text"
N_WORDS, N_PIECES, N_FRAMES = 20_000, 999, 400
LM_FILES = ("vits_ljs_audio_text_train_filelist.txt", "vits_vctk_audio_sid_text_train_filelist.txt")


class PieceEncoder(BaseTextEncoder):
    """SentencePiece tokens after the blank."""

    def __init__(self, path: str) -> None:
        self.pieces = sentencepiece.SentencePieceProcessor(model_file=path)

    def __len__(self) -> int:
        return 1 + self.pieces.get_piece_size()

    def normalize(self, text: str) -> str:
        return " ".join(re.sub("[^a-z' ]", " ", text.lower()).split())

    def encode(self, text: str) -> list[int]:
        return [i + 1 for i in self.pieces.encode(self.normalize(text))]

    def decode(self, tokens: Sequence[int]) -> str:
        return self.pieces.decode([i - 1 for i in tokens])

    def state_dict(self) -> dict:
        return {"model": self.pieces.serialized_model_proto()}

    def load_state_dict(self, state: dict) -> None:
        self.pieces.load_from_serialized_proto(state["model"])


@dataclass
class Task:
    """One vocabulary with its models and the utterances to decode."""

    encoder: BaseTextEncoder
    token_lm: str
    word_lm: str
    lexicon: str
    log_probs: torch.Tensor
    lengths: torch.Tensor
    texts: list[str]

    def wer(self, hypotheses: Sequence[str]) -> float:
        errors = sum(editdistance.eval(h.split(), r.split()) for h, r in zip(hypotheses, self.texts, strict=True))
        return 100.0 * errors / sum(len(r.split()) for r in self.texts)

    def some(self, n: int) -> "Task":
        """The same with n of the utterances."""
        step = len(self.texts) // n
        log_probs, lengths, texts = (x[: n * step : step] for x in (self.log_probs, self.lengths, self.texts))
        return replace(self, log_probs=log_probs, lengths=lengths, texts=texts)

    def joined(self, n: int) -> "Task":
        """The same with every n of the utterances as one; all of them are as long as the batch."""
        B = len(self.texts) // n
        log_probs = self.log_probs[: B * n].reshape(B, -1, self.log_probs.shape[-1])
        texts = [" ".join(self.texts[i * n : (i + 1) * n]) for i in range(B)]
        return replace(self, log_probs=log_probs, lengths=torch.full((B,), log_probs.shape[1]), texts=texts)


def prepare(folder: Path, n_utterances: int, with_pieces: bool = True, real: bool = True) -> dict[str, Task]:
    """The character task (V = 29) and the SentencePiece one (V = 1000); files go to ``folder``.

    Args:
        folder: of language models, lexicon and pieces.
        n_utterances: to decode.
        with_pieces: also the second task.
        real: take texts of corpora where they are at hand; others are made up.
    """
    char = CharTextEncoder()
    words, training, held = _real_texts(char) if real and TEXTS.is_dir() else _made_up_texts(char)
    known = set(words)
    held = [text for text in held if 90 <= len(text) <= 170 and known.issuperset(text.split())]
    held = held[:: max(1, len(held) // n_utterances)][:n_utterances]
    (folder / "words.txt").write_text("\n".join(words))
    sentences = [[word if word in known else "oov" for word in text.split()] for text in training]
    write_arpa(estimate(sentences, 3)[0], folder / "word3.arpa")
    encoders: dict[str, BaseTextEncoder] = {"char": char}
    if with_pieces:
        encoders["bpe"] = _pieces(folder, training)
    return {name: _task(name, encoder, folder, training, held) for name, encoder in encoders.items()}


def _real_texts(encoder: CharTextEncoder) -> tuple[list[str], list[str], list[str]]:
    """Words, texts of the language models, and others of LibriSpeech, of other chapters."""
    words = [line.split("\t")[0] for line in (TEXTS / "librispeech_train_word_counts.txt").open()][:N_WORDS]
    lines = (TEXTS / "librispeech_dev-clean.trans.txt").read_text().splitlines()
    chapters = [line.split("-")[1] for line in lines]
    held_chapters = set(sorted(set(chapters))[::4])
    spoken = [encoder.normalize(line.split(" ", 1)[1]) for line in lines]
    read = [encoder.normalize(line.rsplit("|", 1)[1]) for name in LM_FILES for line in (TEXTS / name).open()]
    training = read + [text for text, c in zip(spoken, chapters, strict=True) if c not in held_chapters]
    return words, training, [text for text, c in zip(spoken, chapters, strict=True) if c in held_chapters]


def _made_up_texts(encoder: CharTextEncoder) -> tuple[list[str], list[str], list[str]]:
    """The same of the embedded corpus, where the texts of corpora are not at hand; sentences are joined in threes."""
    sentences = [encoder.normalize(text) for text in draw("train", 6000, 0, "wide")]
    others = [encoder.normalize(text) for text in draw("test", 600, 0, "wide")]
    joined = [" ".join(others[i : i + 3]) for i in range(0, len(others), 3)]
    return sorted({word for text in sentences + others for word in text.split()}), sentences, joined


def _pieces(folder: Path, training: list[str]) -> PieceEncoder:
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(training), model_prefix=str(folder / "bpe"), vocab_size=N_PIECES, model_type="bpe",
        minloglevel=2, num_threads=1, bos_id=-1, eos_id=-1, hard_vocab_limit=False,
    )  # fmt: skip
    return PieceEncoder(str(folder / "bpe.model"))


def _task(name: str, encoder: BaseTextEncoder, folder: Path, training: list[str], held: list[str]) -> Task:
    names = describe_tokens(encoder).names
    lm = folder / f"{name}3.arpa"
    write_arpa(estimate([[names[i] for i in encoder.encode(text)] for text in training], 3)[0], lm)
    strength = 11.0 if name == "char" else 14.0
    generator = torch.Generator().manual_seed(0)
    logits = torch.stack([_logits(encoder.encode(text), len(encoder), strength, generator) for text in held])
    lengths = torch.full((len(held),), N_FRAMES)
    return Task(
        encoder,
        str(lm),
        str(folder / "word3.arpa"),
        str(folder / "words.txt"),
        torch.log_softmax(logits, -1),
        lengths,
        held,
    )


def _logits(tokens: list[int], n_tokens: int, strength: float, generator: torch.Generator) -> torch.Tensor:
    """Blanks almost everywhere; each token on one frame or two; a quarter of the tokens confused with three others."""
    noise = 1.2 * torch.randn(N_FRAMES, n_tokens, generator=generator)
    logits = noise.clone()
    logits[:, 0] += strength
    frames = torch.sort(torch.randperm(N_FRAMES // 2, generator=generator)[: len(tokens)]).values * 2
    for frame, token in zip(frames.tolist(), tokens, strict=True):
        logits[frame] = noise[frame]
        if torch.rand((), generator=generator) < 0.25:
            others = torch.randint(1, n_tokens, (3,), generator=generator)
            height = strength / 2
            logits[frame, token] += height
            logits[frame, others] += height - 1.0 + 1.5 * torch.randn(3, generator=generator)
            logits[frame, 0] += height - 1.0
        else:
            logits[frame, token] += strength
        if torch.rand((), generator=generator) < 0.4:
            logits[frame + 1, token] += strength * 0.75
    return logits
