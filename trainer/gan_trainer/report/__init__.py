"""One HTML page about a run, whole in itself: `gan-train report`. No torch is needed.

gather   what the run's folder holds
charts   curves as SVG
page     the page
"""

from gan_trainer.report.gather import Run, gather
from gan_trainer.report.page import render

__all__ = ["Run", "gather", "render"]
