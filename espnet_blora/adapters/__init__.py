"""Low-rank adapters on torch models: layers, ELBO, injection, checked loads, adapter files.

Pure torch: nothing here knows ESPnet or Whisper.
"""

from espnet_blora.adapters.adapter import Adapter, get_adapter
from espnet_blora.adapters.averaging import average_states
from espnet_blora.adapters.files import load_adapter, read_adapter_file
from espnet_blora.adapters.inject import add_adapter
from espnet_blora.adapters.registry import METHODS, parse_config

__all__ = [
    "METHODS",
    "Adapter",
    "add_adapter",
    "average_states",
    "get_adapter",
    "load_adapter",
    "parse_config",
    "read_adapter_file",
]
