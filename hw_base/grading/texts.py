"""Untrusted text on its way into a report."""

import unicodedata

_KEPT = "\n\t"
_LONGEST = 2_000


def clean(text: str, longest: int = _LONGEST) -> str:
    """The text with everything that could steer a terminal or reorder a line made visible as an escape.

    Args:
        text: of any origin.
        longest: characters; the rest is counted only.
    """
    shown = "".join(c if c in _KEPT or unicodedata.category(c)[0] != "C" else _escaped(c) for c in text[:longest])
    return shown + (f" [... {len(text) - longest} characters more]" if len(text) > longest else "")


def steers(text: str) -> bool:
    """Whether a text holds control characters, among them those that change the direction of writing."""
    return any(unicodedata.category(c) in ("Cc", "Cf", "Cs") and c not in "\n\t\r\u200c\u200d" for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
