"""What every text front end keeps to: writing -> symbols (characters, phones, pauses) -> ids."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from hw_base.errors import CheckpointError, ConfigError, DataError
from hw_base.text import BaseTextEncoder

T = TypeVar("T")

# Padding, and the blank that may stand between symbols.
BLANK = 0
_MAX_NAMED = 10


class BaseTextFrontEnd(BaseTextEncoder):
    """Text to symbols by rule, symbols to ids by a table, whose first symbol has the id 1.

    A subclass says how text becomes symbols. Its table is fixed from the start, or learned by `fit_symbols`.

    Args:
        table: the symbols of the ids 1, 2, ...; empty where they are to be learned. Of a symbol that stands there
            twice the last place counts.
        add_blank: id 0 before, between and after the symbols (Kim et al. 2021, "VITS", section 3.1).

    Attributes:
        table (list[str]): the symbols of the ids 1, 2, ...
        fixed (bool): there is nothing to learn.
        add_blank (bool): as given.
    """

    # What `decode` writes between two symbols.
    separator = ""

    def __init__(self, table: Sequence[str] = (), add_blank: bool = False) -> None:
        self.fixed = bool(table)
        self.add_blank = add_blank
        self._set_table(table)

    @abstractmethod
    def symbols(self, text: str) -> list[str]:
        """The symbols of a text, in order, whether the table has them or not; none where there is nothing to say."""

    def encode_symbols(self, symbols: Sequence[str]) -> list[int]:
        """Ids of symbols; what the table lacks is left out.

        Returns:
            ids in ``1 .. len(self) - 1``, with `BLANK` around and between them under ``add_blank``.

        Raises:
            ConfigError: the table is still to be learned.
            DataError: no symbol is left.
        """
        if not self.table:
            raise ConfigError(f"{type(self).__name__}: the table of symbols is neither learned nor loaded")
        ids = [self._ids[symbol] for symbol in symbols if symbol in self._ids]
        if not ids:
            found = f"none of {list(symbols[:_MAX_NAMED])} is in the table" if symbols else "there are no symbols"
            raise DataError(f"{type(self).__name__}: nothing to say: {found}")
        return intersperse(ids, BLANK) if self.add_blank else ids

    def unknown_symbols(self, symbols: Sequence[str]) -> list[str]:
        """The symbols that `encode_symbols` leaves out, in order."""
        return [symbol for symbol in symbols if symbol not in self._ids]

    def fit_symbols(self, sequences: Iterable[Sequence[str]]) -> None:
        """Learn the table: every symbol that occurs, in the order of code points. A fixed table stays as it is.

        Raises:
            DataError: no sequence holds a symbol.
        """
        if self.fixed:
            return
        found = {symbol for sequence in sequences for symbol in sequence}
        if not found:
            raise DataError(f"{type(self).__name__}: no training text holds a symbol to learn")
        self._set_table(sorted(found))

    def fit(self, texts: Iterable[str]) -> None:
        """Learn the table from the symbols of texts."""
        if not self.fixed:
            self.fit_symbols(self.symbols(text) for text in texts)

    def __len__(self) -> int:
        return 1 + len(self.table)

    def normalize(self, text: str) -> str:
        """The text as it is read; by default with single spaces between words."""
        return " ".join(text.split())

    def encode(self, text: str) -> list[int]:
        """Ids of the symbols of a text.

        Raises:
            DataError: nothing of it can be said.
        """
        symbols = self.symbols(text)
        if not symbols:
            raise DataError(f"nothing to say in the text {shortened(text)!r}")
        return self.encode_symbols(symbols)

    def decode(self, tokens: Sequence[int]) -> str:
        """The symbols of ids, joined; blanks are left out."""
        bad = [token for token in tokens if not 0 <= token < len(self)]
        if bad:
            raise DataError(f"token ids {bad[:5]} are outside 0..{len(self) - 1} and have no symbol")
        return self.separator.join(self.table[token - 1] for token in tokens if token != BLANK)

    def names(self, tokens: Sequence[int]) -> list[str]:
        """The symbol of each id, for pictures; empty for blanks."""
        return ["" if token == BLANK else self.table[token - 1] for token in tokens]

    def unknown(self, text: str) -> list[str]:
        """The symbols of a text that the table lacks, in order."""
        return self.unknown_symbols(self.symbols(text))

    def words_with(self, text: str, symbols: Sequence[str]) -> list[str]:
        """The words of a text that hold any of these symbols when they are read alone, for messages."""
        wanted = set(symbols)
        return [word for word in text.split() if wanted.intersection(self.unknown(word))]

    def state_dict(self) -> dict[str, Any]:
        """The table, and whether blanks are added."""
        return {"symbols": list(self.table), "add_blank": self.add_blank}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the table of a checkpoint."""
        symbols, add_blank = state.get("symbols"), state.get("add_blank")
        if not isinstance(symbols, list) or not all(isinstance(s, str) for s in symbols):
            raise CheckpointError(f"the text front end's state has no table of symbols; found {sorted(state)}")
        if not isinstance(add_blank, bool):
            raise CheckpointError(f"the text front end's state does not say add_blank; found {sorted(state)}")
        self.add_blank = add_blank
        self._set_table(symbols)

    def _set_table(self, table: Sequence[str]) -> None:
        self.table = list(table)
        self._ids = {symbol: i for i, symbol in enumerate(self.table, start=1)}


def intersperse(values: Sequence[T], blank: T) -> list[T]:
    """``blank`` before, between and after the values: 2 n + 1 of them."""
    result = [blank] * (2 * len(values) + 1)
    result[1::2] = values
    return result


def shortened(text: str, length: int = 60) -> str:
    """The beginning of a text, for messages."""
    return text if len(text) <= length else text[:length] + "..."
