"""Gradients of a model's loss by its prunable matrices, window by window."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from prunebench.pruning.calibration import CalibrationData
from prunebench.pruning.callbacks import track
from prunebench.pruning.layers import prunable
from prunebench.pruning.losses import language_loss
from prunebench.pruning.masters import trainable
from prunebench.pruning.resume import begin_walk, due, forget, keep, kept
from prunebench.pruning.sparsity import Sparsity
from prunebench.pruning.training import digest_of


def gradients(
    model: nn.Module,
    data: CalibrationData,
    sparsity: Sparsity,
    reduce: Callable[[Tensor], Tensor] = torch.square,
) -> dict[str, Tensor]:
    """The mean over calibration windows of a function of the language loss's gradient, for every prunable matrix.

    The loss is the mean over the tokens of one window. An interrupted run resumes at the window that it saved last.

    Args:
        model: a causal language model in eval mode, in memory as a whole.
        data: calibration windows.
        sparsity: the pattern asked for.
        reduce: called with the gradient of one window, fp32 in the parameter's storage order, returns a tensor of that
            shape: ``torch.square`` for the diagonal of the empirical Fisher matrix, ``torch.abs`` for mean magnitudes,
            ``torch.clone`` for the gradient itself.

    Returns:
        By layer name, fp32 (out, in).

    Raises:
        RuntimeError: the model's blocks lie on disk.
    """
    layers = [layer for layer, _ in prunable(model, sparsity)]
    parameters = list(dict.fromkeys(layer.parameter for layer in layers))
    with trainable(model, parameters):
        sums = [torch.zeros_like(parameter, requires_grad=False) for parameter in parameters]
        key, first = f"{begin_walk()}/gradients {digest_of(parameters)}", 0
        if saved := kept(key):
            first = saved[1]["windows"]
            for index, total in enumerate(sums):
                total.copy_(saved[0][str(index)])
        for number in track(range(first, data.nsamples), "window", start=first):
            if due():
                keep(key, {str(index): total for index, total in enumerate(sums)}, {"windows": number})
            with torch.enable_grad():
                loss = language_loss(model, data.windows[number : number + 1])
                found = torch.autograd.grad(loss, parameters, allow_unused=True)
            for total, gradient in zip(sums, found, strict=True):
                if gradient is not None:
                    total.add_(reduce(gradient))
        forget(key)
        means = {parameter: total.div_(data.nsamples) for parameter, total in zip(parameters, sums, strict=True)}
    return {layer.name: layer.view(means[layer.parameter]) for layer in layers}
