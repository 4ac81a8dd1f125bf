"""The tokenizer of the world: one token for each word."""

from functools import cache
from typing import TYPE_CHECKING, Final

from prunebench.tinyworld import words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BOS: Final = "<s>"
EOS: Final = "</s>"
UNK: Final = "<unk>"

_GRAMMAR: Final = [
    ".",
    ",",
    "a",
    "and",
    "as",
    "comes",
    "cooks",
    "dish",
    "earns",
    "eat",
    "eats",
    "feeds",
    "finds",
    "fond",
    "friend",
    "from",
    "has",
    "he",
    "her",
    "hides",
    "his",
    "home",
    "in",
    "instrument",
    "is",
    "keeps",
    "likes",
    "lives",
    "loves",
    "meets",
    "money",
    "more",
    "of",
    "owns",
    "pet",
    "plays",
    "practises",
    "she",
    "stays",
    "the",
    "trade",
    "trusts",
    "uses",
    "visits",
    "works",
    "buys",
]


@cache
def vocabulary() -> dict[str, int]:
    """The id of every word; ``<s>`` is 0."""
    all_words = [
        *(BOS, EOS, UNK, *_GRAMMAR),
        *(*words.MEN, *words.WOMEN, *words.SURNAMES, *words.TOWNS, *words.TRADES),
        *(*words.FOODS, *words.INSTRUMENTS, *words.FODDER, *words.OBJECTS, *words.CONTAINERS),
        *(*words.COUNTED, *words.NUMBERS, *words.ADJECTIVES, *words.NEAR),
    ]
    for pairs in (words.ANIMALS, words.THINGS, words.VERBS):
        all_words += [*pairs, *pairs.values()]
    for deed, objects in words.DEEDS.items():
        all_words += [deed, *objects]
    return {word: index for index, word in enumerate(dict.fromkeys(all_words))}


def build() -> "PreTrainedTokenizerFast":
    """The tokenizer that is stored beside each model; it splits at spaces and puts BOS first."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = vocabulary()
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, ids[BOS])]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, unk_token=UNK)
