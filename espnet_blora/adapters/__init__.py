"""Low-rank adapters on torch models: layers, ELBO, injection, checked loads, adapter files.

Pure torch: nothing here knows ESPnet or Whisper. From the bottom up: the machinery (`layer`,
`config`, `elbo`, ...), the methods (`methods`), the registry of them (`registry`), the handle on an
adapted model (`adapter`), and what puts an adapter on a model (`inject`).
"""

from espnet_blora.adapters.adapter import Adapter, get_adapter
from espnet_blora.adapters.files import read_adapter_file
from espnet_blora.adapters.inject import add_adapter, load_adapter
from espnet_blora.adapters.mixing import mix_adapters
from espnet_blora.adapters.named import delete_adapter, set_adapter
from espnet_blora.adapters.registry import METHODS, parse_config
from espnet_blora.adapters.state import average_states

__all__ = [
    "METHODS",
    "Adapter",
    "add_adapter",
    "average_states",
    "delete_adapter",
    "get_adapter",
    "load_adapter",
    "mix_adapters",
    "parse_config",
    "read_adapter_file",
    "set_adapter",
]
