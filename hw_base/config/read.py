"""Strict reading of JSON and YAML: what the two formats let pass silently is an error here, with line and column.

Refused: duplicate keys (both formats keep the last one), NaN and infinities, numbers that overflow, YAML anchors and
aliases (a few hundred bytes of them unfold to billions of nodes), nesting deeper than `MAX_DEPTH`.
Repaired: YAML scalars follow JSON's rules, so that ``1e-3`` is a number and ``no``, ``012`` and ``1:30`` are strings.
"""

import json
import math
import re
from collections.abc import Iterator
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
            raise ConfigError(f"{path}: larger than {MAX_BYTES // 2**20} MiB, which no config is")
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
        return json.loads(text)
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


def parse_yaml(text: str, where: str) -> Any:
    """Parse YAML by JSON's scalar rules; ``where`` names the source in messages."""
    try:
        return _build(_checked_events(text, where), where)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
        raise ConfigError(f"{place}: not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not YAML: {str(error).splitlines()[0]}") from None


def _at(event: yaml.Event, where: str) -> str:
    mark: Any = event.start_mark
    return f"{where}:{mark.line + 1}:{mark.column + 1}"


def _checked_events(text: str, where: str) -> Iterator[yaml.Event]:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        place = _at(event, where)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ConfigError(f"{place}: YAML anchors and aliases are not allowed; write the value out")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise ConfigError(f"{place}: nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        yield event


def _build(events: Iterator[yaml.Event], where: str) -> Any:
    documents = 0
    value: Any = None
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise ConfigError(f"{_at(event, where)}: a second document; one a file")
        elif isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
            value = _node(event, events, where)
    return value


def _node(event: yaml.Event, events: Iterator[yaml.Event], where: str) -> Any:
    """The value that starts with ``event``; recursion is bounded by `MAX_DEPTH`."""
    if isinstance(event, yaml.ScalarEvent):
        return event.value if event.style else _scalar(event.value, _at(event, where))
    if isinstance(event, yaml.SequenceStartEvent):
        items = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(_node(event, events, where))
        return items
    mapping: dict[str, Any] = {}
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        if not isinstance(event, yaml.ScalarEvent):
            raise ConfigError(f"{_at(event, where)}: a key is a plain name")
        if event.value in mapping:
            raise ConfigError(f'{_at(event, where)}: the key "{event.value}" appears twice')
        mapping[event.value] = _node(next(events), events, where)
    return mapping


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
