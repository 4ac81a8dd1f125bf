"""The objective-aware score of ELSA, against brute force and against the exact diagonal of the Hessian."""

from typing import Any

import pytest
import torch
from prunebench_plugins.elsa.adam import adam
from prunebench_plugins.elsa.states import FullMoments, OneState
from prunebench_plugins.elsa.variables import Matrix
from torch import Tensor

from prunebench.pruning import Target, Unstructured, prunable


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_score_is_the_closed_form_of_the_weighted_projection() -> None:
    """argmin over supports of Σ v_i (z_i − y_i)², by brute force."""
    from itertools import combinations

    y, v = torch.randn(2, 4, generator=generator(0)), torch.rand(2, 4, generator=generator(1))
    moments = FullMoments(y)
    moments.v.copy_(v)
    matrix = Matrix(
        y.clone().requires_grad_(), moments, OneState(y, torch.float32), Target.of(Unstructured(0.625), (2, 4))
    )
    costs = {
        support: sum(float(v.flatten()[i] * y.flatten()[i] ** 2) for i in range(8) if i not in support)
        for support in combinations(range(8), 3)
    }
    best = min(costs, key=lambda support: costs[support])
    assert tuple(matrix.kept(y, "objective").flatten().nonzero().flatten().tolist()) == best


def ranks(x: Tensor) -> Tensor:
    return x.argsort().argsort().double()


def spearman(x: Tensor, y: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([ranks(x), ranks(y)]))[0, 1])


@pytest.mark.slow
def test_the_score_ranks_as_the_exact_hessian_diagonal_does() -> None:
    """Rank correlation of v·W² with H_ii·W², matrix by matrix, on a one-block LLaMA of 1,280 prunable weights.

    Tokens are drawn from the model itself, so that the Fisher is the Hessian in expectation; v is Adam's own average
    (β₂ = 0.95). Measured, mean over the seven matrices: 0.986; of W²
    alone with H_ii·W² 0.846; of v with H_ii 0.955.
    """
    model, ids, labels = well_specified()
    layers = [layer for layer, _ in prunable(model, Unstructured(0.5))]

    def loss(part: slice) -> Tensor:
        logits = model(input_ids=ids[part], use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[part].flatten())

    parameters = [layer.parameter for layer in layers]
    moments = [FullMoments(p.detach()) for p in parameters]
    for t in range(50):
        for p, state, g in zip(
            parameters, moments, torch.autograd.grad(loss(slice(8 * t, 8 * t + 8)), parameters), strict=True
        ):
            adam(p.detach(), g.clone(), state, 0.0, t + 1)
    slopes = torch.autograd.grad(loss(slice(None)), parameters, create_graph=True)
    aware, plain, bare = [], [], []
    for p, state, slope in zip(parameters, moments, slopes, strict=True):
        diagonal = torch.stack(
            [torch.autograd.grad(s, p, retain_graph=True)[0].flatten()[i] for i, s in enumerate(slope.flatten())]
        )
        size = p.detach().flatten().square()
        aware.append(spearman(state.v.flatten() * size, diagonal * size))
        plain.append(spearman(size, diagonal * size))
        bare.append(spearman(state.v.flatten(), diagonal))
    means = [sum(values) / len(values) for values in (aware, plain, bare)]
    assert means[0] > 0.98, means
    assert means[1] < 0.9, means
    assert means[2] > 0.9, means


def well_specified() -> tuple[Any, Tensor, Tensor]:
    """A tiny model, random inputs (400, 12), and next tokens drawn from the model's own distribution."""
    import transformers

    state = torch.get_rng_state()
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=12, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, head_dim=4, max_position_embeddings=16, pad_token_id=0, initializer_range=0.4,
        attn_implementation="eager",
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    torch.set_rng_state(state)
    ids = torch.randint(12, (400, 12), generator=generator(1))
    with torch.no_grad():
        chances = model(input_ids=ids, use_cache=False).logits.softmax(-1)
    labels = torch.multinomial(chances.flatten(0, 1), 1, generator=generator(2)).view(ids.shape)
    return model, ids, labels
