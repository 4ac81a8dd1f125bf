"""A tile of SparseGPT on CUDA against the plain torch path, in Triton's interpreter: the same masks and weights."""

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
from prunebench.pruning import NM, Target, Unstructured
from prunebench_plugins.sparsegpt import kernels
from prunebench_plugins.sparsegpt.algorithm import prune_tile

DEVICE = sys.argv[1]
g = torch.Generator().manual_seed(0)
for columns, rows in ((32, 70), (24, 130)):
    X = torch.randn(200, columns, generator=g) @ torch.randn(columns, columns, generator=g)
    U = torch.linalg.cholesky(torch.linalg.inv(X.T @ X / 200 + torch.eye(columns)), upper=True)
    dead = torch.zeros(columns, dtype=torch.bool)
    dead[5] = True
    start = torch.randn(columns, rows, generator=g)
    for pattern in (Unstructured(0.7), NM(2, 4), NM(1, 4), NM(4, 8), Unstructured(0.0)):
        target = Target.of(pattern, (rows, columns))
        plain, kernel = start.clone(), start.to(DEVICE, copy=True)
        errors = prune_tile(plain, U, target, dead)
        theirs = kernels.prune_tile(kernel, U.to(DEVICE), target, dead.to(DEVICE))
        assert torch.equal(plain != 0, kernel.cpu() != 0), pattern
        torch.testing.assert_close(kernel.cpu(), plain, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(theirs.cpu(), errors, rtol=1e-4, atol=1e-5)
print("same")
"""


@pytest.mark.slow
def test_the_kernel_gives_the_plain_paths_weights_and_errors() -> None:
    run("cpu", TRITON_INTERPRET="1", OMP_NUM_THREADS="1")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_kernel_gives_them_on_the_device() -> None:
    run("cuda")


def run(device: str, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, device],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "same\n"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m"), [(0, 0), (2, 4)])
def test_the_kernel_compiles_without_a_gpu(n: int, m: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import triton
    from prunebench_plugins.sparsegpt import kernels
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    constants = {"COLUMNS": 128, "N": n, "M": m, "ROWS": kernels.ENTRIES // 128, "WIDTH": 128}
    kinds = {
        "W": "*fp32",
        "Errors": "*fp32",
        "U": "*fp32",
        "Kept": "*u8",
        "Dead": "*u8",
        "rows": "i32",
    }
    names = kernels._prune_tile.arg_names
    signature = kinds | dict.fromkeys(constants, "constexpr")
    source = ASTSource(
        kernels._prune_tile, signature, {(names.index(name),): value for name, value in constants.items()}
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    assert ".entry _prune_tile" in compiled.asm["ptx"]
