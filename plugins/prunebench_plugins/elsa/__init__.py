"""ELSA and ELSA-L: sparsity for a language model's own loss, without a layer-wise surrogate, by ADMM.

Lee, Jang, Lee, Alistarh and Lee, "The Unseen Frontier: Pushing the Limits of LLM Sparsity with Surrogate-Free ADMM",
ICLR 2026, arXiv 2510.01650.

method       the two methods and their options
algorithm    the run, to be read beside the paper
variables    the trained tensors: one Adam step, the update of z and u, the projection
adam         Adam's constants and its plain update
states       how z, u, m and v are stored
codes        the 8-bit formats
kernels      proximal term and Adam in one pass over memory, for CUDA
schedules    the penalty and the learning rate during a run
training     the gradients: of the model's loss, of a matrix's output error
"""

from prunebench_plugins.elsa.method import Elsa, ElsaL

__all__ = ["Elsa", "ElsaL"]
