"""The dense model of a model that is pruned in place, for ``data.teacher``."""

import copy
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class DenseCopy:
    """The model before the first weight was written, copied when it is first asked for.

    Args:
        model: as it is now.
    """

    def __init__(self, model: "PreTrainedModel") -> None:
        self._model, self._copy = model, cast(Any, None)
        self._writes = self._count()

    def _count(self) -> int:
        return sum(parameter._version for parameter in self._model.parameters())

    def __call__(self) -> Any:
        """The copy.

        Raises:
            RuntimeError: the model was written to before it was asked for.
        """
        if self._copy is None:
            if self._count() != self._writes:
                raise RuntimeError(
                    "data.teacher was asked for after the first weight was written, and the model is pruned in place: "
                    "ask for it first"
                )
            self._copy = copy.deepcopy(self._model)
        return self._copy
