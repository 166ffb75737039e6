"""From a stranger's weights to drafted specs: what names, order and shapes prove, and what they leave open.

`draft_candidates` is the way in; `edit` changes a choice of a draft, `draft_with_spec` takes the user's word for all.
"""

from gan_export.understanding.edit import find_choice, with_value
from gan_export.understanding.given import draft_with_spec
from gan_export.understanding.understand import draft_candidates

__all__ = ["draft_candidates", "draft_with_spec", "find_choice", "with_value"]
