"""Mutations of JSON-like content and of bytes, from a seeded source of randomness."""

import copy
import json
import random
from typing import Any

import yaml

NASTY_TEXTS = (
    "", " ", ".", "..", "../../x", "/etc/passwd", "~root", "a/b", "builtin/", "builtin/nothing", "@", "x@y",
    ":", "2:4", "4:2", "0:0", "x" * 5000, "\x1b[31mred\x07", "\u202eevil", "\u200b", "é", "e\u0301", "日本", "😀",
    "<script>alert(1)</script>", "$x^{", "|", "*", "=1+1", "@SUM(1)", "\ud800", "\0", "\n", "a\nb", "%s{0}",
    "no", "1e-3", "nan", "inf", "NaN", "Infinity", "-1", "1_000", "CON", "a" * 300, "\ufeff", "\u2028",
    "&amp;", "</svg>", "\\", "\\textbf{x}", "]]>", "--", "-", "0.5", "0.5.5", "1" * 400, "0." + "9" * 400,
    "perplexity", "zero_shot", "file", "uniform", "dense", "stream", "document", "paper", "random", "stream-bos",
    "paper-bos", "auto", "cpu", "cuda",
)  # fmt: skip
NASTY_NUMBERS = (
    0, -0.0, -1, 1, 2, 0.5, 1.0, 1.5, 1e-320, 1e308, -1e308, 1 << 31, 1 << 62, 1 << 63, 1 << 64, 10**400, float("nan"),
    float("inf"), float("-inf"), True, False,
)  # fmt: skip
NASTY_REST: tuple[Any, ...] = (
    None,
    [],
    {},
    [[]],
    [{}],
    {"": None},
    [None],
    {"a": {"b": {"c": []}}},
    [1, "a", None],
    "x",
)


def nasty(rng: random.Random) -> Any:
    """A value that somebody did not think of."""
    return copy.deepcopy(rng.choice(rng.choice((NASTY_TEXTS, NASTY_NUMBERS, NASTY_REST))))


def mutated(rng: random.Random, content: Any, most: int = 3) -> Any:
    """JSON-like content with one to ``most`` changes."""
    content = copy.deepcopy(content)
    for _ in range(rng.randint(1, most)):
        places = list(_places(content))
        if not places:
            return content
        holder, key = rng.choice(places) if rng.random() < 0.5 else _descent(rng, content)
        if key in holder if isinstance(holder, dict) else key < len(holder):
            _change(rng, holder, key, places)
    return content


def _descent(rng: random.Random, content: Any) -> tuple[Any, Any]:
    """A place found by going down from the top, so that long lists do not draw every change."""
    while True:
        key = rng.choice(list(content) if isinstance(content, dict) else range(len(content)))
        inner = content[key]
        if not isinstance(inner, dict | list) or not inner or rng.random() < 0.3:
            return content, key
        content = inner


def _places(value: Any) -> Any:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield value, key
        yield from _places(inner)


def _change(rng: random.Random, holder: Any, key: Any, places: list[Any]) -> None:
    kind = rng.randrange(9)
    value = holder[key]
    if kind <= 2:
        holder[key] = nasty(rng)
    elif kind == 3:
        del holder[key]
    elif kind == 4:
        other, place = rng.choice(places)
        if place in other if isinstance(other, dict) else place < len(other):
            holder[key] = copy.deepcopy(other[place])
    elif kind == 5:
        holder[key] = rng.choice(([value], {"x": value}, [value, copy.deepcopy(value)], str(value)))
    elif kind == 6 and isinstance(holder, dict):
        holder[rng.choice([str(nasty(rng))[:400], str(key)[:-1], str(key).upper()])] = holder.pop(key)
    elif kind == 7:
        holder[key] = _tweaked(rng, value)
    else:
        for _ in range(rng.choice((3, 70, 200))):
            value = [value] if rng.random() < 0.5 else {"x": value}
        holder[key] = value


def _tweaked(rng: random.Random, value: Any) -> Any:
    if isinstance(value, bool | None):
        return rng.choice((not value, "true", 1))
    if isinstance(value, int | float):
        return rng.choice((-value, value + 1, value / 2, value * 1000, float(value), str(value)))
    if isinstance(value, str) and value:
        place = rng.randrange(len(value))
        return value[:place] + str(rng.choice(("", nasty(rng), "é", value[place:][::-1])))
    return nasty(rng)


def as_text(rng: random.Random, content: Any) -> bytes:
    """Content as YAML or JSON, laid out in one of several ways."""
    kind = rng.randrange(3)
    if kind == 0:
        return json.dumps(content, ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass")
    if kind == 1:
        return json.dumps(content, indent=1).encode()
    try:
        return yaml.safe_dump(content, allow_unicode=True, sort_keys=False).encode(errors="surrogatepass")
    except (yaml.YAMLError, RecursionError):
        return json.dumps(content).encode()


TOKENS = (
    b"&a ", b"*a", b"<<: *a", b"!!python/object:x", b"!!binary ", b"? ", b"- ", b": ", b"{", b"}", b"[", b"]",
    b"\t", b"\n", b"\r", b"#", b"|", b">", b"%YAML 1.1\n", b"---\n", b"...\n", b"\xff", b"\xef\xbb\xbf",
    b"\x00", b"'", b'"', b"\\", b"\\u0000", b"\\ud800", b"NaN", b"1e999", b"9" * 5000, b"[" * 2000,
    b"{\"a\":" * 500, b"e\xcc\x81", b"null", b"-", b".", b"\xe2\x80\xae", b"\x1b[2J", b"\xf0\x9f\x98\x80",
)  # fmt: skip


def mutated_bytes(rng: random.Random, content: bytes) -> bytes:
    """Bytes with a few flips, cuts, copies and foreign tokens."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        place, kind = rng.randrange(len(found) + 1), rng.randrange(6)
        length = rng.choice((1, 2, 8, 100))
        if kind == 0 and place < len(found):
            found[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del found[place:]
        elif kind == 2:
            del found[place : place + length]
        elif kind == 3:
            found[place:place] = found[place : place + length]
        elif kind == 4:
            found[place:place] = rng.choice(TOKENS)
        else:
            found[place : place + length] = bytes(rng.randrange(256) for _ in range(min(length, len(found) - place)))
    return bytes(found)
