"""One text for each label, so that what a model gives and what turned out to be true can be compared.

On the way in, a boolean is `true` or `false`, a whole number its digits whatever it was written as (`1`
and `1.0` are `1`), another number its shortest digits, and text itself. Where the model's label is a number or
a boolean, texts are then compared as numbers, and `true` is 1: `1`, `1.0`, `"1"`, `True` and `"true"` are
one label. Where it is text, they are compared letter by letter.
"""

from __future__ import annotations

_EXACT = 2**53
"""Up to here every whole number is a float of its own."""

TRUE, FALSE = "true", "false"
Label = bool | int | float | str


def label_text(label: Label) -> str:
    """The text of a label as it is kept.

    >>> label_text(True), label_text(1), label_text(1.0), label_text(0.5), label_text("1.0")
    ('true', '1', '1', '0.5', '1.0')
    """
    if isinstance(label, bool):
        return TRUE if label else FALSE
    if isinstance(label, float):
        is_whole = label.is_integer() and abs(label) < _EXACT
        return str(int(label)) if is_whole else repr(label)
    return str(label)
