"""Which names a checkpoint may mention.

Nothing that a file names is imported or called, so no name can do harm here. But a file that names `os.system` is
no checkpoint: it is told to the user as an attack, not skipped over, since the next program to open it may obey. The
standard library, numpy and torch are therefore refused except for what real checkpoints contain; names from anywhere
else (`__main__`, the author's package) are the classes of whole-module pickles and become `Inert` records.
"""

from __future__ import annotations

import sys

from gan_core.errors import GanportError
from gan_export.reading.inert import GlobalName
from gan_export.reading.roles import words

_BUILTIN_FUNCTIONS = words("getattr print len min max sum abs round type")
"""Harmless as names (defaults of pickled configurations), never to be called; `getattr` is the way a bound method is
pickled, and `rebuild` looks at what it is given."""
_BUILTINS = _BUILTIN_FUNCTIONS | words(
    "set frozenset list dict tuple int float bool str bytes bytearray complex object slice range xrange long unicode "
    "Exception ValueError RuntimeError KeyError TypeError NotImplementedError"
)

_STDLIB_MODULES = words(
    "abc argparse array collections collections.abc copyreg dataclasses datetime decimal enum fractions logging "
    "math numbers pathlib pathlib._local random re string time typing uuid weakref zoneinfo ntpath posixpath"
)
_STDLIB_NAMES = frozenset(
    {
        "_codecs.encode", "functools.partial", "functools.wraps", "types.SimpleNamespace", "types.MethodType",
        "types.MappingProxyType", "types.NoneType", "itertools.count", "itertools.chain", "itertools.cycle",
        "threading.Lock", "threading.RLock", "_thread.lock", "_thread.RLock", "_random.Random",
    }
)  # fmt: skip
_PYTHON2_REFUSED = frozenset({"commands", "popen2", "os2", "cPickle", "imp", "new", "ihooks", "thread"})

_NUMPY_MODULES = ("numpy.core", "numpy._core", "numpy.random", "numpy.dtypes", "numpy.ma")
_NUMPY_REFUSED = words(
    "load save savez savetxt loadtxt genfromtxt fromfile memmap frombuffer fromfunction fromregex fromiter "
    "apply_along_axis apply_over_axes vectorize frompyfunc piecewise source lookfor"
)

_TORCH_REFUSED_NAMES = words(
    "load save compile from_file import_ir_module vmap set_default_device manual_seed tensor frombuffer"
)
_TORCH_REFUSED = (
    "torch.hub", "torch.jit", "torch.package", "torch.utils", "torch.fx", "torch.serialization",
    "torch.multiprocessing", "torch._dynamo", "torch._inductor", "torch.testing", "torch.onnx", "torch.ops",
    "torch._ops", "torch.classes", "torch._classes", "torch.distributed", "torch.library", "torch.export",
    "torch._export", "torch._custom_op", "torch.cuda.jiterator", "torch._appdirs", "torch.profiler",
    "torch._higher_order_ops", "torch._lobpcg", "torch._namedtensor_internals",
)  # fmt: skip
_TORCH_ALLOWED = (
    "torch.utils.hooks", "torch.utils.data", "torch.utils._pytree", "torch.jit._pickle",
    "torch.distributed.optim", "torch.distributed._shard", "torch.distributed.tensor",
)  # fmt: skip
_TORCH_ALLOWED_NAMES = frozenset({"torch.serialization._get_layout"})


def check_name(name: GlobalName) -> None:
    """Raises `GanportError` when a checkpoint has no business naming `name`."""
    if not _allowed(name):
        raise _refusal(f"names {name}")


def check_call(name: GlobalName) -> None:
    """Raises `GanportError` when calling `name`, which no rebuild function stands for, is not how objects are made.

    Classes are called in honest files too, functions of torch and numpy are not.
    """
    function = name.name[:1].islower()
    if function and (name.module in ("torch", "numpy") or name.module.startswith("torch._C")):
        raise _refusal(f"calls {name}()")
    if name.module in ("builtins", "__builtin__") and name.name in _BUILTIN_FUNCTIONS:
        raise _refusal(f"calls {name}()")


def check_attribute(owner: GlobalName, attribute: str) -> None:
    """Raises `GanportError` for `getattr(owner, attribute)` but on an author's own class (an Enum's member)."""
    top = owner.module.partition(".")[0]
    if attribute.startswith("__") or top in ("torch", "numpy") or top in sys.stdlib_module_names:
        raise _refusal(f"calls getattr({owner}, {attribute!r})")


def refuse_argument(name: str, why: str) -> GanportError:
    """The error for a rebuild function that is given something no honest file gives it."""
    return _refusal(f"calls {name} {why}")


def _refusal(what: str) -> GanportError:
    return GanportError(
        f"the pickle in it {what}, which weights never need: it may be an attack, and nothing of it was run",
        hint="do not open it with torch.load or pickle; get a state_dict or .safetensors from a source you trust",
    )


def _allowed(name: GlobalName) -> bool:
    top = name.module.partition(".")[0]
    attribute = name.name.partition(".")[0]
    if any(part.startswith("__") and part.endswith("__") for part in name.name.split(".")):
        return False
    if name.module in ("builtins", "__builtin__"):
        return name.name in _BUILTINS
    if top in ("copy_reg", "UserDict", "exceptions"):
        return True
    if top == "torch":
        if str(name) in _TORCH_ALLOWED_NAMES or _within(name.module, _TORCH_ALLOWED):
            return True
        dotted = f"{name.module}.{attribute}"
        if dotted.startswith("torch._C._jit"):
            return False
        return not (_within(dotted, _TORCH_REFUSED) or (name.module == "torch" and attribute in _TORCH_REFUSED_NAMES))
    if top == "numpy":
        if name.module == "numpy":
            return "." not in name.name and attribute not in _NUMPY_REFUSED
        return _within(name.module, _NUMPY_MODULES) and attribute not in _NUMPY_REFUSED
    if top in _PYTHON2_REFUSED:
        return False
    if top in sys.stdlib_module_names:
        return (name.module in _STDLIB_MODULES and "." not in name.name) or str(name) in _STDLIB_NAMES
    return True


def _within(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == prefix or module.startswith(prefix + ".") for prefix in prefixes)
