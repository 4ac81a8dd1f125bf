"""What the cells of one sweep share, so that it is found, tokenised and loaded once."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from prunebench.data.corpora import find_corpus
from prunebench.data.tokens import calibration_pool
from prunebench.errors import CorpusError, DeviceError
from prunebench.evaluation.interface import Shared
from prunebench.models.loading import load_model, load_tokenizer
from prunebench.models.source import ModelSource, context_length, find_model
from prunebench.pruning import CalibrationData
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
        self._models: dict[tuple[str, bool], ModelSource] = {}

    def model(self, cell: Cell) -> ModelSource:
        """The model of a cell, found and hashed once."""
        key = (cell.source, cell.trust_remote_code)
        if key not in self._models:
            self._models[key] = find_model(cell.source, trust_remote_code=cell.trust_remote_code)
        return self._models[key]

    @contextmanager
    def work_folder(self, cell: Cell) -> Iterator[Path | None]:
        """What a cell needs whose model is on disk: an empty folder, gone afterwards, and memory that does not pile up.

        Yields:
            The folder; None for another cell.
        """
        if cell.device != "disk":
            yield None
            return
        folder = self.output / f".{cell.id}.work"
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
        try:
            folder.mkdir(parents=True)
            with large_apart():
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def pool(self, cell: Cell, tokenizer: Any) -> Tensor:
        """The calibration text of a cell, tokenised; see ``prunebench.data.tokens.calibration_pool``."""
        spec = cell.calibration
        key = ("pool", cell.model_digest, spec.digest, spec.seqlen, spec.windows, cell.seed if spec.made else None)

        def tokenised() -> Tensor:
            files = [Path(spec.plugin_file)] if spec.plugin_file else []
            corpus = find_corpus(spec.source, spec.split, "calibration", files)
            if corpus.wants:
                corpus = corpus.given(model=Deferred(lambda: self.dense(cell)), tokenizer=tokenizer, seed=cell.seed)
            return calibration_pool(corpus, tokenizer, seqlen=spec.seqlen, windows=spec.windows)

        return self.shared.get(key, tokenised)

    def available(self, cell: Cell) -> dict[str, Any]:
        """What the evaluations of a cell may name; see ``prunebench.evaluation.interface.Evaluation``."""
        return {
            "shared": self.shared,
            "model_digest": cell.model_digest,
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
        pool = self.pool(cell, load_tokenizer(self.model(cell)))
        spec = cell.calibration
        return CalibrationData(pool, nsamples=spec.nsamples, seqlen=spec.seqlen, seed=cell.seed).windows

    def prepare(self, cells: Iterable[Cell]) -> None:
        """Read every text and task that ``cells`` use, so that what is amiss shows before anything runs.

        Raises:
            UsageError: a text is shorter than one window, a window longer than the model's context, or a task's data
                not there.
        """
        tokenizers: dict[str, Any] = {}
        for cell in cells:
            model = self.model(cell)
            if cell.model_digest not in tokenizers:
                tokenizers[cell.model_digest] = load_tokenizer(model)
            tokenizer = tokenizers[cell.model_digest]
            self.pool(cell, tokenizer)
            windows: dict[str, int | None] = {cell.calibration.corpus: cell.calibration.seqlen}
            for evaluation in cell.evaluations:
                bound = evaluation.bound()
                windows[bound.title] = bound.prepare(tokenizer, **self.available(cell))
            context = context_length(model)
            for name, length in windows.items():
                if context is not None and length is not None and length > context:
                    raise CorpusError(
                        f"{name}: a window of {length} tokens is longer than the context of {cell.model}, {context}: "
                        f"set its seqlen to at most {context}"
                    )
