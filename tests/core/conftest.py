"""Without torch, what builds networks is left out: `make test-runtime`."""

from __future__ import annotations

import importlib.util

collect_ignore = [] if importlib.util.find_spec("torch") else ["test_spec.py", "test_value_layers.py"]
