"""The few functions and classes that a pickled checkpoint may call, as our own lines that do the same.

Each handler takes the arguments as the file gives them and checks their types before anything else. A name that has
no handler is never called; it becomes an `Inert` record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch

from gan_core.printable import printable
from gan_export.reading.inert import DamagedError, GlobalName, Inert, brief
from gan_export.reading.lazy import ARRAY_HANDLERS, LazyTensor, Storage, is_shape, strided
from gan_export.reading.policy import check_attribute, check_call, check_name, refuse_argument
from gan_export.reading.roles import words

SOURCE = "_module_sha256"
NestedStorage = Callable[[bytes | bytearray], Any]
Handler = Callable[..., Any]

STORAGE_DTYPES: dict[str, torch.dtype | None] = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": None, "QInt8Storage": torch.int8, "QUInt8Storage": torch.uint8, "QInt32Storage": torch.int32,
    "QUInt4x2Storage": torch.uint8, "QUInt2x4Storage": torch.uint8,
}  # fmt: skip

MAX_KEY = 300
DTYPES = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
QUANTISED = "its weights are quantised"

_CONTAINERS = words("list tuple set frozenset dict OrderedDict Counter defaultdict deque")
_PARAMETERS = frozenset({"Parameter", "Variable", "Buffer"})


def storage_type(value: Any) -> tuple[torch.dtype | None, str]:
    """(dtype, problem) of a storage class such as torch.cuda.HalfStorage. Raises `GanportError` for anything else."""
    known = isinstance(value, GlobalName) and value.module in ("torch", "torch.cuda", "torch.storage")
    if known and value.name in STORAGE_DTYPES:
        return STORAGE_DTYPES[value.name], QUANTISED if value.name.startswith("Q") else ""
    raise DamagedError(f"a storage has the type {_describe(value)}, which torch does not know")


def dtype_of(value: Any) -> torch.dtype | None:
    """The dtype that `torch.float32`, written as a name, stands for; None for anything else."""
    return DTYPES.get(value.name) if isinstance(value, GlobalName) and value.module == "torch" else None


def call(function: Any, args: Any, nested: NestedStorage) -> Any:
    """What `function(*args)` is, for a pickle's REDUCE and NEWOBJ; `nested` reads a storage pickled as torch bytes.

    Raises `GanportError` for calls that no honest file makes.
    """
    if not isinstance(args, tuple):
        raise DamagedError(f"a call's arguments are {_describe(args)}, expected a tuple")
    if not isinstance(function, GlobalName):
        return Inert(GlobalName("", _describe(function)), args)
    module, name = function.module, function.name
    if (module, name) == ("torch.storage", "_load_from_bytes"):
        if len(args) != 1 or not isinstance(args[0], (bytes, bytearray)):
            raise refuse_argument(str(function), "on something that is not bytes")
        return nested(args[0])
    handler = HANDLED.get((module, name))
    if handler is not None:
        try:
            return handler(*args)
        except TypeError as error:
            raise DamagedError(f"{function} is called with arguments it does not take") from error
    if is_container(function):
        return _container(name, args)
    if name in _PARAMETERS and module.startswith(("torch.nn", "torch.autograd")):
        return args[0] if args and isinstance(args[0], LazyTensor) else Inert(function, args)
    check_call(function)
    return Inert(function, args)


def is_container(name: GlobalName) -> bool:
    """Whether `name` is one of Python's own containers."""
    return name.name in _CONTAINERS and name.module in ("builtins", "__builtin__", "collections")


def _container(name: str, args: tuple[Any, ...]) -> Any:
    content = args[0] if args else None
    if name == "defaultdict" or content is None or isinstance(content, (GlobalName, Inert)):
        content = ()
    if not isinstance(content, (list, tuple, dict)):
        raise refuse_argument(name, f"on {_describe(content)}")
    if name in ("dict", "OrderedDict", "Counter", "defaultdict"):
        return content if isinstance(content, dict) else {safe_key(k): v for k, v in _pairs(content)}
    return tuple(content) if name == "tuple" else list(content)


def _pairs(content: list[Any] | tuple[Any, ...]) -> list[Any]:
    if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in content):
        raise DamagedError("a dictionary is made of something other than pairs")
    return list(content)


def safe_key(key: Any) -> Any:
    """`key` if hashing it is cheap and safe, or a text that stands for it."""
    if key is None or isinstance(key, (float, bool, GlobalName)) or (type(key) is int and -(2**63) <= key < 2**64):
        return key
    if isinstance(key, (bytes, str)):  # names are shown on terminals
        length = len(key)
        key = key[:MAX_KEY] if isinstance(key, str) else key[:MAX_KEY].decode("latin-1")
        key = key if length <= MAX_KEY else f"{key}…{length}"
        return printable(key)
    return f"<{_describe(key)} at {id(key):x}>"


def _describe(value: Any) -> str:
    return str(value) if isinstance(value, GlobalName) else type(value).__name__


# ----------------------------------------------------------------------------------------------------------- tensors


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> LazyTensor:
    if not isinstance(storage, Storage):
        raise DamagedError(f"a tensor is built on {_describe(storage)}, expected a storage")
    return strided(storage, offset, size, stride)


def _tensor_v3(
    storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any
) -> LazyTensor:
    found = dtype_of(dtype)
    if not isinstance(storage, Storage) or found is None:
        raise DamagedError("a tensor is built on something that is not a storage and a dtype")
    return strided(storage, offset, size, stride, found)


def _quantised(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> LazyTensor:
    tensor = _tensor(storage, offset, size, stride)
    tensor.problem = QUANTISED
    return tensor


def _without_data(problem: str, shape_at: int) -> Handler:
    def handler(*args: Any) -> LazyTensor:
        shape = args[shape_at] if 0 <= shape_at < len(args) else ()
        return LazyTensor(tuple(shape) if is_shape(shape) else (), problem=problem)

    return handler


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _from_device(data: Any, dtype: Any, device: Any, *_: Any) -> Any:
    """XLA, MPS, HPU … tensors: a CPU tensor or numpy array, and the dtype it shall have."""
    found = dtype_of(dtype)
    if not isinstance(data, LazyTensor) or found is None:
        raise DamagedError("a device tensor is built on something that is not a tensor and a dtype")
    return LazyTensor(data.shape, found, lambda: data.load().to(found), location=brief(device), problem=data.problem)


def _from_type(function: Any, _type: Any, args: Any, _state: Any) -> Any:
    """A tensor subclass: the plain tensor that it was rebuilt from."""
    handler = HANDLED.get((function.module, function.name)) if isinstance(function, GlobalName) else None
    if handler is None or not isinstance(args, tuple):
        raise refuse_argument("torch._tensor._rebuild_from_type_v2", f"with {_describe(function)}")
    return handler(*args)


# ------------------------------------------------------------------------------------------------- everything else


def _size(values: Any = ()) -> Any:
    return tuple(values) if isinstance(values, (list, tuple)) else ()


def _device(*parts: Any) -> str:
    return ":".join(brief(part) for part in parts if isinstance(part, (str, int)))[:40]


def new_object(cls: Any, *args: Any) -> Any:
    """copyreg._reconstructor(cls, base, state) and copyreg.__newobj__(cls, *args)."""
    if isinstance(cls, GlobalName) and is_container(cls):
        return _container(cls.name, ())
    if isinstance(cls, GlobalName) and cls.name in _PARAMETERS and args and isinstance(args[0], LazyTensor):
        return args[0]
    made = Inert(cls if isinstance(cls, GlobalName) else GlobalName("", _describe(cls)), args)
    if len(args) == 2 and isinstance(args[1], dict):  # a subclass of dict, protocol 0 and 1
        made.items = args[1]
    return made


def _attribute(owner: Any, attribute: Any, *_: Any) -> Any:
    """A bound method, an Enum's member, or a function of torch's (torch.tanh as somebody's activation)."""
    if isinstance(owner, GlobalName):
        if owner.module == "torch._C" and owner.name in ("_VariableFunctionsClass", "_VariableFunctions"):
            function = GlobalName("torch", brief(attribute))
            check_name(function)
            return function
        check_attribute(owner, brief(attribute, 200))
    elif brief(attribute).startswith("__") or not isinstance(owner, (Inert, LazyTensor, dict, list)):
        raise refuse_argument("getattr", f"for {brief(attribute)!r} of {_describe(owner)}")
    return Inert(GlobalName("builtins", "getattr"), (owner, attribute))


def _encode(text: Any, encoding: Any = "utf-8", *_: Any) -> bytes:
    """How protocol 2 writes bytes: a string and "latin1"."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8", "ascii"):
        raise refuse_argument("_codecs.encode", f"with {brief(encoding)!r}")
    return text.encode(encoding)


def _bytes(data: Any = b"", encoding: Any = "latin-1", *_: Any) -> bytes:
    """bytes(b"…") and bytearray("…", "latin-1"); never bytes(10**12)."""
    if isinstance(data, str):
        return _encode(data, encoding)
    if isinstance(data, (list, tuple)) and not data:
        return b""
    if not isinstance(data, (bytes, bytearray)):
        raise refuse_argument("bytes", f"on {_describe(data)}")
    return bytes(data)


def _persistent_object(meta: Any, *_: Any) -> Any:
    """StyleGAN's own pickles: a dictionary of class name, source text (never run) and state. The SHA-256 of the source
    is kept, as the attribute `SOURCE`."""
    held = meta.items if isinstance(meta, Inert) else meta
    if not isinstance(held, dict):
        raise DamagedError("a StyleGAN object is pickled without its description")
    made = Inert(GlobalName("torch_utils.persistence", brief(held.get("class_name", "object"), 80)))
    state = held.get("state")
    if isinstance(state, dict):
        made.state = state
    else:
        made.build(state)
    source = held.get("module_src")
    if isinstance(source, str):
        made.state = made.state | {SOURCE: hashlib.sha256(source.encode(errors="surrogatepass")).hexdigest()}
    return made


def _tagged(value: Any, *_: Any) -> Any:
    """TorchScript's typed lists and dictionaries."""
    return value


_HANDLERS: dict[tuple[str, str], Handler] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_v3,
    ("torch._utils", "_rebuild_qtensor"): _quantised,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._utils", "_rebuild_sparse_tensor"): _without_data("it is a sparse tensor", -1),
    ("torch._utils", "_rebuild_sparse_csr_tensor"): _without_data("it is a sparse tensor", -1),
    ("torch._utils", "_rebuild_nested_tensor"): _without_data("it is a nested tensor", -1),
    ("torch._utils", "_rebuild_wrapper_subclass"): _without_data("it is a wrapper without data", 2),
    ("torch._utils", "_rebuild_meta_tensor_no_storage"): _without_data(
        "it was saved on the meta device, without data", 1
    ),
    ("torch._utils", "_rebuild_device_tensor_from_numpy"): _from_device,
    ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"): _from_device,
    ("torch._utils", "_rebuild_xla_tensor"): _from_device,
    ("torch.tensor", "_rebuild_from_type"): _from_type,
    ("torch._tensor", "_rebuild_from_type"): _from_type,
    ("torch._tensor", "_rebuild_from_type_v2"): _from_type,
    ("torch.nn.parameter", "Parameter"): _parameter,
    ("torch", "Size"): _size,
    ("torch", "device"): _device,
    ("torch.serialization", "_get_layout"): lambda name="": brief(name),
    ("torch.jit._pickle", "restore_type_tag"): _tagged,
    ("torch.jit._pickle", "build_tensorlist"): _tagged,
    ("torch.jit._pickle", "build_intlist"): _tagged,
    ("torch.jit._pickle", "build_doublelist"): _tagged,
    ("torch.jit._pickle", "build_boollist"): _tagged,
    ("copyreg", "_reconstructor"): new_object,
    ("copy_reg", "_reconstructor"): new_object,
    ("copyreg", "__newobj__"): new_object,
    ("copy_reg", "__newobj__"): new_object,
    ("builtins", "getattr"): _attribute,
    ("__builtin__", "getattr"): _attribute,
    ("builtins", "bytes"): _bytes,
    ("__builtin__", "bytes"): _bytes,
    ("builtins", "bytearray"): _bytes,
    ("__builtin__", "bytearray"): _bytes,
    ("_codecs", "encode"): _encode,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent_object,
}
HANDLED: dict[tuple[str, str], Handler] = {**_HANDLERS, **ARRAY_HANDLERS}
