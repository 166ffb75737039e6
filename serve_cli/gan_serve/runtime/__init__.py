"""A model file becomes a generator that draws: sessions of onnxruntime, providers, the pixels of a batch."""
