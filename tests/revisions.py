"""What every built-in makes, recorded, so that none changes its figures without raising its revision.

    python -m tests.revisions [--platform]

records in ``tests/golden/revisions.json`` (digests) and ``revisions.npz`` (small arrays) what built-ins make whose
revision is new, and refuses where one makes something else under the revision that it had. ``--platform`` records all
of them for this machine, if they agree with what was recorded elsewhere.

On the machine that recorded them outcomes must be equal to the bit; on another, whose products round otherwise, arrays
must agree within a tolerance.
"""

import hashlib
import json
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prunebench.allocations import allocate, make_allocation
from prunebench.data.corpora import find_corpus
from prunebench.data.tokens import calibration_pool
from prunebench.evaluation.interface import BoundEvaluation, Shared
from prunebench.pruning import NM, REVISION, FeatureNorm, Hessian, Target, Unstructured, calibrated, damped_cholesky
from prunebench.pruning.nested import HELD, held
from prunebench.pruning.sparsity import Allocated
from prunebench.registry.entry_points import KINDS, load_method, load_plugin, sources
from prunebench.registry.manager import plugin_manager
from prunebench.testing.models import prune_by_magnitude
from prunebench.testing.trial import Trial
from tests.helpers import tiny
from tests.helpers.paths import ROOT
from tests.helpers.text import jsonl, letters, tokenizer

DIGESTS, ARRAYS = (ROOT / "tests" / "golden" / f"revisions.{end}" for end in ("json", "npz"))
Outcome = dict[str, np.ndarray]

# Short runs of methods that iterate; the smallest that touch every part of their code.
QUICK = {
    "elsa": {"steps": 8, "interval": 2, "batch_size": 2, "lr": 0.01},
    "elsa-l": {"steps": 8, "interval": 2, "batch_size": 2, "lr": 0.01},
    "alps": {"iterations": 20, "steps": 3},  # more, and the last bits decide what deep layers of so small a model keep
    "gmp": {"steps": 8, "interval": 2, "batch_size": 2, "lr": 0.01},
    "retrain": {"steps": 8, "batch_size": 2, "lr": 0.01},
    "perp": {"steps": 8, "batch_size": 2, "lr": 0.01, "rank": 2},
    "reconstruct": {"epochs": 8, "lr": 0.01},
    "ria": {"permutation": True},
    "swaps": {"swaps": 5},
    "maskllm": {"steps": 8, "batch_size": 2, "lr": 0.01},
    "safe": {"epochs": 15, "interval": 3, "lr": 0.01, "activation": True},
}
MODELS = {"elsa-l": tiny.wide_llama}  # the moments of small tensors are kept in fp32
SHOWN = ("model.layers.0.self_attn.q_proj.weight", "model.layers.2.mlp.down_proj.weight")  # kept as arrays
SAME_ENTRIES = 0.99  # of masks and numbers, on another machine


def pruned(name: str) -> tuple[Outcome, str]:
    """The weights that a method leaves of a tiny model, at one ratio and at one n:m pattern.

    One that only follows another follows magnitude.
    """
    shown, digest = {}, hashlib.sha256()
    method, make = load_method(name), MODELS.get(name, tiny.llama)
    for pattern in filter(method.is_for, (Unstructured(0.5), NM(2, 4))):
        model = make()
        if method.after:
            prune_by_magnitude(model, pattern)
        hook = plugin_manager(method, QUICK.get(name, {})).hook
        asked = held(pattern) if method.mask == HELD else pattern
        hook.prune(model=model, data=tiny.calibration(teacher=make), sparsity=asked)
        for key, weight in sorted(model.state_dict().items()):
            digest.update(key.encode() + weight.numpy().tobytes())
        shown |= {f"{pattern}/{key}": model.state_dict()[key].numpy().astype(np.float16) for key in SHOWN}
    return shown, digest.hexdigest()


def allocated(name: str) -> tuple[Outcome, str]:
    """The ratios that an allocation gives to the layers of a tiny model."""
    model = tiny.llama()
    uneven = Trial("llama", "0.7", uneven=True).sparsity_of(model)
    given = {key: own.ratio for key, own in uneven.layers.items()} if isinstance(uneven, Allocated) else {}
    rule = make_allocation(name, {"layers": given} if name == "file" else {})
    sparsity = allocate(rule, model, tiny.calibration(), Unstructured(0.7))
    layers = sparsity.layers if isinstance(sparsity, Allocated) else {}
    ratios = np.array([layers[key].ratio for key in sorted(layers)])
    return exactly({"ratios": ratios})


def measured(name: str) -> tuple[Outcome, str]:
    """What an evaluation finds of a tiny model."""
    shared = Shared()
    with tempfile.TemporaryDirectory() as place:
        file = jsonl(Path(place) / "text.jsonl", [letters(40, number) for number in range(8)])
        options = {
            "perplexity": {"corpus": str(file), "seqlen": 16},
            "zero_shot": {"tasks": ["tinyworld_recall"], "limit": 20},
        }[name]
        evaluation = BoundEvaluation.from_options(name, "", options, shared)
        available = {"shared": shared, "model_digest": "", "seed": 0, "saved": None}
        evaluation.prepare(tokenizer(), **available)
        result = evaluation.measure(tiny.llama(), tokenizer(), **available)
    numbers = {
        f"{entry}/{key}": np.array(float(value))
        for entry, values in result.values.items()
        for key, value in (values if name == "perplexity" else result.values["results"]["tinyworld_recall"]).items()
        if isinstance(value, int | float)
    }
    return exactly({**numbers, **result.arrays})


def read(name: str) -> tuple[Outcome, str]:
    """The first documents of a corpus; of one on the hub what stands for its content."""
    plugin, digest = load_plugin("corpus", name), hashlib.sha256()
    splits = sorted(plugin.splits) if "shifted" not in name and "noisy" not in name else ["test", "validation"]
    for split in splits:
        texts = islice(plugin(split), 50) if name.startswith("builtin/") else [plugin.digest(split)]
        for text in texts:
            digest.update(f"{split} {text}\n".encode())
    return {}, digest.hexdigest()


def toolkit() -> tuple[Outcome, str]:
    """What methods build on: masks, statistics, calibration windows."""
    scores = torch.randn(16, 24, generator=torch.Generator().manual_seed(0)).round(decimals=1)  # with ties
    found: dict[str, Any] = {}
    for pattern in (Unstructured(0.37), Unstructured(0.9), NM(1, 4), NM(4, 8)):
        target = Target.of(pattern, (16, 24))
        found |= {f"mask/{pattern}/{per}": target.mask(scores, per=per) for per in ("matrix", "row")}
    for statistic, value in ((FeatureNorm, "value"), (Hessian, "matrix")):
        walk = calibrated(tiny.llama(), tiny.calibration(), Unstructured(0.5), statistic)
        last = {layer.name: getattr(own, value).clone() for layer, own, _ in walk}
        found[f"statistic/{value}"] = last["model.layers.2.mlp.down_proj"]
    found["cholesky"] = damped_cholesky(found["statistic/matrix"].clone(), 0.01, "last")
    data = tiny.calibration()
    found["windows"] = data.windows
    found["batches"] = torch.stack(list(islice(data.batches(2), 3)))
    with tempfile.TemporaryDirectory() as place:
        corpus = find_corpus(
            str(jsonl(Path(place) / "text.jsonl", [letters(20, n) for n in range(8)])), None, "calibration"
        )
        for windows in ("stream", "document"):
            found[f"pool/{windows}"] = calibration_pool(corpus, tokenizer(), seqlen=8, windows=windows)  # type: ignore[arg-type]
    return exactly({name: tensor.numpy() for name, tensor in found.items()})


def exactly(outcome: Outcome) -> tuple[Outcome, str]:
    """An outcome with the digest of its bits."""
    digest = hashlib.sha256()
    for name, array in sorted(outcome.items()):
        digest.update(f"{name} {array.dtype} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes())
    return outcome, digest.hexdigest()


MAKERS: dict[str, Callable[[str], tuple[Outcome, str]]] = {
    "method": pruned,
    "allocation": allocated,
    "evaluation": measured,
    "corpus": read,
}


def subjects() -> dict[str, tuple[str, Callable[[], tuple[Outcome, str]]]]:
    """By name, the stated revisions of a built-in and what makes its outcome."""
    found: dict[str, tuple[str, Callable[[], tuple[Outcome, str]]]] = {"toolkit": (f"revision {REVISION}", toolkit)}
    for kind, make in MAKERS.items():
        for name, (source, *_) in sources(KINDS[kind]).items():
            brings = kind == "method" and load_method(name).brought  # its outcome is what somebody else made
            if source.distribution == "prunebench" and not brings:
                revisions = f"{source.code}, toolkit {REVISION}" if kind in ("method", "allocation") else source.code
                found[f"{kind} {name}"] = (revisions, lambda name=name, make=make: make(name))  # type: ignore[misc]
    return found


def this_platform() -> dict[str, str]:
    """What decides how sums of floating-point products are rounded."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "machine": platform.machine(),
        "processor": processor or platform.processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }


def complaint(
    name: str, revisions: str, outcome: Outcome, digest: str, known: Mapping[str, Any] | None, same_platform: bool,
    arrays: Mapping[str, np.ndarray],
) -> str | None:  # fmt: skip
    """What is wrong with a built-in; None where its outcome is what was recorded under its revision."""
    record = "then run: python -m tests.revisions"
    if known is None:
        return f"{name} is new; {record}"
    if known["revisions"] != revisions:
        return f"{name} has another revision ({known['revisions']} → {revisions}); {record}"
    if digest == known["digest"]:
        return None
    if same_platform or not outcome:  # texts are the same on every machine
        return f"{name} makes something else than it did under the same revision ({revisions}): raise that, {record}"
    for key, array in outcome.items():
        share = same_share(arrays[f"{name}/{key}"], array)
        if share < SAME_ENTRIES:
            return f"{name}: only {share:.1%} of {key} are what they were elsewhere: raise its revision, {record}"
    return None


def same_share(before: np.ndarray, after: np.ndarray) -> float:
    """The share of entries that are equal, or of numbers that are close and zero in the same places."""
    if before.shape != after.shape:
        return 0.0
    if before.dtype.kind != "f":
        return float(np.mean(before == after))
    scale = float(np.abs(before[np.isfinite(before)]).max(initial=0.0)) or 1.0
    close = np.isclose(before.astype(float), after.astype(float), rtol=0.02, atol=0.002 * scale, equal_nan=True)
    return float(np.mean(close & ((before == 0) == (after == 0))))


def recorded() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What the files hold."""
    if not DIGESTS.exists():
        return {"platform": this_platform(), "subjects": {}}, {}
    with np.load(ARRAYS, allow_pickle=False) as arrays:
        return json.loads(DIGESTS.read_text(encoding="utf-8")), dict(arrays)


def main(arguments: list[str]) -> int:
    """Record what is new; the exit code."""
    torch.set_num_threads(1)
    content, arrays = recorded()
    same, everything = content["platform"] == this_platform(), "--platform" in arguments
    if not same and not everything:
        sys.stderr.write("this is another machine than the one that recorded: use --platform\n")
        return 2
    for name, (revisions, make) in subjects().items():
        known = content["subjects"].get(name)
        outcome, digest = make()
        problem = complaint(name, revisions, outcome, digest, known, same, arrays)
        if problem and known and known["revisions"] == revisions:
            sys.stderr.write(problem + "\n")
            return 1
        if problem or everything:
            sys.stdout.write(f"recorded: {name}\n")
            content["subjects"][name] = {"revisions": revisions, "digest": digest}
            arrays = {key: array for key, array in arrays.items() if not key.startswith(f"{name}/")}
            arrays |= {f"{name}/{key}": array for key, array in outcome.items()}
    content["platform"] = this_platform()
    DIGESTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    np.savez_compressed(ARRAYS, **arrays)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
