"""Sums of x x^T, the moments that are made of them, and their files."""

import pytest
import torch

from espnet_blora.adapters import moments
from espnet_blora.adapters.moments import low_rank, new_sums, read_moments, read_sums

LAYERS = {"a.query": "a", "a.key": "a", "b": "b"}


@pytest.fixture
def weights():
    generator = torch.Generator().manual_seed(0)
    shapes = {"a.query": (5, 4), "a.key": (4, 4), "b": (3, 6)}
    return {f"{n}.weight": torch.randn(s, generator=generator) for n, s in shapes.items()}


def inputs(seed, count=20):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(count, d, generator=generator) for name, d in (("a", 4), ("b", 6))}


@pytest.fixture
def heard(weights):
    """Sums over one batch of each seed, made as `made` says."""

    def sums(*seeds, **made):
        result = new_sums(weights, LAYERS, {"pad_to": "30s", "through": "base", **made})
        for seed in seeds:
            for name, x in inputs(seed).items():
                result.add(name, x.T @ x, len(x))
            result.heard[f"utt{seed}"] = 1.5
        return result

    return sums


def test_sums_of_parts_are_the_sum_of_the_whole(heard, weights, tmp_path):
    part, other = heard(0, 1), heard(2)
    part.save(tmp_path / "sums")
    again = read_sums(tmp_path / "sums")
    again.merge(other)
    whole = heard(0, 1, 2)
    assert again.positions == whole.positions == {"a": 60, "b": 60}
    assert list(again.heard) == list(whole.heard)
    for name, total in whole.sums.items():
        assert total.dtype == torch.float64 and torch.equal(again.sums[name], total)
    x = torch.cat([inputs(seed)["b"] for seed in (0, 1, 2)]).double()
    again.export(tmp_path / "moments", {})
    read = read_moments(tmp_path / "moments", weights, LAYERS, "30s")
    torch.testing.assert_close(read.matrix("b"), x.T @ x / 60, rtol=1e-6, atol=1e-6)
    assert torch.equal(read.matrix("a.query"), read.matrix("a.key"))
    assert read.seconds == 4.5 and read.made["through"] == "base"


def test_sums_that_do_not_belong_together(heard, weights, tmp_path):
    for other, message in (
        (heard(1, pad_to="batch"), "pad_to 'batch' and '30s'"),
        (heard(0), "1 utterances are in both sums, first utt0"),
        (new_sums({n: -w for n, w in weights.items()}, LAYERS, heard().made), "another base"),
        (new_sums(weights, {"b": "b"}, heard().made), "1 and 3 Linears"),
    ):
        with pytest.raises(ValueError, match=message):
            heard(0).merge(other)
    with pytest.raises(ValueError, match="the input a holds NaN or inf"):
        heard().add("a", torch.full((4, 4), torch.nan), 1)
    with pytest.raises(ValueError, match="no speech was heard"):
        heard().export(tmp_path / "empty", {})


def test_mostly_foreign_audio_is_told(heard, tmp_path, caplog):
    sums = heard(0, 1)
    sums.left_out = 2
    sums.export(tmp_path / "moments", {})
    assert "left out" not in caplog.text
    sums.left_out = 3
    sums.export(tmp_path / "moments", {})
    assert "moments: 3 pieces gave no text that ends, and are left out: is this" in caplog.text


def test_a_file_with_nan_is_refused(heard, weights, tmp_path):
    sums = heard(0)
    sums.sums["a"][0, 0] = torch.inf  # by no run of ours: add() refuses it
    sums.export(tmp_path / "moments", {}, rank=3)
    read = read_moments(tmp_path / "moments", weights, LAYERS)
    assert torch.isfinite(read.matrix("b")).all()
    for use in (read.matrix, lambda layer: read.low_rank(layer, 2)):
        with pytest.raises(ValueError, match="moments: a holds NaN or inf; make it with"):
            use("a.query")


def decaying(width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(width, width, generator=generator).double()).Q
    return basis * (0.8 ** torch.arange(width).double()) @ basis.T


@pytest.mark.parametrize(("width", "rank"), [(30, 30), (30, 8), (200, 20)])
def test_low_rank_has_the_leading_eigenpairs_and_the_diagonal(width, rank):
    moment = decaying(width)  # 200 and 20: by iteration
    factor, rest = low_rank(moment, rank)
    values, vectors = torch.linalg.eigh(moment)
    best = (vectors[:, -rank:] * values[-rank:]) @ vectors[:, -rank:].T
    torch.testing.assert_close(factor.T @ factor, best, rtol=0, atol=1e-8)
    whole = factor.T @ factor + rest.diag()
    torch.testing.assert_close(whole.diagonal(), moment.diagonal())
    norms = factor.square().sum(1)
    assert torch.equal(norms, norms.sort(descending=True).values)


def test_wide_inputs_are_kept_of_low_rank(heard, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(moments, "DENSE", 5)
    heard(0).export(tmp_path / "moments", {}, rank=3)
    read = read_moments(tmp_path / "moments", weights, LAYERS)
    moment = heard(0).sums["b"] / 20
    factor, rest = low_rank(moment, 3)
    expected = factor.T @ factor + rest.diag()
    torch.testing.assert_close(read.matrix("b"), expected, rtol=1e-3, atol=1e-3)  # float16
    torch.testing.assert_close(read.matrix("b").diagonal(), moment.diagonal(), rtol=0, atol=2e-3)
    less, diagonal = read.low_rank("b", 2)  # of what the file has
    assert torch.equal(less, read.low_rank("b", 3)[0][:2])
    whole = less.T @ less + diagonal.diag()
    torch.testing.assert_close(whole.diagonal(), read.matrix("b").diagonal())
    factor, rest = read.low_rank("a.key", 2)  # of what it has whole
    expected = low_rank(heard(0).sums["a"] / 20, 2)
    torch.testing.assert_close(factor.T @ factor, expected[0].T @ expected[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(rest, expected[1], rtol=0, atol=1e-6)


def test_files_that_do_not_fit_the_model(heard, weights, tmp_path):
    path = tmp_path / "moments"
    with pytest.raises(FileNotFoundError, match="file of moments .* make it with"):
        read_moments(path, weights, LAYERS)
    heard(0).save(path)
    with pytest.raises(ValueError, match="is not of espnet_blora"):
        read_moments(path, weights, LAYERS)
    heard(0).export(path, {})
    for given, layers, pad_to, message in (
        ({n: w + 1 for n, w in weights.items()}, LAYERS, "30s", "wrong base"),
        (weights, [*LAYERS, "c"], "30s", "lacks 1 of 4 Linears, such as c"),
        (weights, LAYERS, "batch", "padded to '30s', this model pads to 'batch'"),
    ):
        with pytest.raises(ValueError, match=message):
            read_moments(path, given, layers, pad_to)
