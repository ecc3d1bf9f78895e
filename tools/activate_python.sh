# Sourced by ESPnet's path.sh (and the Makefile): puts tools/venv first and makes espnet_blora importable
# from any recipe folder, in worker processes and in cluster jobs (their scripts source path.sh again). tools/bin has
# the command espnet-blora.

_blora_tools=$(cd "$(dirname "${BASH_SOURCE[0]:-$0}")" >/dev/null 2>&1 && pwd)
if [ ! -x "${_blora_tools}/venv/bin/python3" ]; then
    echo "error: ${_blora_tools}/venv is missing or broken; run: make -C ${_blora_tools%/*} env" >&2
    return 1
fi
export VIRTUAL_ENV="${_blora_tools}/venv"
case "${PATH}" in
"${VIRTUAL_ENV}/bin:${_blora_tools}/bin:"*) ;;
*) export PATH="${VIRTUAL_ENV}/bin:${_blora_tools}/bin:${PATH}" ;;
esac
case ":${PYTHONPATH:-}:" in
*":${_blora_tools%/*}:"*) ;;
*) export PYTHONPATH="${_blora_tools%/*}${PYTHONPATH:+:${PYTHONPATH}}" ;;
esac
unset PYTHONHOME _blora_tools
