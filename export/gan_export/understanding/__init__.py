"""From a stranger's weights to drafted specs: what names, order and shapes prove, and what they leave open.

`understand.draft_candidates` is the way in, `edit` changes a choice of a draft; `understand.drafts_with_spec` takes the
user's word for all.
"""
