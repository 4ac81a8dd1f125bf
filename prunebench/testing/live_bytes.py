"""Peak memory of tensors: how many bytes of new tensors are alive at once, on any device."""

import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Context manager that counts bytes of new tensors; afterwards ``peak`` is the most that were alive at once.

    Counts the storages that operations return, so memory allocated and freed inside one operation is not seen.

    Args:
        known: existing tensors, which are not counted.
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._current = 0
        self._seen: dict[int, weakref.ref[UntypedStorage]] = {}
        self._known = [tensor.untyped_storage() for tensor in known]
        self._known_ids = {storage._cdata for storage in self._known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen or key in self._known_ids:
            return

        def freed(_: object) -> None:
            self._current -= size
            self._seen.pop(key, None)

        self._seen[key] = weakref.ref(storage, freed)
        self._current += size
        self.peak = max(self.peak, self._current)
