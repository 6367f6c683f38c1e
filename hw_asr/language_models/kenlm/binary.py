"""Reading of the binary models that KenLM's ``build_binary`` makes."""

from pathlib import Path

from hw_asr.language_models.arpa import Arpa
from hw_asr.language_models.kenlm import probing as kenlm_probing
from hw_asr.language_models.kenlm import trie as kenlm_trie
from hw_asr.language_models.kenlm.header import MAGIC, PROBING, REST_PROBING, open_binary


def is_kenlm_binary(path: "str | Path") -> bool:
    """Whether a file begins like one; a missing file does not."""
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def read_kenlm(path: "str | Path", unigrams_only: bool = False) -> Arpa:
    """The n-grams of a binary, in any of KenLM's layouts.

    A trie holds its words as such. A probing table, KenLM's default, only holds hashes of whole n-grams: they are found
    again by trying the n-grams that the shorter ones allow, which is refused where that would take minutes.

    Args:
        path: the file.
        unigrams_only: leave longer n-grams out; no file has too many words then.

    Raises:
        DataError: another version, a damaged file, one without words, a probing table with too many words.
    """
    binary = open_binary(Path(path))
    if binary.layout in (PROBING, REST_PROBING):
        return kenlm_probing.read(binary, unigrams_only)
    arpa = kenlm_trie.read(binary)
    return Arpa(arpa.vocabulary, arpa.grams[:1]) if unigrams_only else arpa
