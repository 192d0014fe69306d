"""The words of a text, as texts are compared: whatever their case, punctuation and compatibility forms."""

import re
import unicodedata

# scripts that write no spaces between words: every character counts as one
UNSPACED = "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
WORD = re.compile(f"[{UNSPACED}\U00020000-\U0003ffff]|[^\\W{UNSPACED}\U00020000-\U0003ffff]+")


def normal(text: str) -> str:
    """Without case, in Unicode's compatibility form."""
    return unicodedata.normalize("NFKC", text).casefold()


def words_of(text: str) -> list[str]:
    """In their order; of scripts that write no spaces, the characters."""
    return WORD.findall(normal(text))
