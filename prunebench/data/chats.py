"""Chats as calibration and evaluation text: messages, and the text that a tokenizer's chat template makes of them."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from prunebench.errors import CorpusError, first_line, quoted
from prunebench.quiet import replaced

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = list[dict[str, Any]]

DAY = datetime(2024, 7, 26)


@contextmanager
def fixed_day() -> Iterator[None]:
    """Let chat templates that write the date of the day (Llama 3.2) write that which Llama 3 has where it is told none.

    Else no two days would have the same text.
    """
    from transformers.utils import chat_template_utils

    with replaced(chat_template_utils, datetime=SimpleNamespace(now=lambda: DAY)):
        yield


def as_messages(value: list[Any], where: str) -> Messages:
    """A list as the messages of a chat, without keys that hold nothing.

    Args:
        value: from a file.
        where: how a message of an error begins.

    Raises:
        CorpusError: an entry is no message.
    """
    for entry in value:
        if not isinstance(entry, dict) or not isinstance(entry.get("role"), str) or "content" not in entry:
            found = f"the keys {', '.join(map(str, entry))[:80]}" if isinstance(entry, dict) else quoted(entry, 40)
            raise CorpusError(
                f"{where} is a list, so it has to hold a chat, each message with 'role' and 'content': found {found}"
            )
    return [
        {key: part for key, part in entry.items() if part is not None or key in ("role", "content")} for entry in value
    ]


def render_chats(
    source: str, read: Callable[[], Iterable[Messages]], tokenizer: "PreTrainedTokenizerBase"
) -> Iterator[str]:
    """Each chat as a text with the special tokens that the template writes.

    Args:
        source: of the corpus, for a message.
        read: starts a pass over the chats.
        tokenizer: the model's own, with a chat template.

    Raises:
        CorpusError: it has none, or its template refuses a chat, as one in which the roles do not alternate.
    """
    refuse_without_template(source, tokenizer)
    for number, messages in enumerate(read(), start=1):
        try:
            with fixed_day():
                text = tokenizer.apply_chat_template(messages, tokenize=False)
        except Exception as error:  # templates raise what they like
            raise CorpusError(
                f"corpus {source}, chat {number}: the model's chat template refuses it: {first_line(error)}"
            ) from error
        yield str(text)


def refuse_without_template(source: str, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Refuse chats for a model whose tokenizer cannot write them.

    Raises:
        CorpusError: the tokenizer has no chat template.
    """
    if not tokenizer.chat_template:
        raise CorpusError(
            f"corpus {source} holds chats, and the model's tokenizer has no chat template: name another field with "
            "'field', use the chat version of the model, or put a chat_template.jinja into its folder"
        )
