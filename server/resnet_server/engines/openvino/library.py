"""OpenVINO's own package, without its converter."""

import sys
from types import ModuleType

from resnet_server.errors import EngineError

CONVERTER = "openvino.tools.ovc"


def load_openvino() -> ModuleType:
    """Import it; raise EngineError where it cannot be.

    The converter would be imported with it, and that one opens telemetry: a file below the home folder, and a thread that calls its
    makers. A package that is marked as absent here is left out by OpenVINO itself.
    """
    sys.modules.setdefault(CONVERTER, None)  # type: ignore[arg-type]  # None is how the import system marks it
    try:
        import openvino
    except (ImportError, OSError) as error:
        raise EngineError(f"OpenVINO cannot be imported: {error}") from None
    found: ModuleType = openvino
    return found
