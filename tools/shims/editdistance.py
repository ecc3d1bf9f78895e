"""Levenshtein distance under the name ESPnet imports, for Pythons without an editdistance wheel.

ESPnet's validation calls `editdistance.eval(a, b)` and nothing else of that package.
`tools/setup_env.sh` copies this file into an environment where the package is not installed.
"""

from rapidfuzz.distance.Levenshtein import distance

eval = distance

__all__ = ["distance", "eval"]
