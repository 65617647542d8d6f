"""Bytes and lengths of time, as people read them."""


def size(number: float) -> str:
    """Return a number of bytes with a unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def duration(seconds: float) -> str:
    """Return a length of time in about two figures, with a unit."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        number = seconds / length
        if number >= 2:
            text = f"{number:.1f}".removesuffix(".0") if number < 9.95 else f"{number:.0f}"
            return f"{text} {unit}"
    return f"{seconds:.0f} s"
