"""Whether a TorchScript file does nothing but compute, found out before torch loads it.

A TorchScript file is a program: loading it runs its `__setstate__` and the defaults of its functions, drawing runs the
rest, and torch has operators that write files (`torch.from_file`) or reach beyond a tensor's memory (`as_strided`).
So the text of its code is held against a list of what a generator needs; what is not on the list is refused. So are
pickles that name anything but tensors and the archive's own classes, and tensors that reach beyond their storage.

An operator on the list has to be pure arithmetic on tensors that it bounds itself. So there is none that reads or
writes files, sees memory beyond a tensor or before it was written (set_, resize_, empty), or calls out (fork).
"""

from __future__ import annotations

import ast
import functools
import pickletools
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from gan_core.errors import ContractError, GanportError
from gan_export.reading import rebuild, unpickler
from gan_export.reading.inert import Budget
from gan_export.reading.lazy import Blob, Storage
from gan_export.reading.roles import words
from gan_export.reading.unpickler import Stream

OPERATORS = words(
    """
    add add_ sub sub_ rsub mul mul_ div div_ divide multiply subtract true_divide floor_divide floordiv remainder
    fmod pow neg abs sign exp exp_ expm1 log log1p log2 sqrt rsqrt reciprocal square sin cos tan asin acos atan
    atan2 sinh cosh erf erfc floor ceil round trunc frac clamp clamp_ clamp_min clamp_min_ clamp_max clamp_max_
    clip maximum minimum max min amax amin sum mean var std var_mean std_mean prod norm linalg_norm
    linalg_vector_norm logsumexp softmax log_softmax cumsum argmax argmin sort topk any all eq ne lt le gt ge
    isnan isinf isfinite logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not __and__
    __or__ __not__ __is__ __isnot__ where lerp addcmul addcdiv addmm baddbmm bmm matmul mm mv dot outer einsum
    nan_to_num linear bilinear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d
    _convolution convolution batch_norm instance_norm group_norm layer_norm rms_norm dropout dropout_
    feature_dropout alpha_dropout embedding one_hot _weight_norm _weight_norm_interface relu relu_ relu6 relu6_
    leaky_relu leaky_relu_ elu elu_ selu selu_ celu celu_ gelu silu silu_ mish mish_ hardtanh hardtanh_ hardswish
    hardswish_ hardsigmoid hardsigmoid_ softplus hardshrink softshrink threshold threshold_ prelu _prelu_kernel
    rrelu rrelu_ glu log_sigmoid tanh tanh_ sigmoid sigmoid_ cosine_similarity avg_pool1d avg_pool2d avg_pool3d
    max_pool1d max_pool2d max_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d
    upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d
    upsample_bicubic2d upsample_trilinear3d _upsample_nearest_exact1d _upsample_nearest_exact2d
    _upsample_nearest_exact3d _upsample_bilinear2d_aa _upsample_bicubic2d_aa _upsample_lanczos2d_aa grid_sampler
    affine_grid_generator pixel_shuffle pixel_unshuffle adaptive_avg_pool3d adaptive_max_pool1d
    adaptive_max_pool3d channel_shuffle reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d
    replication_pad2d replication_pad3d constant_pad_nd pad im2col col2im scaled_dot_product_attention view
    reshape flatten unflatten squeeze unsqueeze permute transpose t movedim swapaxes contiguous clone detach cat
    concat stack hstack vstack split split_with_sizes chunk tensor_split unbind narrow slice select index
    index_select gather expand expand_as repeat repeat_interleave tile flip roll rot90 view_as reshape_as size dim
    numel len sym_size broadcast_tensors copy_ fill_ zero_ alias zeros ones full zeros_like ones_like full_like
    arange linspace eye tensor scalar_tensor as_tensor new_zeros new_ones new_full rand randn rand_like randn_like
    randint normal bernoulli to type_as float double half int long bool cpu cuda device dtype is_floating_point
    Int Float Bool IntImplicit FloatImplicit ScalarImplicit item append extend insert pop reverse list
    __contains__ __getitem__ __range_length __derive_index keys values items format percentFormat warn str ord chr
    lower upper is_grad_enabled
    """
)
"""Names of aten operators: `torch.NAME` in the code."""
PRIMITIVES = words(
    """
    NumToTensor RaiseException Constant ListConstruct ListUnpack TupleConstruct TupleUnpack TupleIndex TupleSlice
    DictConstruct If Loop GetAttr CallMethod CallFunction Uninitialized Return unchecked_cast
    unchecked_unwrap_optional device dtype layout min max abs is_cuda is_cpu requires_grad rangelist Param
    isinstance type
    """
)
"""Names of prim operators: `ops.prim.NAME` in the code."""
BUILTINS = words(
    """
    torch ops __torch__ CONSTANTS int float bool str range len annotate unchecked_cast uninitialized getattr
    isinstance min max abs round inf nan
    """
)
TYPES = words(
    """
    Tensor int float bool str NoneType Optional List Tuple Dict Final Any number Device complex Union
    """
)

MEANING = "`trust_script`: loading the file runs the program in it with your rights; do this only with a file you trust"
_HINT = "if you trust whoever made it: `trust_script=True`; a file without code: gan-export FILE"

_GLOBALS = re.compile(
    r"__torch__(\.\w+)+ \w+|__torch__ \w+|collections OrderedDict|torch \w+Storage|torch device"
    r"|torch\._utils (_rebuild_tensor_v2|_rebuild_parameter)"
    r"|torch\.jit\._pickle (build_(int|double|bool|tensor)list|restore_type_tag)"
)
_NEEDED = re.compile(r"code/.*\.py|(data|constants)(\.pkl|/.*)|(\.data/)?(version|byteorder)|extra/gan\..*")
Refuse = Callable[[str], ContractError]
"""Takes what was found; the error says where."""

_CLASSES = "__torch__.torch.classes"
_WITH_TYPE = {"annotate": 0, "unchecked_cast": 0, "uninitialized": 0, "isinstance": 1}
"""Builtin functions, and which of their arguments is a type."""
_ALLOWED_NODES = (
    ast.Assign, ast.AnnAssign, ast.Return, ast.If, ast.For, ast.Expr, ast.Pass, ast.Break, ast.Continue, ast.Assert,
    ast.Name, ast.Constant, ast.Tuple, ast.List, ast.Dict, ast.Subscript, ast.Slice, ast.Attribute, ast.Call,
    ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.expr_context, ast.operator, ast.unaryop,
    ast.boolop, ast.cmpop, ast.arguments, ast.arg, ast.keyword,
)  # fmt: skip


def needed(entries: Mapping[str, bytes]) -> dict[str, bytes]:
    """The entries that torch loads a module from, and the contract; not what a trace kept of its inputs."""
    return {name: data for name, data in entries.items() if _NEEDED.fullmatch(name.partition("/")[2])}


def check_entries(entries: Mapping[str, bytes], where: str) -> None:
    """Raises `ContractError`, with what was found and in which entry, for an archive that may do more than compute."""
    code = {name: _parsed(data, where, name) for name, data in entries.items() if "/code/" in name}
    parts = (part for tree in code.values() for part in ast.walk(tree))
    functions = {part.name for part in parts if isinstance(part, ast.FunctionDef)} | {"forward"}
    for name, tree in code.items():
        _check_code(tree, functions, functools.partial(_refused, where, name))
    for name, data in entries.items():
        if name.endswith(".pkl"):
            _check_pickle(entries, name, data, where)


def check_graph(nodes: Iterable[Any], where: str) -> None:
    """The same of the nodes of a loaded module, before it draws. Raises `ContractError`."""
    for node in nodes:
        space, _, operator = node.kind().partition("::")
        known = {"aten": OPERATORS, "prim": PRIMITIVES}.get(space, frozenset())
        if operator not in known:
            raise _refused(where, "its graph", node.kind())


def _parsed(data: bytes, where: str, name: str) -> ast.Module:
    if b"__setstate__" in data or b"__getstate__" in data or not data.isascii():
        raise _refused(where, name, "__setstate__" if data.isascii() else "text that is not ASCII")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(data)
            ast.unparse(tree)  # here, where too deep a nesting shows
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ContractError(
            f"{where} is TorchScript whose code cannot be read ({name[:100]})", hint="download or export it again"
        ) from error
    return tree


def _check_code(tree: ast.Module, functions: set[str], refuse: Refuse) -> None:
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef):
            _check_function(statement, functions, refuse)
        elif isinstance(statement, ast.ClassDef):
            _check_class(statement, functions, refuse)
        elif not (isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "op_version_set"):
            raise refuse(_what(statement))


def _check_class(made: ast.ClassDef, functions: set[str], refuse: Refuse) -> None:
    plain = [base.id for base in made.bases if isinstance(base, ast.Name)] == ["Module"]
    if not plain or made.keywords or made.decorator_list:
        raise refuse(f"class {made.name} that is no Module")
    for statement in made.body:
        if isinstance(statement, ast.FunctionDef):
            _check_function(statement, functions, refuse)
        elif isinstance(statement, ast.AnnAssign):
            _check_type(statement.annotation, refuse)
            _check_literal(statement.value, refuse)
        elif isinstance(statement, ast.Assign):
            target = ast.unparse(statement.targets[0])
            if target.startswith("__annotations__["):
                _check_type(statement.value, refuse)
            else:
                _check_literal(statement.value, refuse)
        elif not isinstance(statement, ast.Pass):
            raise refuse(_what(statement))


def _check_function(function: ast.FunctionDef, functions: set[str], refuse: Refuse) -> None:
    if function.decorator_list or (function.name.startswith("__") and function.name != "__len__"):
        raise refuse(f"the function {function.name}")
    arguments = function.args
    for default in [*arguments.defaults, *arguments.kw_defaults]:
        _check_literal(default, refuse)
    for annotation in [each.annotation for each in arguments.args] + [function.returns]:
        if annotation is not None:
            _check_type(annotation, refuse)
    local = {each.arg for each in arguments.args}
    for part in (part for statement in function.body for part in ast.walk(statement)):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            local.add(part.id)
    for statement in function.body:
        _Body(local, functions, refuse).visit(statement)


class _Body(ast.NodeVisitor):
    """What stands in a function. Types are looked at as types, dotted names as a whole."""

    def __init__(self, local: set[str], functions: set[str], refuse: Refuse) -> None:
        self._local, self._functions, self._refuse = local, functions, refuse

    def generic_visit(self, node: ast.AST) -> None:
        if not isinstance(node, _ALLOWED_NODES):
            raise self._refuse(_what(node))
        super().generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        _check_type(node.annotation, self._refuse)
        for part in (node.target, node.value):
            if part is not None:
                self.visit(part)

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            for part in ast.walk(target):
                if not isinstance(part, (ast.Name, ast.Tuple, ast.List, ast.expr_context)):
                    raise self._refuse(f"a value set in {ast.unparse(target)[:80]}")
        self.visit(node.value)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id not in self._local and node.id not in BUILTINS and not node.id.startswith("CONSTANTS"):
            raise self._refuse(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        dotted = _dotted(node)
        root = dotted.partition(".")[0]
        if node.attr.startswith("__") and node.attr not in ("__len__",) and root != "torch":
            raise self._refuse(dotted or node.attr)
        if root in self._local or not dotted:
            self.visit(node.value)
        elif root in ("torch", "ops"):
            if not _is_operator(dotted):
                raise self._refuse(dotted)
        elif root not in ("__torch__", "CONSTANTS") or dotted.startswith(_CLASSES):
            raise self._refuse(dotted)

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func
        if isinstance(called, ast.Name) and called.id in _WITH_TYPE:
            place = _WITH_TYPE[called.id]
            for index, each in enumerate(node.args):
                if index == place:
                    _check_type(each, self._refuse)
                else:
                    self.visit(each)
            return
        if isinstance(called, ast.Name) and called.id == "getattr":
            named = node.args[1] if len(node.args) == 2 else None
            if not isinstance(named, ast.Constant) or str(named.value).startswith("__"):
                raise self._refuse(ast.unparse(node)[:80])
        if isinstance(called, ast.Attribute) and _dotted(called).partition(".")[0] not in ("torch", "ops", "__torch__"):
            # A method: of the archive's own classes, never a tensor's that no operator of the list is.
            own = called.attr in self._functions and not hasattr(torch.Tensor, called.attr)
            if not own and called.attr not in OPERATORS:
                raise self._refuse(f"the method {called.attr}")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if not isinstance(node.value, (int, float, str, bool, type(None))):
            raise self._refuse(f"a value of type {type(node.value).__name__}")


def _is_operator(dotted: str) -> bool:
    parts = dotted.split(".")
    if parts[0] == "torch":
        return len(parts) == 2 and parts[1] in OPERATORS
    if len(parts) != 3:
        return False
    return parts[2] in {"aten": OPERATORS, "prim": PRIMITIVES}.get(parts[1], frozenset())


def _check_type(annotation: ast.expr, refuse: Refuse) -> None:
    for part in ast.walk(annotation):
        if isinstance(part, ast.Name):
            if part.id not in TYPES | {"__torch__"}:
                raise refuse(f"the type {part.id}")
        elif isinstance(part, ast.Attribute):
            dotted = _dotted(part)
            if not dotted.startswith("__torch__.") or dotted.startswith(_CLASSES):
                raise refuse(f"the type {dotted or ast.unparse(part)[:80]}")
        elif isinstance(part, ast.Constant):
            if part.value is not None:
                raise refuse(f"the type {part.value!r}"[:100])
        elif not isinstance(part, (ast.Subscript, ast.Tuple, ast.List, ast.expr_context)):
            raise refuse(f"the type {ast.unparse(annotation)[:80]}")


def _check_literal(value: ast.expr | None, refuse: Refuse) -> None:
    """Defaults and class attributes are computed while the file is loaded: they have to be values as they stand."""
    for part in ast.walk(value) if value is not None else ():
        constant = isinstance(part, ast.Attribute) and _dotted(part).startswith("CONSTANTS.")
        plain = (ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.UnaryOp, ast.unaryop, ast.expr_context)
        named = isinstance(part, ast.Name) and part.id in ("CONSTANTS", "inf", "nan")
        if not (constant or named or isinstance(part, plain)):
            raise refuse(f"a default that is computed: {ast.unparse(part)[:80]}")


def _dotted(node: ast.expr) -> str:
    """ "torch.nn.x" for a chain of names; empty for what begins with anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def _check_pickle(entries: Mapping[str, bytes], name: str, data: bytes, where: str) -> None:
    """Only tensors that lie within their storages, containers, and the archive's own classes."""
    folder = name.removesuffix(".pkl")
    try:
        strings: list[str] = []
        for opcode, argument, _ in pickletools.genops(data):
            if isinstance(argument, str):
                strings.append(argument)
            if opcode.name in ("GLOBAL", "STACK_GLOBAL", "INST"):
                named = " ".join(strings[-2:]) if opcode.name == "STACK_GLOBAL" else str(argument)
                if not _GLOBALS.fullmatch(named) or named.startswith(_CLASSES):
                    raise _refused(where, name, named[:100].replace(" ", "."))
        unpickler.load(Stream(memoryview(data)), lambda saved: _storage(entries, folder, saved), Budget())
    except ContractError:
        raise
    except Exception as error:  # whatever pickletools raises for what is no pickle
        what = f": {error}" if isinstance(error, GanportError) else " is damaged"
        raise ContractError(f"{where}: {name}{what}", hint="download or export it again") from error


def _storage(entries: Mapping[str, bytes], folder: str, saved: Any) -> Storage:
    if not isinstance(saved, tuple) or len(saved) != 5 or saved[0] != "storage":
        raise GanportError("a storage that is not one", hint="download or export it again")
    _, storage_class, key, _, count = saved
    dtype, problem = rebuild.storage_type(storage_class)
    record = entries.get(f"{folder}/{key}")
    if record is None or type(count) is not int or not 0 <= count * (dtype or torch.uint8).itemsize <= len(record):
        raise GanportError("a tensor claims more than the file holds for it", hint="download or export it again")
    return Storage(Blob(len(record), "cpu", memoryview(record)), dtype, 0, len(record), problem)


def _what(node: ast.AST) -> str:
    text = f" ({ast.unparse(node)[:60]})" if isinstance(node, (ast.stmt, ast.expr)) else ""
    return f"a {type(node).__name__}{text}"


def _refused(where: str, entry: str, what: str) -> ContractError:
    return ContractError(
        f"{where} is a program that does more than a generator needs: {' '.join(what.split())} in {entry[:100]}; "
        "nothing of it was run",
        hint=_HINT,
    )
