"""What a method is cited with, read from a record that anybody may have written: an arXiv number or BibTeX entries.

BibTeX copies an entry's values into a file that TeX then runs, and TeX's commands can read and write files. So entries
are parsed, and only commands that typeset are let through. Grammar: the manual "BibTeXing" (O. Patashnik, 1988) and
"Designing BibTeX Styles"; ``@string``, ``@preamble`` and ``@comment`` are no entries and are refused.
"""

import re
from collections.abc import Iterator

LONGEST = 10_000  # characters of one citation
ARXIV = re.compile(r"[0-9]{4}\.[0-9]{4,5}")

_HEAD = re.compile(r"@([A-Za-z]+)\s*\{\s*([^\s,{}]*)\s*(?=[,}])")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/+-]{0,99}")
_FIELD = re.compile(r"\s*,\s*([A-Za-z][A-Za-z0-9_-]*)\s*=\s*")
_END = re.compile(r"\s*,?\s*\}")
_WORD = re.compile(r"[0-9]+|[A-Za-z][A-Za-z0-9]*")  # a year, or a macro of the style, as jan
_COMMAND = re.compile(r"\\([A-Za-z]+|.|$)", re.DOTALL)
_NO_ENTRIES = {"string", "preamble", "comment"}
_ADDRESSES = {"url", "doi"}  # where % is a letter

# Letters and accents, the ways to emphasise, and mathematics of titles. One that is not here may do anything.
_ACCENTS = frozenset("`'^\"~=.&%$#_{}- ,;:!/")
_TYPESETTING = """
aa AA ae AE oe OE o O l L ss i j c k r u v H b d t dh DH dj DJ ng NG th TH
emph textit textbf textsc textsf texttt textrm textup textsl it bf sc sf tt rm em sl url doi
textsuperscript textsubscript textendash textemdash textasciitilde textbackslash textquoteright ldots dots
ensuremath mathrm mathbf mathcal mathbb mathit text times cdot approx sim leq geq ell infty frac sqrt hat bar tilde
alpha beta gamma delta epsilon eta theta kappa lambda mu nu pi rho sigma tau phi chi psi omega
Gamma Delta Theta Lambda Pi Sigma Phi Psi Omega
"""
_WORDS = frozenset(_TYPESETTING.split())


def keys_of(citation: str) -> tuple[str, ...]:
    """The keys under which a citation stands in a BibTeX file.

    Args:
        citation: an arXiv number, or one BibTeX entry or more.

    Raises:
        ValueError: it is neither, or would make TeX do more than typeset; in a few words why.
    """
    if ARXIV.fullmatch(citation):
        return (f"arxiv-{citation}",)
    if len(citation) > LONGEST:
        raise ValueError(f"it has {len(citation)} characters, more than {LONGEST}")
    if any(ord(letter) < 32 and letter not in "\t\r\n" for letter in citation) or "\x7f" in citation:
        raise ValueError("it holds control characters")
    if not citation.lstrip().startswith("@"):
        raise ValueError("it is neither an arXiv number nor a BibTeX entry")
    return tuple(_entries(citation.strip()))


def _entries(text: str) -> Iterator[str]:
    place = 0
    while place < len(text):
        head = _HEAD.match(text, place)
        if head is None:
            raise ValueError("it is no BibTeX entry: @kind{key, name = {value}}")
        kind, key = head.groups()
        if kind.lower() in _NO_ENTRIES:
            raise ValueError(f"@{kind} is no entry")
        if not _KEY.fullmatch(key):
            raise ValueError("its key is not of letters, digits and _.:/+-")
        place = _after_blanks(text, _fields(text, head.end()))
        yield key


def _after_blanks(text: str, place: int) -> int:
    while text[place : place + 1].isspace():
        place += 1
    return place


def _fields(text: str, place: int) -> int:
    """Where an entry ends, whose fields begin at a place."""
    while field := _FIELD.match(text, place):
        place, parts = field.end(), 0
        while not parts or text[place : place + 1] == "#":
            place = _after_blanks(text, place + bool(parts))
            end = _value(text, place)
            _refuse_commands(text[place:end], field[1].lower())
            place, parts = _after_blanks(text, end), parts + 1
    closing = _END.match(text, place)
    if closing is None:
        raise ValueError("its fields or braces do not end")
    return closing.end()


def _value(text: str, place: int) -> int:
    """Where a value ends: in braces, in quotes, or a word. As in BibTeX a backslash hides no brace."""
    quoted, depth = text[place : place + 1] == '"', 0
    if not quoted and text[place : place + 1] != "{":
        if word := _WORD.match(text, place):
            return word.end()
        raise ValueError("a field has no value")
    for end in range(place + quoted, len(text)):
        depth += (text[end] == "{") - (text[end] == "}")
        if depth < 0:
            break
        if depth == 0 and (text[end] == '"' if quoted else text[end] == "}"):
            return end + 1
    raise ValueError("its braces are not balanced")


def _refuse_commands(value: str, field: str) -> None:
    if "^^" in value:  # TeX's other way to write any letter, a backslash too
        raise ValueError("it holds ^^")
    for command in _COMMAND.findall(value):
        if command not in _WORDS and command not in _ACCENTS:
            raise ValueError(f"it holds the TeX command \\{command}")
    if field not in _ADDRESSES and re.search(r"(?<!\\)%", value):
        raise ValueError("it holds % without a backslash, which hides the rest of its line")
