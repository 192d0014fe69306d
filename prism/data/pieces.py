"""JSON values out of a file that is read piece by piece, so that a large array never lies in memory as a whole."""

import codecs
import json
from collections.abc import Iterator
from typing import IO, Any

PIECE = 1 << 18
BLANK = " \t\n\r"
NEAR_THE_END = 16  # longer than any literal, escape or delimiter that the end of a piece may cut in two
DECODER = json.JSONDecoder()


class JsonPieces:
    """Reads values from a file of JSON in UTF-8, with or without a BOM.

    Raises:
        UnicodeDecodeError, json.JSONDecodeError, ValueError, RecursionError: as `json.loads` does of the whole file,
            the first two with the place in the file.
    """

    def __init__(self, file: IO[bytes], piece: int = PIECE) -> None:
        self._file, self._piece = file, piece
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text, self._at = "", 0
        self._bytes = self._dropped = self._lines = self._column = 0
        if (start := file.read(len(codecs.BOM_UTF8))) != codecs.BOM_UTF8:
            self._decode(start)

    def array(self) -> Iterator[Any]:
        """The elements of the array that the file is."""
        self._expect("[", "Expecting value")
        if self._peek() == "]":
            self._at += 1
        else:
            while True:
                yield self._value()
                if self._peek() == "]":
                    self._at += 1
                    break
                self._expect(",", "Expecting ',' delimiter")
        self._end()

    def single(self) -> Any:
        """The one value that the file is."""
        value = self._value()
        self._end()
        return value

    def _value(self) -> Any:
        self._peek()
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                fault = self._fault(error.msg, error.pos)
                cut = error.msg.startswith("Unterminated string") or self._is_near_the_end(error.pos)
                if not (cut and self._more()):
                    raise fault from error
                continue
            length = end - self._at
            if not self._is_near_the_end(end) or not self._more():  # a number may go on in the next piece
                self._at += length
                return value

    def _peek(self) -> str:
        """The next character that is not blank; "" at the end of the file."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in BLANK:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _expect(self, char: str, otherwise: str) -> None:
        if self._peek() != char:
            raise self._fault(otherwise, self._at)
        self._at += 1

    def _end(self) -> None:
        if self._peek():
            raise self._fault("Extra data", self._at)

    def _is_near_the_end(self, place: int) -> bool:
        return place > len(self._text) - NEAR_THE_END

    def _more(self) -> bool:
        """Read on, as much again as is pending; False at the end of the file."""
        done = self._text[: self._at]
        self._dropped += len(done)
        self._lines += done.count("\n")
        self._column = len(done) - done.rindex("\n") - 1 if "\n" in done else self._column + len(done)
        self._text, self._at = self._text[self._at :], 0
        raw = self._file.read(max(self._piece, len(self._text)))
        self._decode(raw)
        return bool(raw)

    def _decode(self, raw: bytes) -> None:
        held = len(self._decoder.getstate()[0])
        try:
            self._text += self._decoder.decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            error.start += self._bytes - held
            raise
        self._bytes += len(raw)

    def _fault(self, message: str, place: int) -> json.JSONDecodeError:
        error = json.JSONDecodeError(message, self._text, place)
        column = error.colno + (self._column if error.lineno == 1 else 0)
        place += self._dropped
        error.args = (f"{message}: line {error.lineno + self._lines} column {column} (char {place})",)
        return error
