"""Images from anywhere as one memory-mapped uint8 array: `open_dataset`. No torch is imported here.

decode      `Pictures` of any origin; picture → (size, size, C) pixels, as the DCGAN tutorial makes them, in threads
folder      a folder of pictures, with or without class folders
idx         MNIST's file format
builtin     the data sets known by name
cache       decoded once, kept as .npy, rebuilt when the source changes
dataset     `open_dataset` joins them
"""

from gan_trainer.data.builtin import BUILTIN
from gan_trainer.data.cache import ImageDataset
from gan_trainer.data.dataset import check_still_there, open_dataset

__all__ = ["BUILTIN", "ImageDataset", "check_still_there", "open_dataset"]
