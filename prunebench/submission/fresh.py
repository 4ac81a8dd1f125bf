"""A submission measured again: its weights in a model that the verifier has, on text that it cannot have seen.

Of a submission only tensors are read, from ``sparse/<cell>/sparse.safetensors``. Model, configuration and tokenizer are
those of the dense model, which is found by the name that the record gives and must have the digest that it gives.
"""

import copy
import re
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from prunebench.data.corpora import find_corpus, fresh_corpus
from prunebench.data.corpus import Corpus
from prunebench.data.noise import noisy
from prunebench.data.text_files import is_text_file
from prunebench.errors import PrunebenchError, UsageError, first_line
from prunebench.evaluation.interface import is_ours
from prunebench.evaluation.perplexity import PerplexityResult, perplexity, verified
from prunebench.evaluation.protocols import Sequences, evaluation_sequences
from prunebench.files import with_home
from prunebench.models.digest import unique_names, weights_digest
from prunebench.models.loading import load_model
from prunebench.models.source import find_model
from prunebench.models.sparse import FILE, read_tensors
from prunebench.pruning.layers import all_layers
from prunebench.pruning.sparsity import NM, parse_pattern
from prunebench.records.array_files import parsed_arrays
from prunebench.records.record import SPARSE_FOLDER, Record
from prunebench.records.saved_models import model_folders
from prunebench.report.grouping import DENSE
from prunebench.runner.mask_sample import mask_sample
from prunebench.submission.finding import Finding

NEAR = 5e-3  # relative, of a perplexity that was measured on another machine


class Again:
    """Measures the cells of one submission; a dense model is loaded once.

    Args:
        folder: the submission.
        text: a file of text that the verifier names; None for text that is generated now, where a corpus can be.
        tell: called with a line for each cell that is measured.

    Raises:
        UsageError: the text cannot be read.
    """

    def __init__(self, folder: Path, text: Path | None, tell: Callable[[str], None]) -> None:
        self._folder, self._tell = folder, tell
        self._text = None if text is None else find_corpus(str(text.resolve()), None, "perplexity")
        self._seed = secrets.randbits(62)
        self._dense: tuple[str, Any, Any] | None = None
        self._known: dict[tuple[str, ...], Any] = {}
        self.measured = 0

    def findings(self, record: Record) -> list[Finding]:
        """What is wrong with a cell's weights, and with its perplexities on other text; nothing of a dense model."""
        if record.cell.sparsity == DENSE and (record.method is None or record.method.changes == "nothing"):
            return []
        try:
            faults = self._faults(record)
        except PrunebenchError as error:
            faults = [f"it cannot be measured again: {first_line(error)}"]
        except Exception as error:  # a forged record may hold anything in the place of a setting
            faults = [f"it cannot be measured again: {type(error).__name__}: {first_line(error)}"]
        return [Finding(record.cell.id, fault) for fault in faults]

    def _faults(self, record: Record) -> list[str]:
        place = model_folders(self._folder, record).get(SPARSE_FOLDER)
        if place is None or not (place / FILE).is_file():
            return [f"its weights are not there ({SPARSE_FOLDER}/…/{FILE}): run the suite with --save-models"]
        dense, tokenizer = self._dense_model(record)
        self._tell(f"measuring {record.cell.id} again")
        try:
            tensors = read_tensors(place / FILE)
        except Exception as error:  # safetensors and json raise a dozen types for a damaged file
            return [f"{FILE} cannot be read: {first_line(error)}"]
        model = copy.deepcopy(dense)
        if fault := _fill(model, tensors):
            return [fault]
        arrays = parsed_arrays(self._folder, record)
        faults = _weights(record, model, arrays)
        self.measured += 1
        for facts in record.cell.evaluations:
            if facts.get("protocol") in record.perplexity and is_ours(facts):
                faults += self._perplexity(record, facts, model, dense, tokenizer)
        return faults

    def _dense_model(self, record: Record) -> tuple[Any, Any]:
        extra = record.cell.model_extra or {}
        source, dtype = str(extra.get("source")), str(extra.get("dtype"))
        if Path(source).is_absolute() or with_home(source).is_dir():
            raise UsageError(f"its dense model {source} is a folder, not one that others have")
        digest = str(extra.get("model_digest"))
        key = f"{digest} {dtype}"
        if self._dense is None or self._dense[0] != key:
            found = find_model(source)  # no code of a model runs
            if found.digest != digest:
                raise UsageError(f"the dense model {source} has the digest {found.digest[:16]} here, not {digest[:16]}")
            self._dense = (key, *load_model(found, dtype=dtype, device="cpu"))
        return self._dense[1], self._dense[2]

    def _perplexity(
        self, record: Record, facts: Mapping[str, Any], model: Any, dense: Any, tokenizer: Any
    ) -> list[str]:
        protocol = str(facts["protocol"])
        if is_text_file(str(facts["source"])) or Path(str(facts["source"])).is_absolute():
            return [f"{protocol}: its text {facts['source']} is a file, not one that others have"]
        source, split, noise = facts["source"], facts.get("split"), facts.get("noise")
        if self._text is None:
            other = fresh_corpus(source, split, self._seed, noise=noise)
        else:
            other = self._text if noise is None else noisy(self._text, noise)
        corpus = find_corpus(source, split, "perplexity", field=facts.get("field"), noise=noise)
        if corpus.digest != facts.get("digest"):
            return [f"{protocol}: the text {source} has another digest here, {corpus.digest[:16]}"]
        key = (str(self._dense[0]) if self._dense else "", protocol)
        usual = self._once((*key, "usual"), lambda: _cut(corpus, facts, tokenizer))
        pruned = perplexity(model, usual, protocol=protocol)
        told = record.perplexity[protocol].value
        faults = []
        if not np.isclose(pruned.value, told, rtol=NEAR, equal_nan=True):
            faults.append(f"{protocol}: its weights have {pruned.value:.6g} here, it says {told:.6g}")
        if other is None:
            self._tell(f"{protocol}: no new text of its kind can be made; name one with --text")
            return faults
        new = self._once((*key, "new"), lambda: _cut(other, facts, tokenizer, named=self._text is not None))
        both = [
            self._once((*key, name, "dense"), partial(perplexity, dense, cut, protocol=protocol))
            for name, cut in (("usual", usual), ("new", new))
        ]
        fresh = perplexity(model, new, protocol=protocol)
        found = verified((pruned, both[0]), (fresh, both[1]))
        self._tell(f"{protocol}: {_outcome(pruned, fresh)}; dense {found['dense']:.4g} and {found['dense_fresh']:.4g}")
        if not found["agrees"]:
            faults.append(
                f"{protocol}: on other text pruning costs {found['excess']:.4f} ± {found['excess_stderr']:.4f} nats a "
                f"token more than on that of the suite ({_outcome(pruned, fresh)}): it knew that text"
            )
        return faults

    def _once(self, key: tuple[str, ...], make: Callable[[], Any]) -> Any:
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]


def _outcome(usual: PerplexityResult, fresh: PerplexityResult) -> str:
    return f"perplexity {usual.value:.4g}, on other text {fresh.value:.4g}"


def _cut(corpus: Corpus, facts: Mapping[str, Any], tokenizer: Any, *, named: bool = False) -> Sequences:
    """A corpus as the protocol cuts it; a paper's windows, which belong to one corpus, as a stream of their length."""
    windows, seqlen = facts["windows"], facts.get("seqlen")
    if named and windows.startswith("paper"):
        windows, seqlen = "stream", seqlen or int(re.findall(r"\d+", str(facts["protocol"]))[-1])
    given = corpus.given(tokenizer=tokenizer) if corpus.wants else corpus
    return evaluation_sequences(given, tokenizer, seqlen=seqlen, windows=windows, limit=facts.get("limit"))


def _fill(model: Any, tensors: Mapping[str, Any]) -> str | None:
    """Copy tensors into a model in place; what does not fit, if anything does not."""
    import torch

    state, names = model.state_dict(keep_vars=True), unique_names(model)
    if wrong := sorted(set(names) ^ tensors.keys()):
        return f"{FILE} and the dense model differ in {len(wrong)} tensors, {wrong[0]} for one"
    with torch.no_grad():
        for name in names:
            ours, theirs = state[name], tensors[name]
            if (ours.shape, ours.dtype) != (theirs.shape, theirs.dtype):
                return f"{name} is {tuple(theirs.shape)} {theirs.dtype}, not {tuple(ours.shape)} {ours.dtype}"
            ours.data.copy_(theirs)
    return None


def _weights(record: Record, model: Any, arrays: Mapping[str, np.ndarray]) -> list[str]:
    """The weights against the record: their digest, the zeros of each matrix, the pattern, the sample of the mask."""
    faults = []
    told = str(record.environment.get("weights_digest"))
    if (digest := weights_digest(model)) != told:
        faults.append(f"its saved weights have the digest {digest[:16]}, and it was measured with {told[:16]}")
    counted = record.sparsity.matrices if record.sparsity else {}
    pattern = parse_pattern(record.cell.sparsity)
    brought = record.method is not None and record.method.brought
    for layer in all_layers(model):
        zero = layer.weight == 0
        count = counted.get(layer.name)
        if count is None or count.zeros != int(zero.sum()):
            said = "none" if count is None else str(count.zeros)
            faults.append(f"{layer.name} holds {int(zero.sum())} zeros in its saved weights, it says {said}")
        if isinstance(pattern, NM) and not brought and zero.shape[1] % pattern.m == 0:
            kept = (~zero).reshape(-1, pattern.m).sum(1)
            if broken := int((kept > pattern.n).sum()):
                faults.append(f"{layer.name} breaks {pattern} in {broken} groups")
    sampled = arrays.get("mask") if record.cell.sparsity != DENSE else None
    if sampled is not None and not np.array_equal(mask_sample(model, pattern), sampled):
        faults.append("the sample of its mask is not that of its saved weights")
    return faults
