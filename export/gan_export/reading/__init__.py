"""Reading any generator checkpoint, without running code from it: tensors and inert structure."""

from gan_export.reading.choosing import Candidate
from gan_export.reading.modules import ModuleInfo
from gan_export.reading.reading import Reading, read_checkpoint
from gan_export.reading.roles import RoleReport, describe_role

__all__ = ["Candidate", "ModuleInfo", "Reading", "RoleReport", "describe_role", "read_checkpoint"]
