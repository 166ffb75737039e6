"""From a stranger's weights to drafted specs: what names, order and shapes prove, and what they leave open."""

from gan_export.understanding.edit import find_choice, with_value

__all__ = ["find_choice", "with_value"]
