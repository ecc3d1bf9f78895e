# Sourced by ESPnet's path.sh: the scoring tools. With ESPNET_ROOT (tools/espnet is a link to a checkout) the
# checkout's own tools come along, behind ours.

_blora_tools=$(cd "$(dirname "${BASH_SOURCE[0]:-$0}")" >/dev/null 2>&1 && pwd)
if [ -L "${_blora_tools}/espnet" ] && [ -f "${_blora_tools}/espnet/tools/extra_path.sh" ]; then
    . "${_blora_tools}/espnet/tools/extra_path.sh"
fi
case "${PATH}" in
"${_blora_tools}/sctk/bin:"*) ;;
*) export PATH="${_blora_tools}/sctk/bin:${PATH}" ;;
esac
unset _blora_tools
