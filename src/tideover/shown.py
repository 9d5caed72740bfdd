"""Text of others, as people are shown it: in one line, without orders to a terminal, and never too long.

Whatever comes from etcd, and from what stands on the way to it, may have been written by anybody: keys, values,
messages of errors, names and versions of members. It passes through here on its way into a log, the message of an
error, or a terminal; not where a program reads it, such as a value that was asked for, or JSON.
"""

from __future__ import annotations

# Characters: enough to recognise a text, too few to fill a screen.
MOST = 200
# Characters of a whole line, message or sentence: several names and what is said of them.
LONGEST_LINE = 1000
_CUT = "..."
_LEFT_OUT = " ... "


def shown(text: str | bytes, most: int = MOST) -> str:
    """Return a text with all that is not printable escaped: controls, surrogates, bytes that are no text."""
    if isinstance(text, bytes):
        # What is cut off anyway need not be decoded; a character has four bytes at the most.
        text = text[: 4 * most + 4].decode(errors="backslashreplace")
    if len(text) <= most and text.isprintable():
        return text
    return cut(_escaped(text[: most + 1]), most)


def shown_line(text: str, most: int = LONGEST_LINE) -> str:
    """Return a whole line or message, escaped as by `shown`; what is longer loses its middle.

    A name that others have made long stands somewhere in it, and what happened at its end.
    """
    if len(text) <= most and text.isprintable():
        return text
    escaped = _escaped(text) if len(text) <= 2 * most else _escaped(text[:most]) + _escaped(text[-most:])
    if len(escaped) <= most:
        return escaped
    beginning = most * 3 // 5
    return escaped[:beginning] + _LEFT_OUT + escaped[beginning + len(_LEFT_OUT) - most :]


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def quoted(value: object) -> str:
    """Return a value in quotation marks, or whatever else its `repr` is, escaped and cut."""
    try:
        return shown(repr(value))
    except ValueError:
        # Python refuses to write an `int` of more than 4300 digits.
        return f"<{type(value).__name__}>"


def cut(text: str, most: int) -> str:
    """Return a text as it is, for programs, up to so many characters; what is longer ends in `...`."""
    return text if len(text) <= most else text[: most - len(_CUT)] + _CUT
