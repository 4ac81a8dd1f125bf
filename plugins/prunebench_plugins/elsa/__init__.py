"""ELSA and ELSA-L: sparsity for a language model's own loss, without a layer-wise surrogate, by ADMM.

Lee, Jang, Lee, Alistarh and Lee, "The Unseen Frontier: Pushing the Limits of LLM Sparsity with Surrogate-Free ADMM",
ICLR 2026, arXiv 2510.01650.

``method`` holds the two methods and their options; ``algorithm`` the run, to be read beside the paper; ``schedules``
the penalty's and the learning rate's course; ``training`` what makes a model trainable for a while; ``states`` how
z, u, m and v are stored; ``codes`` the 8-bit formats; ``kernels`` the one pass over memory on CUDA.
"""

from prunebench_plugins.elsa.method import Elsa, ElsaL

__all__ = ["Elsa", "ElsaL"]
