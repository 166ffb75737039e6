"""What shapes cannot show, the statistics can: activations, eps, latent law and structure from the BatchNorms' memory.

A trained BatchNorm remembers the mean and variance of what reached it. `investigate` runs candidate networks on
latents of candidate laws and keeps what brings the same (docs/forensics.md has the method and its limits).
"""

from gan_export.forensics.investigation import LayerFits, investigate, misfit

__all__ = ["LayerFits", "investigate", "misfit"]
