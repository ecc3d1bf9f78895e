# Sourced last by path.sh, also inside cluster jobs: threads.
_shared=$(python3 -m espnet_blora.bin.recipe path.sh) || {
    echo "local/path.sh: error: espnet_blora is not installed for $(command -v python3): pip install --no-deps -e /path/to/espnet_blora" >&2
    return 2
}
. "${_shared}"
