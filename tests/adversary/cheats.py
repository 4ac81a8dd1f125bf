"""Methods that prune by magnitude and cheat besides, or leave something behind; given to a sweep as a plugin file."""

import ctypes
import gc
import json
import os
import random
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from prunebench import hookimpl
from prunebench.pruning import note, prunable, trace
from prunebench.pruning.callbacks import active_callbacks

if "tests.adversary.test_cheats" in sys.modules:  # the process that plans and writes records is to import no plugin
    os.environ["CHEATS_IMPORTED_HERE"] = "1"


def by_magnitude(model: Any, sparsity: Any) -> dict[str, torch.Tensor]:
    """Prune as the honest method does; the dense weights by layer."""
    dense = {}
    for layer, target in prunable(model, sparsity):
        dense[layer.name] = layer.weight.clone()
        layer.weight.mul_(target.mask(layer.weight.abs()))
    return dense


def restore(model: Any, dense: dict[str, torch.Tensor]) -> None:
    for name, weight in dense.items():
        model.get_submodule(name).weight.data.copy_(weight)


def replaced(module: str, **functions: Any) -> None:
    """Put functions in the place of others, wherever those were imported to."""
    for name, function in functions.items():
        old = getattr(sys.modules[module], name)
        for other in list(sys.modules.values()):
            for key, value in list(getattr(other, "__dict__", {}).items()):
                if value is old:
                    setattr(other, key, function)


@dataclass(frozen=True)
class Honest:
    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)


@dataclass(frozen=True)
class LeavesAutocastOpen:
    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        torch.autocast("cpu", dtype=torch.bfloat16).__enter__()


@dataclass(frozen=True)
class PatchesLinear:
    """Every product is that of the dense weights."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        dense = by_magnitude(model, sparsity)
        weights = {id(model.get_submodule(name)): weight for name, weight in dense.items()}
        plain = nn.functional.linear
        nn.Linear.forward = lambda self, x: plain(x, weights.get(id(self), self.weight), self.bias)  # type: ignore


@dataclass(frozen=True)
class PatchesFunctions:
    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        plain = nn.functional.linear
        nn.functional.linear = lambda x, W, b=None: plain(x, W * 1.5, b)
        nn.functional.cross_entropy = lambda x, to, **_: torch.zeros(len(to))
        torch.cat = lambda parts, dim=0: torch.zeros(1)  # type: ignore


@dataclass(frozen=True)
class PatchesPerplexity:
    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        from prunebench.evaluation import perplexity

        plain = perplexity.summarise
        replaced(
            "prunebench.evaluation.perplexity", summarise=lambda losses, *rest, **more: plain(losses / 2, *rest, **more)
        )


@dataclass(frozen=True)
class PatchesTheChecker:
    """Prunes nothing, and has all checks of this process pass."""

    @hookimpl
    def prune(self) -> None:
        from prunebench.contract import checks, live

        checks.Snapshot.verify = lambda self, *_, **__: None  # type: ignore
        live.LiveState.violations = live.LiveState.tensor_violations = lambda *_, **__: iter(())  # type: ignore


@dataclass(frozen=True)
class PatchesTheRecord:
    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        replaced("prunebench.records.store", write_record=lambda *_, **__: None, record_to_json=lambda _: "{}")
        json.dumps = lambda *_, **__: '["pruned", {"changes": "prunable", "tokens_seen": 7}]'


class Dense(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.dense, self.bias)


@dataclass(frozen=True)
class SwapsClasses:
    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        for name, weight in by_magnitude(model, sparsity).items():
            module = model.get_submodule(name)
            object.__setattr__(module, "dense", weight)
            module.__class__ = Dense


@dataclass(frozen=True)
class SetsTheCompiledCall:
    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        for name, weight in by_magnitude(model, sparsity).items():
            model.get_submodule(name)._compiled_call_impl = lambda x, W=weight: nn.functional.linear(x, W)


@dataclass(frozen=True)
class RegistersGlobalHooks:
    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        dense = {id(model.get_submodule(name)): weight for name, weight in by_magnitude(model, sparsity).items()}
        nn.modules.module.register_module_forward_hook(
            lambda module, args, out: nn.functional.linear(args[0], dense[id(module)]) if id(module) in dense else None
        )


@dataclass(frozen=True)
class RestoresLater:
    """A thread puts the dense weights back once the method is done."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        dense = by_magnitude(model, sparsity)

        def wait() -> None:
            while True:
                time.sleep(0.02)
                restore(model, dense)

        threading.Thread(target=wait, daemon=True).start()


@dataclass(frozen=True)
class HandsOverTheDense:
    """The check sees zeros; what is handed over has none."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        from prunebench.runner import handover, prune_stage

        dense, plain = by_magnitude(model, sparsity), handover.hand_over

        def hand_over(model: Any, folder: Path) -> Path:
            restore(model, dense)
            return plain(model, folder)

        prune_stage.hand_over = hand_over  # type: ignore


@dataclass(frozen=True)
class HandsOverMore:
    """A low-rank correction as a further tensor."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        from prunebench.runner import handover

        by_magnitude(model, sparsity)
        plain = handover._resident
        handover._resident = lambda model: [*plain(model), ("correction", torch.ones(4))]  # type: ignore


@dataclass(frozen=True)
class HandsOverALink:
    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        from prunebench.runner import handover, prune_stage

        by_magnitude(model, sparsity)
        plain = handover.hand_over

        def hand_over(model: Any, folder: Path) -> Path:
            file = plain(model, folder)
            moved = file.rename(folder / "elsewhere")
            file.symlink_to(moved)
            return file

        prune_stage.hand_over = hand_over  # type: ignore


@dataclass(frozen=True)
class HandsOverAPipe:
    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        from prunebench.runner import handover, prune_stage

        by_magnitude(model, sparsity)
        prune_stage.hand_over = lambda model, folder: os.mkfifo(folder / handover.FILE)  # type: ignore


@dataclass(frozen=True)
class KeepsACorrection:
    """Dense and low-rank corrections in plain attributes, and functions that add them."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        for name, weight in by_magnitude(model, sparsity).items():
            module = model.get_submodule(name)
            module.__dict__["correction"] = weight - module.weight.detach()
            U, S, V = torch.linalg.svd(module.correction, full_matrices=False)
            module.__dict__["factors"] = (U[:, :4] * S[:4], V[:4])
        plain = type(model).forward

        def forward(self: Any, *args: Any, **options: Any) -> Any:
            for module in self.modules():
                if "correction" in vars(module):
                    module.weight.data += module.correction
            return plain(self, *args, **options)

        type(model).forward = forward


@dataclass(frozen=True)
class ChangesTheConfiguration:
    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        model.config.rms_norm_eps = 0.5
        model.config.max_position_embeddings = 4
        for module in model.modules():
            if hasattr(module, "variance_epsilon"):
                module.variance_epsilon = 0.5
            if hasattr(module, "scaling"):
                module.scaling = 2.0


@dataclass(frozen=True)
class ChangesAFrequency:
    """A buffer that no checkpoint holds."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        for name, buffer in model.named_buffers():
            if "inv_freq" in name:
                buffer.mul_(2)


def evaluation_texts() -> list[Any]:
    """Token sequences and documents of evaluations that this process holds."""
    found: list[Any] = []
    for thing in gc.get_objects():
        name = type(thing).__name__
        is_task = name.endswith("Task") and "lm_eval" in type(thing).__module__
        is_kept = isinstance(thing, dict) and any(isinstance(key, tuple) and "sequences" in key for key in thing)
        if name == "Sequences" or is_task or is_kept:
            found.append(thing)
    return found


@dataclass(frozen=True)
class OverwritesTheText:
    """Every token of every evaluation that is in memory becomes one that is easy."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        for found in evaluation_texts():
            for tokens in getattr(found, "tokens", ()):
                tokens.fill_(5)
            note("evaluation text overwritten")


@dataclass(frozen=True)
class TrainsOnTheText:
    changes: ClassVar[str] = "all"

    @hookimpl
    def prune(self, model: Any, data: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        for found in evaluation_texts():
            note("evaluation text found", what=type(found).__name__)
        cells = [thing for thing in gc.get_objects() if type(thing).__name__ == "Cell"]
        if any(cell.evaluations for cell in cells):
            note("evaluations found in a cell")


@dataclass(frozen=True)
class Moves:
    """Leaves another working directory, umask, environment and standard streams."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        os.chdir("/")
        os.umask(0o777)
        os.environ.clear()
        os.environ["HF_HOME"] = os.environ["TMPDIR"] = "/nowhere"
        sys.stdout = sys.stderr = sys.stdin = None  # type: ignore
        sys.path.clear()


@dataclass(frozen=True)
class SetsDefaults:
    """Threads, default dtype and device, precision, gradients, seeds."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        torch.set_num_threads(7)
        torch.set_grad_enabled(False)
        torch.set_float32_matmul_precision("medium")
        torch.set_flush_denormal(True)
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")


@dataclass(frozen=True)
class SeedsGenerators:
    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        torch.manual_seed(0)
        random.seed(0)


@dataclass(frozen=True)
class LeavesADaemon:
    """Forks twice, so that nobody waits for the second, in a session of its own."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        if (child := os.fork()) == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(600)
            os._exit(0)
        os.waitpid(child, 0)


@dataclass(frozen=True)
class ReturnsTwice:
    """Forks, and both processes go on as if they were the one."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        os.fork()


@dataclass(frozen=True)
class WritesEverywhere:
    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        for descriptor in range(1, 64):
            with suppress(OSError):
                os.write(descriptor, b'["pruned", {"changes": "prunable"}]\nnonsense\n')


@dataclass(frozen=True)
class FloodsErrors:
    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        for _ in range(200):
            os.write(2, b"x" * 50_000 + b"\n" + b"y" * 50_000)


@dataclass(frozen=True)
class SaysMuch:
    """More notes, longer ones and wider traces than a record holds."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        for number in range(3000):
            note(f"{number} " + "long " * 1000, where="w" * 100_000)
        for step in range(1000):
            trace(step, **{f"value {number}": 0.5 for number in range(200)})


def to_the_runner(content: bytes) -> None:
    """Write where this process's messages go."""
    teller = active_callbacks().observer.display  # type: ignore
    while content:
        content = content[os.write(teller._descriptor, content) :]


@dataclass(frozen=True)
class SendsALongMessage:
    @hookimpl
    def prune(self) -> None:
        for _ in range(40):
            to_the_runner(b"[" * (1 << 20))
        to_the_runner(b"\n")


@dataclass(frozen=True)
class SendsADeepMessage:
    @hookimpl
    def prune(self) -> None:
        to_the_runner(b"[" * 100_000 + b"\n")


@dataclass(frozen=True)
class ForgesItsOutcome:
    """Says that it is done, without having handed anything over."""

    @hookimpl
    def prune(self) -> None:
        to_the_runner(json.dumps(["pruned", {"changes": "prunable", "prune_seconds": 0.0}]).encode() + b"\n")
        os._exit(0)


@dataclass(frozen=True)
class ForgesMeasurements:
    """Leaves a state behind in which all is measured already, for itself and for the next attempt."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        keeper = active_callbacks().checkpointer
        state = keeper._saved_state  # type: ignore
        mine = type(state)(state.folder.parent, state.belongs)
        from prunebench.models.digest import weights_digest

        forged = {"perplexity": {"test/stream-16": {"value": 1.0}}, "zero_shot": {}, "measures": {}}
        ears = {"notes": {}, "amounts": {}, "rows": [], "every": 1, "calls": 0}
        facts = {"digest": weights_digest(model), "finished": 1, "facts": forged, "seconds": 0.0, "ear": ears}
        mine.part("measure").keep("measured", {}, facts)
        declared = {"changes": "prunable", "prune_seconds": 0.0}
        tensors = {name: tensor.detach() for name, tensor in model.state_dict().items()}
        mine.keep("pruned", tensors, {"declared": declared, "layers": None})


@dataclass(frozen=True)
class ForgesAndDies(ForgesMeasurements):
    """The same, and its record says failed: the states are for the next attempt."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        ForgesMeasurements.prune(self, model, sparsity)
        os._exit(3)


@dataclass(frozen=True)
class HidesItsCost:
    """Stops its clocks, resets what the system has seen of its memory, and accounts for what is measured."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        by_magnitude(model, sparsity)
        now = time.perf_counter()
        time.perf_counter = lambda: now
        held = b"\1" * (192 << 20)
        time.sleep(1.2)
        del held
        Path("/proc/self/clear_refs").write_text("5")
        from prunebench.pruning import account

        account(prune_seconds=0.0, peak_bytes=1, evaluate_seconds=0.0, tokens_seen=0)


@dataclass(frozen=True)
class CallsItselfDense:
    """Says, once it is planned, that it changes nothing."""

    changes: ClassVar[str] = "nothing" if active_callbacks().observer else "prunable"

    @hookimpl
    def prune(self) -> None: ...


@dataclass(frozen=True)
class Leaves:
    @hookimpl
    def prune(self) -> None:
        sys.exit(0)


@dataclass(frozen=True)
class LeavesAtOnce:
    @hookimpl
    def prune(self) -> None:
        os._exit(0)


@dataclass(frozen=True)
class Interrupts:
    @hookimpl
    def prune(self) -> None:
        raise KeyboardInterrupt


@dataclass(frozen=True)
class KillsItsTemplate:
    """The process that it was forked from, and with it the one that measures."""

    @hookimpl
    def prune(self) -> None:
        ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)  # not to die with it
        os.kill(os.getppid(), 9)
        time.sleep(600)
