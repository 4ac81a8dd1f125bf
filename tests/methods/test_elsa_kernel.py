"""The CUDA pass against the plain torch path, in Triton's interpreter: the same codes and the same weights."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed (pip install 'prunebench[gpu]')")

# The interpreter is chosen when a kernel is decorated: a process of its own, so that no other test is concerned.
PROGRAM = """
import sys

import torch
from prunebench.pruning import Target, Unstructured
from prunebench_plugins.elsa import Elsa, ElsaL, kernels, variables
from prunebench_plugins.elsa.adam import adam
from prunebench_plugins.elsa.algorithm import elsa
from prunebench_plugins.elsa.codes import E4M3
from prunebench_plugins.elsa.states import EightBitMoments, FullMoments, OneState
from prunebench_plugins.elsa.variables import Matrix, Variable

DEVICE = sys.argv[1]
g = torch.Generator().manual_seed(0)
for shape in ((9, 125), (2, 3, 300), (1100,)):
    for dtype in (torch.float32, torch.bfloat16, E4M3, None):
        for kind in (FullMoments, EightBitMoments):
            start = torch.randn(shape, generator=g)
            W, moments, split = start.clone(), kind(start), None
            theirs, their_moments, their_split = start.to(DEVICE, copy=True), kind(start.to(DEVICE)), None
            if dtype is not None:
                split, their_split = OneState(start, dtype), OneState(start.to(DEVICE), dtype)
                for each in (split, their_split):
                    each.update(1.1 * start.to(each.c.device), start.to(each.c.device).abs() > 0.7)
            assert kernels.knows(theirs, their_moments, their_split)
            for t in range(1, 5):
                noise = torch.Generator().manual_seed(t)
                grad = 10 ** (3 * torch.randn(shape, generator=noise)) * torch.randn(shape, generator=noise)
                clip = torch.tensor(1.0 if t == 1 else 1 / (3 * t))
                kernels.fused_adam(
                    theirs, grad.to(DEVICE), their_moments, 0.01, t, clip.to(DEVICE), lmda=0.3, split=their_split
                )
                grad.mul_(clip)
                if split is not None:
                    grad.add_(split.residual(W).mul_(0.3))
                adam(W, grad, moments, 0.01, t)
                for plain, kernel in zip(moments.tensors(), their_moments.tensors(), strict=True):
                    assert torch.equal(plain, kernel.cpu()), (shape, dtype, kind, t)
                torch.testing.assert_close(W, theirs.cpu(), rtol=1e-6, atol=1e-6)
                W.copy_(theirs)  # torch's square root on a CPU is off by a bit in one of 200

# A whole run by the kernel and by the plain path: the same arguments reach either.
def run(method, by_kernel):
    x = [torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(DEVICE) for shape in ((24, 300), (5000,))]
    aim = [0.1 * each.flip(0) for each in x]
    x = [each.requires_grad_() for each in x]
    matrix = Matrix(x[0], method.moments(x[0].detach()), method.split(x[0].detach()), TARGET)
    other = Variable(x[1], method.moments(x[1].detach()))

    def gradient(t):
        for each, to in zip(x, aim):
            each.grad = 100 * (each.detach() - to)
        return torch.zeros((), device=DEVICE)

    variables.fused = (lambda W, moments, split=None: kernels.fused_adam) if by_kernel else (lambda *_: None)
    elsa([matrix], [other], gradient, steps=12, lr=0.05, penalty=lambda t: 0.5 + t / 12, interval=3)
    return [each.detach().cpu() for each in x]

TARGET = Target.of(Unstructured(0.75), (24, 300))
for method in (Elsa(), ElsaL()):
    plain, kernel = run(method, False), run(method, True)
    assert torch.equal(plain[0] != 0, kernel[0] != 0), method
    for one, other in zip(plain, kernel):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
print("same")
"""


@pytest.mark.slow
def test_the_pass_gives_the_plain_paths_weights_and_codes() -> None:
    run("cpu", TRITON_INTERPRET="1", OMP_NUM_THREADS="1")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_pass_gives_them_on_the_device() -> None:
    run("cuda")


def run(device: str, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, device],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "same\n"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("low_memory", [False, True])
def test_the_pass_compiles_without_a_gpu(
    low_memory: bool, capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For ELSA and ELSA-L, down to machine code, on devices with and without fp8 units; exact roots, no fused sums."""
    import triton
    from prunebench_plugins.elsa import kernels
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    constants = {
        "SPLIT": True,
        "FP8": low_memory,
        "EIGHT_BIT": low_memory,
        "ROWS": kernels.ROWS,
        "BLOCK": kernels.BLOCK,
    }
    codes = {"M", "V", "C", "M_below", "V_below"} if low_memory else set()
    kinds = (
        dict.fromkeys(constants, "constexpr")
        | {"blocks": "i32", "width": "i32", "Bits": "*u8"}
        | dict.fromkeys(codes, "*u8")
    )
    names = kernels._step.arg_names
    signature = {name: kinds.get(name, "*fp32" if name[0].isupper() else "fp32") for name in names}
    source = ASTSource(kernels._step, signature, {(names.index(name),): value for name, value in constants.items()})
    target = GPUTarget("cuda", capability, 32)
    ptx = triton.compile(source, target=target, options={"enable_fp_fusion": False}).asm["ptx"]
    assert "sqrt.rn" in ptx
    assert "fma.rn" not in ptx
