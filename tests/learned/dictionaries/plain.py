"""Features and reconstructions by numpy, from the formulas alone, in float64."""

import numpy as np


def features(told, tensors, given):
    """Dense features of rows. [row, feature]"""
    weights = {name: tensor.double().numpy() for name, tensor in tensors.items()}
    entering = rescaled(told, given)[0]
    if told["apply_b_dec_to_input"]:
        entering = entering - weights["b_dec"]
    found = np.zeros((len(given), told["d_sae"]))
    for row, one in enumerate(entering):
        product = one @ weights["W_enc"]
        if told["architecture"] == "gated":
            magnitude = product * np.exp(weights["r_mag"]) + weights["b_mag"]
            found[row] = np.where(product + weights["b_gate"] > 0, np.maximum(magnitude, 0), 0)
            continue
        before = product + weights["b_enc"]
        if told.get("rescale_acts_by_decoder_norm"):
            before = before * np.linalg.norm(weights["W_dec"], axis=1)
        if told["architecture"] == "topk":
            best = np.argsort(before)[-told["k"] :]
            found[row, best] = np.maximum(before[best], 0)
        elif "threshold" in weights:
            found[row] = np.where(before > weights["threshold"], np.maximum(before, 0), 0)
        else:
            found[row] = np.maximum(before, 0)
    return found


def reconstruction(told, tensors, given, active):
    """The reconstruction of rows. [row, out width]"""
    weights = {name: tensor.double().numpy() for name, tensor in tensors.items()}
    decoder = weights["W_dec"]
    if told.get("rescale_acts_by_decoder_norm"):
        decoder = decoder / np.linalg.norm(decoder, axis=1, keepdims=True)
    found = active @ decoder + weights["b_dec"]
    if "transcoder" not in told["architecture"]:
        found = rescaled(told, given)[1](found)
    if "W_skip" in weights:
        found = found + np.asarray(given, dtype=float) @ weights["W_skip"].T
    return found


def rescaled(told, given):
    """Rows as they are encoded, and what undoes it."""
    given = np.asarray(given, dtype=float)
    kind = told["normalize_activations"]
    if kind == "layer_norm":
        mean = given.mean(1, keepdims=True)
        spread = given.std(1, ddof=1, keepdims=True)
        return (given - mean) / (spread + 1e-5), lambda out: out * spread + mean
    if kind == "constant_norm_rescale":
        factor = np.sqrt(given.shape[1]) / np.linalg.norm(given, axis=1, keepdims=True)
        return given * factor, lambda out: out / factor
    return given, lambda out: out
