"""A flipped bit anywhere in a file is refused or changes nothing; a sample of the battery."""

import pytest

from benchmarks import damage

UNGUARDED = {  # the format has no checksum there
    *((name, "stream info") for name in ("utterance.flac", "flac.ark")),
    *(("wav.ark", region) for region in ("heads", "WAV header", "WAV samples")),
}
WHOLE = {"tensors", "entries", "pickles and texts", "frames"}


@pytest.mark.parametrize("name", damage.KINDS)
def test_no_flipped_bit_is_silent(name, tmp_path):
    found = damage.battery(name, tmp_path, flips=25)
    assert len(found) >= 4
    for region, counts in found.items():
        assert counts.total() == 25 and counts["unclear"] == 0, region
        if (name, region) not in UNGUARDED:
            assert counts["silent"] == 0, region
        if region in WHOLE:
            assert counts["refused"] == 25, region


def test_what_the_reader_lets_pass_is_counted_as_silent(tmp_path):
    kind = damage.KINDS["base.safetensors"]
    unchecked = damage.Kind(kind.write, lambda path: path.read_bytes()[-100:], kind.regions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(damage.KINDS, "base.safetensors", unchecked)
        found = damage.battery("base.safetensors", tmp_path, flips=4)
    assert found["length of the header"]["harmless"] == 4
    path = tmp_path / "base.safetensors"
    sound = unchecked.read(path)
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    assert damage.outcome(unchecked, path, sound) == "silent"
