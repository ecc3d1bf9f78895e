"""Programs: one thin module each, with `get_parser()` and `main()`.

Importing this package says, before torch is loaded, that its waiting CPU threads sleep, unless the
user has said how they wait. By default they spin, which made a busy machine's transcription 20
times slower. `recipes/path.sh` says the same to ESPnet's programs.
"""

import os

if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
