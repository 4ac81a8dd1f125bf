"""Mixtures of experts as transformers stores them: one three-dimensional parameter holds a matrix of every expert.

Such a module offers transformers' interface for experts: ``has_gate``, ``has_bias`` and ``is_transposed`` say how the
parameters are laid out, ``_apply_gate`` is the activation between the two products, and it is called with the hidden
states and the experts chosen for each token. ``gate_up_proj`` counts as one matrix, as a dense model's fused one does:
gate and up read the same input, whatever the order of their rows.
"""

from torch import nn

# Modules beside the experts that compute their weights: never pruned, since they decide which weights are used at all.
ROUTERS = frozenset({"gate", "router", "shared_expert_gate"})
# A module that mixes parallel hidden states by a router and small coefficients (AltUp of Gemma 3n: "Alternating Updates
# for Efficient Transformers", NeurIPS 2023).
MIXERS = ("AltUp",)
INTERFACE = ("has_gate", "has_bias", "is_transposed", "_apply_gate")
# Modules that hold several matrices in one parameter (count, …, …) without that interface: by class, the parameters and
# whether each matrix is stored as (in, out). Their products cross no module boundary.
STACKS = {
    "JetMoeParallelExperts": {"weight": False},
    "Llama4TextExperts": {"gate_up_proj": True, "down_proj": True},
    "RecurrentGemmaRglru": {"input_gate_weight": True, "recurrent_gate_weight": True},
}
HEADS = frozenset({"RecurrentGemmaRglru"})  # of these, those whose matrices all see every token


def are_experts(module: nn.Module) -> bool:
    """Whether a module holds fused experts in the layout described above."""
    return all(hasattr(module, name) for name in INTERFACE) and all(
        isinstance(weight, nn.Parameter) and weight.dim() == 3 and weight.is_floating_point()
        for weight in (getattr(module, name, None) for name in weight_names(module))
    )


def stacked_weights(module: nn.Module) -> dict[str, bool]:
    """Parameters of a module that hold several matrices each, with whether they are stored as (in, out); see STACKS."""
    return STACKS.get(type(module).__name__, {})


def first_of_experts(module: nn.Module) -> str | None:
    """The parameter that reads the tokens routed to an expert; None where no token is routed."""
    if are_experts(module):
        return weight_names(module)[0]
    return None if type(module).__name__ in HEADS else next(iter(stacked_weights(module)), None)


def stacked_biases(module: nn.Module) -> list[nn.Parameter]:
    """The biases of stacked matrices, (count, out): two-dimensional, but no matrices."""
    names = [name.removesuffix("weight") + "bias" for name in stacked_weights(module) if name.endswith("_weight")]
    return [module.get_parameter(name) for name in names if hasattr(module, name)]


def weight_names(experts: nn.Module) -> tuple[str, str]:
    """Names of the two fused parameters: the matrix that reads an expert's input, and the one that gives its output."""
    return ("gate_up_proj" if experts.has_gate else "up_proj", "down_proj")


def expert_weights(experts: nn.Module) -> dict[str, nn.Parameter]:
    """The two fused parameters (experts, …, …) by name, in the order of ``weight_names``."""
    return {name: experts.get_parameter(name) for name in weight_names(experts)}


def expert_biases(experts: nn.Module) -> list[nn.Parameter]:
    """The fused biases, (experts, out): two-dimensional, but no matrices."""
    return [experts.get_parameter(f"{name}_bias") for name in weight_names(experts)] if experts.has_bias else []


def is_router(name: str, block: nn.Module) -> bool:
    """Whether the module ``name`` of a block is, or is part of, a router.

    That is one of ``ROUTERS`` beside experts, or anything inside a module that mixes hidden states (``MIXERS``).
    """
    path = name.split(".")
    parents = [block.get_submodule(".".join(path[:depth])) for depth in range(len(path))]
    return any(
        (part in ROUTERS and _has_experts(parent)) or type(parent).__name__.endswith(MIXERS)
        for part, parent in zip(path, parents, strict=True)
    )


def _has_experts(module: nn.Module) -> bool:
    return hasattr(module, "experts") or any(stacked_weights(child) for child in module.children())
