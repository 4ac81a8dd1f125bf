"""Cheats that know the harness: its states, its pipes, its templates; given to a sweep as a plugin file."""

import atexit
import os
import signal
import stat
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

from prunebench import hookimpl
from prunebench.pruning import note, prunable
from prunebench.pruning.callbacks import active_callbacks

if "tests.adversary.test_deeper_cheats" in sys.modules:
    os.environ["CHEATS_IMPORTED_HERE"] = "1"


def by_magnitude(model: Any, sparsity: Any) -> dict[str, torch.Tensor]:
    """Prune as the honest method does; the dense weights by name of the parameter."""
    dense = {}
    for layer, target in prunable(model, sparsity):
        dense[f"{layer.name}.weight"] = layer.weight.clone()
        layer.weight.mul_(target.mask(layer.weight.abs()))
    return dense


def state() -> Any:
    """The saved state of this process; its folder lies in that of the cell."""
    return active_callbacks().checkpointer._saved_state  # type: ignore


def forge_measurements(model: Any, folder: Path) -> None:
    """A state that says that all is measured."""
    from prunebench.models.digest import weights_digest

    forged = {"perplexity": {"test/stream-16": {"value": 1.0}}, "zero_shot": {}, "measures": {}}
    ears = {"notes": {}, "amounts": {}, "rows": [], "every": 1, "calls": 0}
    facts = {"digest": weights_digest(model), "finished": 1, "facts": forged, "seconds": 0.0, "ear": ears}
    type(state())(folder, state().belongs).keep("measured", {}, facts)


@dataclass(frozen=True)
class Honest:
    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)


@dataclass(frozen=True)
class ForgesByALink:
    """The forged state lies elsewhere, so that removing it here removes a link at most."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        elsewhere = Path(tempfile.mkdtemp(prefix="elsewhere"))
        forge_measurements(model, elsewhere)
        cell = state().folder.parent
        cell.mkdir(parents=True, exist_ok=True)
        (cell / "measure").symlink_to(elsewhere)


@dataclass(frozen=True)
class ForgesInAClosedFolder:
    """The forged state lies in a folder from which nothing can be removed."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        folder = state().folder.parent / "measure"
        forge_measurements(model, folder)
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
        folder.parent.chmod(stat.S_IRUSR | stat.S_IXUSR)


@dataclass(frozen=True)
class MovesItsState:
    """A link takes the place of the whole state."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        elsewhere, cell = Path(tempfile.mkdtemp(prefix="elsewhere")), state().folder.parent
        forge_measurements(model, elsewhere / "measure")
        cell.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            cell.rename(elsewhere / "moved")
        cell.symlink_to(elsewhere)


@dataclass(frozen=True)
class LeavesAPipe:
    """A pipe where a state would be read, upon which a reader would wait for ever."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        cell = state().folder.parent
        (cell / "measure").mkdir(parents=True, exist_ok=True)
        os.mkfifo(cell / "pruned.json")
        os.mkfifo(cell / "measure" / "measured.json")


@dataclass(frozen=True)
class RewritesLater:
    """A process of its own waits until the tensors are handed over and the method is gone, and puts dense ones back."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        dense, pid = by_magnitude(model, sparsity), os.getpid()
        if os.fork():
            return
        os.setsid()
        os.environ.clear()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.001)
        from safetensors.torch import load_file, save_file

        for work in Path.cwd().rglob("pruned.safetensors"):
            save_file({**load_file(work), **dense}, work)
        os._exit(0)


@dataclass(frozen=True)
class LooksAtItsDescriptors:
    """Counts what is open: a socket of the template would let it speak for the template."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        for entry in Path("/proc/self/fd").iterdir():
            with suppress(OSError):
                if stat.S_ISSOCK(entry.stat().st_mode):
                    note("a socket is open")


def templates() -> list[psutil.Process]:
    """The processes from which others are forked."""
    parent = psutil.Process(os.getppid())
    return [process for process in (parent, *parent.children()) if process.pid != os.getpid()]


@dataclass(frozen=True)
class StopsItsTemplates:
    """Nobody tells of its end any more."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        for process in templates():
            process.suspend()


@dataclass(frozen=True)
class KillsTheMeasuring:
    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        for process in templates()[1:]:
            process.kill()


@dataclass(frozen=True)
class LeavesMany:
    """Processes that leave processes."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        for _ in range(20):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    os.setsid()
                time.sleep(600)


@dataclass(frozen=True)
class ComesBack:
    """At exit, from a thread that lives on, and by a signal."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        dense = by_magnitude(model, sparsity)
        atexit.register(lambda: model.load_state_dict(dense, strict=False))
        threading.Thread(target=time.sleep, args=(600,)).start()
        signal.signal(signal.SIGALRM, lambda *_: model.load_state_dict(dense, strict=False))


class TwoFaced(torch.Tensor):
    """Shows zeros to whoever looks, and is dense when it is copied."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.Tensor.cpu, torch.Tensor.contiguous, torch.Tensor.detach):
            return args[0].dense.clone()
        return super().__torch_function__(func, types, args, kwargs or {})


@dataclass(frozen=True)
class IsTwoFaced:
    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        for name, weight in by_magnitude(model, sparsity).items():
            module = model.get_submodule(name.removesuffix(".weight"))
            faced = module.weight.data.as_subclass(TwoFaced)
            faced.dense = weight
            module._parameters["weight"] = faced


@dataclass(frozen=True)
class GoesMeta:
    """Tensors without values, which need not be handed over."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        layer = model.model.layers[0].mlp
        layer.up_proj.weight = nn.Parameter(layer.up_proj.weight.to("meta"))


@dataclass(frozen=True)
class TiesWeights:
    """One matrix stands for two, whose names are then one."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        model.model.layers[0].mlp.up_proj.weight = model.model.layers[1].mlp.up_proj.weight


@dataclass(frozen=True)
class HidesInNotANumber:
    """A payload in the bits of a number that is none."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        weight = model.model.layers[0].mlp.up_proj.weight.data
        weight.view(torch.int32)[0, 0] = 0x7FC0_1234


@dataclass(frozen=True)
class HidesInTheSmallest:
    """Denormal numbers in place of zeros."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        for layer, _ in prunable(model, sparsity):
            layer.weight.masked_fill_(layer.weight == 0, 1e-42)


@dataclass(frozen=True)
class EditsTheModel:
    """Another configuration for whoever loads the model next, dated back."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        file = Path(model.config._name_or_path) / "config.json"
        times, text = file.stat(), file.read_text()
        file.write_text(text.replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 9e-06'))
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


@dataclass(frozen=True)
class SteersTheTerminal:
    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        note("\x1b[2J\x1b]0;owned\x07‮ all is well \u2066", where="\x1b[31m")
        os.write(2, b"\x1b[2J\x1b]0;owned\x07 on stderr\n")


@dataclass(frozen=True)
class LimitsOthers:
    """Limits of the system that are handed down: to children of its own alone."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        import resource

        by_magnitude(model, sparsity)
        resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
        resource.setrlimit(resource.RLIMIT_CPU, (50, 50))
        os.nice(5)
        os.sched_setaffinity(0, {0})
