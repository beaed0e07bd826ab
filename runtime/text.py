"""Text that every store and every reply can hold."""


def sound(text: str) -> str:
    """`text` with U+FFFD for lone surrogates, which charsets such as UTF-7 give and UTF-8 cannot carry."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
