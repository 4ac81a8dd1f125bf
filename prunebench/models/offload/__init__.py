"""Models larger than memory.

files        tensors in safetensors files, read and written one at a time
checkpoint   a folder of such files, read and written one part of a model at a time
store        the decoder blocks of a model, from one checkpoint and into another
loading      a model whose blocks lie in such a store
room         whether the disk has room for it all
"""
