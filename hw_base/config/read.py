"""Strict reading of JSON and YAML: what the two formats accept silently is an error here, with line and column.

Refused: duplicate keys (both formats keep the last one), NaN and infinities, numbers that overflow, YAML anchors,
aliases (a few hundred bytes of them unfold to billions of nodes) and tags, nesting deeper than `MAX_DEPTH`.
Repaired: YAML scalars follow JSON's rules, so that ``1e-3`` is a number and ``no``, ``012`` and ``1:30`` are strings.
"""

import json
import math
import re
from pathlib import Path
from typing import Any

import yaml

from hw_base.errors import ConfigError

MAX_DEPTH = 32
MAX_BYTES = 4 * 2**20

_JSON_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]+)?|[-+]?\.[0-9]+([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {"null": None, "~": None, "": None, "true": True, "false": False}


def read(path: str | Path) -> dict[str, Any]:
    """Read one config file, JSON (``.json``) or YAML (``.yaml``, ``.yml``).

    Raises:
        ConfigError: the file is missing, malformed, or contains one of the things refused above.
    """
    path = Path(path)
    if path.suffix not in (".json", ".yaml", ".yml"):
        raise ConfigError(f"{path}: a config is a .json, .yaml or .yml file")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_BYTES // 2**20} MiB, the limit for a config")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from None
    parsed = parse_json(text, str(path)) if path.suffix == ".json" else parse_yaml(text, str(path))
    if not isinstance(parsed, dict):
        raise ConfigError(f"{path}: a config is a mapping of sections, found {type(parsed).__name__}")
    return parsed


def parse_json(text: str, where: str) -> Any:
    """Parse strict JSON; ``where`` names the source in messages."""
    _scan_json(text, where)
    try:
        return _utf8(json.loads(text), where)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None


def _scan_json(text: str, where: str) -> None:
    """Find duplicate keys, non-finite numbers and too deep nesting without recursion."""
    levels: list[set[str] | None] = []  # the keys seen in each open object; None for an array
    tokens = list(_JSON_TOKEN.finditer(text))
    for i, token in enumerate(tokens):
        word, following = token.group(), tokens[i + 1] if i + 1 < len(tokens) else None
        if word in "{[":
            levels.append(set() if word == "{" else None)
            if len(levels) > MAX_DEPTH:
                raise ConfigError(f"{_position(text, token.start(), where)}: nested deeper than {MAX_DEPTH} levels")
        elif word in "}]":
            if levels:
                levels.pop()
        elif word[0] == '"':
            keys = levels[-1] if levels else None
            if keys is not None and following is not None and following.group() == ":":
                if word in keys:
                    raise ConfigError(f"{_position(text, token.start(), where)}: the key {word} appears twice")
                keys.add(word)
        elif word in ("NaN", "Infinity", "-Infinity") or (_NUMBER.fullmatch(word) and math.isinf(float(word))):
            raise ConfigError(f"{_position(text, token.start(), where)}: {word} is not a finite number")


def _position(text: str, offset: int, where: str) -> str:
    line = text.count("\n", 0, offset) + 1
    return f"{where}:{line}:{offset - text.rfind(chr(10), 0, offset)}"


def parse_yaml(text: str, where: str, alone: bool = False) -> Any:
    """Parse YAML by JSON's scalar rules; ``where`` names the source in messages.

    Args:
        text: one document.
        where: its source.
        alone: whether anything behind the value, even a comment, is an error.

    Raises:
        ConfigError: not YAML, or one of the things that this module refuses.
    """
    try:
        loader = _Loader(text)
        loader.where = where
        if not loader.check_node():
            return None
        node: Any = loader.get_node()
        if loader.check_node():
            second: Any = loader.peek_event()  # type: ignore[no-untyped-call]
            raise ConfigError(f"{_at(second, where)}: a second document; a file holds one")
        rest = text[node.end_mark.index :].strip()
        if alone and rest:
            raise ConfigError(f"{where}: {rest[:40]!r} is left over; put the whole value in quotation marks")
        return _utf8(loader.construct_document(node), where)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
        raise ConfigError(f"{place}: not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not YAML: {str(error).splitlines()[0]}") from None


def parse_value(text: str, where: str) -> Any:
    """A value of the command line: a flow ``[...]`` or ``{...}``, a quoted text, or else one plain word or text.

    A plain text is taken whole, with every ``#`` and ``: `` in it.

    Raises:
        ConfigError: see `parse_yaml`; or something follows the value.
    """
    stripped = text.strip()
    if not stripped.startswith(("[", "{", '"', "'")):
        return _utf8(_scalar(stripped, where), where)
    return parse_yaml(stripped, where, alone=True)


def _at(thing: Any, where: str) -> str:
    """The place of an event or a node."""
    return f"{where}:{thing.start_mark.line + 1}:{thing.start_mark.column + 1}"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, less what a config does not need.

    Attributes:
        where: name of the source, for messages.
        depth: collections that are open.
    """

    where = ""
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse anchors, aliases, tags and deep nesting before anything is built of them."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        place = _at(event, self.where)
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise ConfigError(f"{place}: YAML anchors and aliases are not allowed; write the value out")
        if event.tag not in (None, "!"):
            raise ConfigError(f"{place}: YAML tags such as {event.tag} are not allowed")
        nested = isinstance(event, yaml.CollectionStartEvent)
        self.depth += nested
        if self.depth > MAX_DEPTH:
            raise ConfigError(f"{place}: nested deeper than {MAX_DEPTH} levels")
        node = super().compose_node(parent, index)
        self.depth -= nested
        return node

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        """Scalars without quotation marks follow JSON's rules, all others are texts."""
        if kind is yaml.ScalarNode:
            return _PLAIN if implicit[0] else self.DEFAULT_SCALAR_TAG
        return self.DEFAULT_MAPPING_TAG if kind is yaml.MappingNode else self.DEFAULT_SEQUENCE_TAG

    def plain(self, node: yaml.ScalarNode) -> Any:
        """A scalar without quotation marks."""
        return _scalar(node.value, _at(node, self.where))

    def mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        """A mapping whose keys are different names."""
        built: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(f"{_at(key, self.where)}: a key is a plain name")
            if key.value in built:
                raise ConfigError(f'{_at(key, self.where)}: the key "{key.value}" appears twice')
            built[key.value] = self.construct_object(value, deep=True)
        return built


_PLAIN = "plain"
_Loader.add_constructor(_PLAIN, _Loader.plain)
_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.mapping)


def _utf8(value: Any, where: str) -> Any:
    """The value, if every text in it can be written to a file and used as a path."""
    texts = json.dumps(value, ensure_ascii=False)
    if "\\u0000" in texts or any("\ud800" <= character <= "\udfff" for character in texts):
        raise ConfigError(f"{where}: a text holds a null character or half of a surrogate pair")
    return value


def _scalar(text: str, place: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if text.lower() in (".nan", ".inf", "-.inf", "+.inf", "nan", "inf", "-inf", "infinity", "-infinity"):
        raise ConfigError(f"{place}: {text} is not a finite number")
    if not _NUMBER.fullmatch(text):
        return text
    number = float(text)
    if math.isinf(number):
        raise ConfigError(f"{place}: {text} is not a finite number")
    return int(text) if re.fullmatch(r"[-+]?[0-9]+", text) else number
