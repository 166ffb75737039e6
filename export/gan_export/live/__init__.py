"""A generator that comes as code: `--module file.py:Class`, with its weights (docs/live-modules.md).

loading    runs the user's code and builds the module       weights   loads a checkpoint into it, strictly
probing    finds how it is called, by signature and trying  ranges    what its output's values mean
law        the latent law, where its BatchNorms remember it
adapter    one signature for all of them                    noise     what it draws inside its forward, held still
grouped    convolutions grouped by the batch (StyleGAN2), which ONNX cannot say, as sums of products
"""
