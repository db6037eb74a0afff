"""llama.cpp's figures, against its loops."""

import math

import numpy as np
import pytest

from llmscope.jobs.compare.llama_cpp import figures

COUNTS = np.array([5, 1, 9, 3, 30, 2, 7, 7])


@pytest.fixture(scope="module")
def values():
    return np.random.default_rng(3).gamma(0.5, size=COUNTS.sum())


def printed_by_llama_cpp(kl, base, other, same):
    """What kl_divergence in tools/perplexity/perplexity.cpp computes, statement by statement."""
    count = len(kl)

    def mean_and_uncertainty(total, squares):
        mean = total / count
        spread = squares / count - mean * mean
        return mean, math.sqrt(spread / (count - 1)) if spread > 0 else 0.0

    def percentile(values, share):
        place = share * (count - 1)
        low = int(place)
        rest = place - low
        return (1 - rest) * values[low] + rest * values[min(low + 1, count - 1)]

    nll, nll_base = [-one for one in other], [-one for one in base]
    change = [math.exp(q) - math.exp(p) for p, q in zip(base, other, strict=True)]
    log_ppl, log_unc = mean_and_uncertainty(sum(nll), sum(x * x for x in nll))
    log_base, base_unc = mean_and_uncertainty(sum(nll_base), sum(x * x for x in nll_base))
    both = sum(x * y for x, y in zip(nll, nll_base, strict=True))
    cov = (both / count - (sum(nll) / count) * (sum(nll_base) / count)) / (count - 1)
    ppl, ppl_base = math.exp(log_ppl), math.exp(log_base)
    ratio, ratio_unc = log_ppl - log_base, math.sqrt(log_unc**2 + base_unc**2 - 2 * cov)
    gap = math.sqrt((ppl * log_unc) ** 2 + (ppl_base * base_unc) ** 2 - 2 * ppl * ppl_base * cov)
    mse, mse_unc = mean_and_uncertainty(sum(x**2 for x in change), sum(x**4 for x in change))
    kld, kld_unc = mean_and_uncertainty(sum(kl), sum(x * x for x in kl))
    p_diff, p_diff_unc = mean_and_uncertainty(sum(change), sum(x * x for x in change))
    same_p = sum(same) / count
    found = {
        "Mean PPL(Q)": (ppl, ppl * log_unc),
        "Mean PPL(base)": (ppl_base, ppl_base * base_unc),
        "Cor(ln(PPL(Q)), ln(PPL(base)))": (100 * cov / (log_unc * base_unc), None),
        "Mean ln(PPL(Q)/PPL(base))": (ratio, ratio_unc),
        "Mean PPL(Q)/PPL(base)": (math.exp(ratio), math.exp(ratio) * ratio_unc),
        "Mean PPL(Q)-PPL(base)": (ppl - ppl_base, gap),
        "Mean KLD": (kld, kld_unc),
        "Mean Δp": (100 * p_diff, 100 * p_diff_unc),
        "RMS Δp": (100 * math.sqrt(mse), 100 * 0.5 / math.sqrt(mse) * mse_unc),
        "Same top p": (100 * same_p, 100 * math.sqrt(same_p * (1 - same_p) / (count - 1))),
    }
    shares = {"99.9%": 0.999, "99.0%": 0.99, "95.0%": 0.95, "90.0%": 0.9, "Median": 0.5}
    shares |= {"10.0%": 0.1, "5.0%": 0.05, "1.0%": 0.01, "0.1%": 0.001}
    for name, values, factor in (("KLD", sorted(kl), 1), ("Δp", sorted(change), 100)):
        found[f"Maximum {name}"] = (factor * values[-1], None)
        found[f"Minimum {name}"] = (factor * values[0], None)
        more = {"75.0%": 0.75, "25.0%": 0.25} if name == "Δp" else {}
        for share, place in (shares | more).items():
            found[f"{share} {name}"] = (factor * percentile(values, place), None)
    return found


def test_figures_of_llama_cpp_have_its_names_and_values(values):
    random = np.random.default_rng(8)
    base = np.log(random.uniform(0.01, 0.99, len(values)))
    other = np.minimum(base + random.normal(0, 0.3, len(values)), -1e-4)
    same = (random.uniform(size=len(values)) < 0.9).astype(float)
    found = figures(values, base, other, same)
    expected = printed_by_llama_cpp(values.tolist(), base.tolist(), other.tolist(), same.tolist())
    assert found.keys() == expected.keys()
    for name, (value, uncertainty) in expected.items():
        assert found[name]["value"] == pytest.approx(value, rel=1e-9), name
        if uncertainty is None:
            assert found[name]["uncertainty"] is None
        else:
            assert found[name]["uncertainty"] == pytest.approx(uncertainty, rel=1e-6), name


def test_equal_predictions_have_no_uncertainty_of_the_ratio():
    base = np.log(np.linspace(0.1, 0.9, 50))
    found = figures(np.zeros(50), base, base, np.ones(50))
    assert found["Mean ln(PPL(Q)/PPL(base))"] == {"value": 0.0, "uncertainty": 0.0}
    assert found["RMS Δp"] == {"value": 0.0, "uncertainty": 0.0}
    assert found["Cor(ln(PPL(Q)), ln(PPL(base)))"]["value"] == pytest.approx(100)
