"""How many bytes of tensors a stretch of work keeps alive at once, on any device."""

import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Context manager; afterwards ``peak`` is the most that new tensors held at once.

    Counts storages as operations hand them out, so what is made and freed inside one operation is not seen.

    Args:
        known: tensors that were there before and are not counted.
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._now = 0
        self._seen: dict[int, weakref.ref[UntypedStorage]] = {}
        self._known = [tensor.untyped_storage() for tensor in known]
        self._known_ids = {storage._cdata for storage in self._known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._see(leaf.untyped_storage())
        return result

    def _see(self, storage: UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen or key in self._known_ids:
            return

        def gone(_: object) -> None:
            self._now -= size
            self._seen.pop(key, None)

        self._seen[key] = weakref.ref(storage, gone)
        self._now += size
        self.peak = max(self.peak, self._now)
