#!/usr/bin/env bash
# Draws report.png, the picture in the README: the top of the demo's page as Chromium shows it.
#
#   make demo && docs/images/report.sh [PAGE]
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
page=$(realpath "${1:-${top}/egs2/mini_noisy/asr1/exp/retention.html}")
profile=$(mktemp -d)
trap 'rm -rf "${profile}"' EXIT
# --no-sandbox: Chromium's own sandbox does not start in containers; the page is ours
"${CHROMIUM:-chromium}" --headless --no-sandbox --disable-gpu --disable-background-networking --hide-scrollbars \
    --user-data-dir="${profile}" --window-size=1280,1590 --screenshot="${profile}/page.png" \
    "file://${page}" 2>"${profile}/log" || { cat "${profile}/log"; exit 1; }
# 128 colours are enough for text and lines, and a third of the size
"${top}/tools/venv/bin/python" - "${profile}/page.png" "${top}/docs/images/report.png" <<'END'
import sys
from PIL import Image

picture = Image.open(sys.argv[1]).convert("RGB")
picture.quantize(128, dither=Image.Dither.NONE).save(sys.argv[2], optimize=True)
END
