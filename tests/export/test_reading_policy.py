"""Which names of torch, numpy and the standard library a checkpoint may mention."""

from __future__ import annotations

import pytest

from gan_core.errors import GanportError
from gan_export.reading.inert import GlobalName
from gan_export.reading.policy import check_name

REFUSED = [
    "torch.hub.load", "torch.hub.load_state_dict_from_url", "torch.hub._exec", "torch.jit.load", "torch.load",
    "torch.save", "torch.package.PackageImporter", "torch.utils.cpp_extension.load", "torch.utils.model_zoo.load_url",
    "torch.fx.GraphModule", "torch.serialization.load", "torch.multiprocessing.spawn", "torch._dynamo.optimize",
    "torch._inductor.compile", "torch.testing.make_tensor", "torch.onnx.export", "torch.ops.load_library",
    "torch._ops.ops", "torch.classes.load_library", "torch.distributed.init_process_group", "torch.library.Library",
    "torch.export.load", "torch.cuda.jiterator._create_jit_fn", "torch.from_file", "torch.profiler.profile",
    "torch._C._jit_script_compile", "numpy.load", "numpy.memmap", "numpy.fromfile", "numpy.ctypeslib.load_library",
    "os.system", "posix.system", "subprocess.Popen", "shutil.rmtree", "builtins.eval", "builtins.__import__",
    "functools.reduce", "operator.attrgetter", "importlib.import_module", "runpy.run_path", "ctypes.CDLL",
    "commands.getoutput",
]  # fmt: skip
ALLOWED = [
    "torch._utils._rebuild_tensor_v2", "torch.nn.modules.linear.Linear", "torch.FloatStorage", "torch.device",
    "torch.utils.hooks.RemovableHandle", "torch.serialization._get_layout", "numpy.ndarray", "numpy.dtype",
    "numpy._core.multiarray._reconstruct", "collections.OrderedDict", "argparse.Namespace", "pathlib.PosixPath",
    "functools.partial", "builtins.set", "__main__.Generator", "networks.Generator",
]  # fmt: skip


def name_of(dotted: str) -> GlobalName:
    module, _, name = dotted.rpartition(".")
    return GlobalName(module, name)


@pytest.mark.parametrize("dotted", REFUSED)
def test_names_that_no_weights_need_are_refused(dotted: str) -> None:
    with pytest.raises(GanportError, match="may be an attack"):
        check_name(name_of(dotted))


@pytest.mark.parametrize("dotted", ALLOWED)
def test_names_of_honest_checkpoints_are_allowed(dotted: str) -> None:
    check_name(name_of(dotted))
