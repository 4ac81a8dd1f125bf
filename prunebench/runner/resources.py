"""What the cells of one sweep share, so that it is found, tokenised and loaded once."""

import tempfile
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from prunebench.data.calibration_text import calibration_text, pool_of, tensors_of
from prunebench.data.corpora import find_corpus
from prunebench.data.corpus import Corpus
from prunebench.errors import ContractError, CorpusError, DeviceError, ModelError
from prunebench.evaluation.interface import Shared, is_ours
from prunebench.files import remove_tree
from prunebench.models.loading import load_model, load_skeleton, load_tokenizer
from prunebench.models.source import ModelSource, context_length, files_state, find_model
from prunebench.pruning import CalibrationData, UnknownMatrixError
from prunebench.pruning.layers import all_layers
from prunebench.pruning.pools import Pool
from prunebench.records.store import refuse_irregular
from prunebench.registry.entry_points import ALLOCATIONS, CORPORA, GROUP, WRAPPERS, sources
from prunebench.registry.options import Deferred
from prunebench.runner.memory import large_apart
from prunebench.suite.cell import Cell


class Resources:
    """What the cells of one sweep share: found models, tokenised text, loaded tasks; text is keyed by digests.

    Args:
        shared: what evaluations have looked up already.
        output: the results folder, in which models on disk are worked on; by default the system's temporary folder.
    """

    def __init__(self, shared: Shared | None = None, output: Path | None = None) -> None:
        self.shared = shared or Shared()
        self.output = output or Path(tempfile.gettempdir())
        self._models: dict[Hashable, ModelSource] = {}
        self._states: dict[Hashable, object] = {}

    def model(self, cell: Cell) -> ModelSource:
        """The model of a cell, found and hashed once."""
        asked = {name: getattr(cell, name) for name in ("trust_remote_code", "tokenizer", "attn_implementation")}
        key = (cell.source, *asked.values())
        if key not in self._models:
            self._models[key] = found = find_model(cell.source, **asked)
            self._states[key] = files_state(found)
        return self._models[key]

    def refuse_changed_model(self, cell: Cell) -> None:
        """Refuse a model whose files were written to since the suite was planned, or since they were hashed here.

        Raises:
            ContractError: they were.
        """
        found = self.model(cell)
        state = self._states[cell.source, cell.trust_remote_code, cell.tokenizer, cell.attn_implementation]
        same = found.digest == cell.model_digest and cell.chat_template in (None, found.chat_template)
        if not same or files_state(found) != state:
            raise ContractError(f"the files of the model {cell.model} were changed while the cell ran: run it again")

    def pool(self, cell: Cell, tokenizer: Any) -> Pool:
        """What the calibration windows of a cell are drawn from; see ``prunebench.data.calibration_text``."""
        spec = cell.calibration

        def tokenised() -> Pool:
            corpus = self._calibration_corpus(cell, tokenizer)
            return calibration_text(corpus, tokenizer, seqlen=spec.seqlen, windows=spec.windows)

        return self.shared.get(pool_key(cell), tokenised)

    def pool_tensors(self, cell: Cell) -> dict[str, Tensor]:
        """The same of a corpus of others, for a process that does not run its code."""
        spec, tokenizer = cell.calibration, self.tokenizer(cell)
        corpus = self._calibration_corpus(cell, tokenizer)
        return tensors_of(corpus, tokenizer, seqlen=spec.seqlen, windows=spec.windows)

    def take_pool(self, cell: Cell, tensors: Mapping[str, Tensor]) -> None:
        """Take the tokenised calibration text of a cell from a process that ran its corpus.

        Raises:
            CorpusError: it is none.
        """
        spec = cell.calibration
        pool = pool_of(tensors, spec.corpus, spec.seqlen, spec.windows)
        self.shared.get(pool_key(cell), lambda: pool)

    def _calibration_corpus(self, cell: Cell, tokenizer: Any) -> Corpus:
        spec = cell.calibration
        files = [Path(spec.plugin_file)] if spec.plugin_file else []
        corpus = find_corpus(spec.source, spec.split, "calibration", files, spec.field, spec.noise)
        if corpus.wants:
            corpus = corpus.given(model=Deferred(lambda: self.dense(cell)), tokenizer=tokenizer, seed=cell.seed)
        return corpus

    def available(self, cell: Cell) -> dict[str, Any]:
        """What the evaluations of a cell may name; see ``prunebench.evaluation.interface.Evaluation``."""
        return {
            "shared": self.shared,
            "model_digest": tokens_digest(cell),
            "seed": cell.seed,
            "dense": Deferred(lambda: self.dense(cell)),
            "windows": Deferred(lambda: self.windows(cell)),
        }

    def dense(self, cell: Cell) -> Any:
        """The model of a cell before pruning, loaded anew.

        Raises:
            DeviceError: it is on disk, where no model is in memory as a whole.
        """
        if cell.device == "disk":
            raise DeviceError("the dense model is asked for, which device 'disk' never holds: use cpu or cuda")
        return load_model(self.model(cell), dtype=cell.dtype, device=cell.device)[0]

    def windows(self, cell: Cell) -> Tensor:
        """The calibration windows of a cell, LongTensor (nsamples, seqlen)."""
        return self.calibration(cell, load_tokenizer(self.model(cell))).windows

    def calibration(self, cell: Cell, tokenizer: Any) -> CalibrationData:
        """The calibration data of a cell, from which nothing was taken yet."""
        pool, spec = self.pool(cell, tokenizer), cell.calibration
        drawn = {"nsamples": spec.nsamples, "seqlen": spec.seqlen, "seed": cell.seed}
        return CalibrationData(pool, **drawn, teacher=lambda: self.dense(cell))

    def prepare(self, cells: Sequence[Cell]) -> None:
        """Read every text and task that ``cells`` use, so that what is amiss shows before anything runs.

        Raises:
            UsageError: a text is shorter than one window, a window longer than the model's context, or a task's data
                not there.
        """
        self.prepare_pruning(cells)
        self.prepare_measuring(cells)

    def prepare_pruning(self, cells: Iterable[Cell]) -> None:
        """Read what pruning needs: calibration text, and the windows of each seed; see ``prepare``."""
        drawn = set()
        for cell in cells:
            self._check_blocks(cell)
            if (key := (pool_key(cell), cell.calibration.nsamples, cell.seed)) not in drawn:
                drawn.add(key)
                self.calibration(cell, self.tokenizer(cell))
            self._check_context(cell, cell.calibration.corpus, cell.calibration.seqlen)

    def prepare_measuring(self, cells: Iterable[Cell], *, ours: bool = True, others: bool = True) -> None:
        """Read what evaluations need: texts and tasks; see ``prepare``.

        Args:
            cells: to be run.
            ours: look at the evaluations that come with prunebench.
            others: look at those of plugins.
        """
        for cell in cells:
            for evaluation in cell.evaluations:
                if ours if is_ours(evaluation.facts) else others:
                    bound = evaluation.bound()
                    length = bound.prepare(self.tokenizer(cell), **self.available(cell))
                    self._check_context(cell, bound.title, length)

    def _check_blocks(self, cell: Cell) -> None:
        """Refuse a model whose matrices are not all known, from its configuration alone; code it brings does not run.

        Raises:
            ModelError: one of its blocks holds a matrix of an unknown kind.
        """

        def check() -> None:
            model = self.model(cell)
            try:
                all_layers(load_skeleton(model))
            except UnknownMatrixError as error:
                raise ModelError(f"model {cell.model} cannot be pruned: {error}; the README lists families") from None

        if not cell.trust_remote_code:
            self.shared.get(("blocks", cell.model_digest), check)

    def tokenizer(self, cell: Cell) -> Any:
        """The tokenizer of a cell's model, loaded once."""
        return self.shared.get(("tokenizer", tokens_digest(cell)), lambda: load_tokenizer(self.model(cell)))

    def _check_context(self, cell: Cell, name: str, length: int | None) -> None:
        context = context_length(self.model(cell))
        if context is not None and length is not None and length > context:
            raise CorpusError(
                f"{name}: a window of {length} tokens is longer than the context of {cell.model}, {context}: "
                f"set its seqlen to at most {context}"
            )


def tokens_digest(cell: Cell) -> str:
    """What decides how the model of a cell reads a text: its files, and its chat template where one is applied."""
    return cell.model_digest if cell.chat_template is None else f"{cell.model_digest} {cell.chat_template}"


def pool_key(cell: Cell) -> tuple[Any, ...]:
    """What cells have in common that have one calibration text."""
    spec = cell.calibration
    return ("pool", tokens_digest(cell), spec.digest, spec.seqlen, spec.windows, cell.seed if spec.made else None)


def is_calibrated_by_plugin(cell: Cell) -> bool:
    """Whether code of others makes the calibration text of a cell."""
    spec = cell.calibration
    found = sources(CORPORA).get(spec.source, ())
    return spec.plugin_file is not None or not all(source.is_ours for source in found)


def runs_code_of_others(cell: Cell) -> bool:
    """Whether a cell has a method, allocation, corpus, evaluation or wrapper that does not come with prunebench."""
    rule = cell.allocation_rule
    rules = [] if rule is None else sources(ALLOCATIONS).get(rule.name, [])
    wrappers = [source for found in sources(WRAPPERS).values() for source in found]
    methods = [source for method in cell.methods for source in sources(GROUP).get(method.plugin, [])]
    return (
        any(method.plugin_file is not None for method in cell.methods)
        or (rule is not None and rule.plugin_file is not None)
        or not all(source.is_ours for source in (*methods, *rules, *wrappers))
        or bool(cell.wrapper_files)
        or is_calibrated_by_plugin(cell)
        or not all(is_ours(evaluation.facts) for evaluation in cell.evaluations)
    )


@contextmanager
def work_folder(output: Path, cell: Cell) -> Iterator[Path]:
    """An empty folder for one run of a cell, private, gone afterwards; for a model on disk memory does not pile up.

    Args:
        output: a folder on the disk that takes the pruned tensors.
        cell: what runs.
    """
    output.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{cell.id}.", suffix=".work", dir=output))
    try:
        with large_apart() if cell.device == "disk" else nullcontext():
            yield folder
    finally:
        with suppress(OSError):
            remove_tree(folder)


def remove_left_work(output: Path, cell: Cell) -> None:
    """Remove the folders of runs of a cell that were killed; only for who holds its claim.

    Raises:
        OutputError: one of them is a link.
    """
    for folder in output.glob(f".{cell.id}.*.work"):
        refuse_irregular(output, [folder.name])
        with suppress(OSError):
            remove_tree(folder)
