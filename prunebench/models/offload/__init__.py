"""Models larger than memory: their decoder blocks are read from a checkpoint, and written to another, one at a time.

``block_store`` has the store that a model on disk has attached (the interface is ``prunebench.pruning.offload``),
``parts`` reads and writes one part of a checkpoint folder, ``safetensors_io`` one tensor of a file at a time.
"""

__all__ = ["block_store", "parts", "safetensors_io"]
