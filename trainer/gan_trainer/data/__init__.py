"""Images from anywhere as one memory-mapped uint8 array: `open_dataset`. No torch is imported here.

builtin     the data sets known by name
cache       decoded once, kept as .npy, rebuilt when the source changes
store       what the cache holds, and its limit
dataset     `open_dataset` joins them

How pictures are found, read and made square is in `gan_core.pictures`.
"""

from gan_trainer.data.builtin import BUILTIN
from gan_trainer.data.cache import ImageDataset
from gan_trainer.data.dataset import check_large_enough, check_still_there, open_dataset

__all__ = ["BUILTIN", "ImageDataset", "check_large_enough", "check_still_there", "open_dataset"]
