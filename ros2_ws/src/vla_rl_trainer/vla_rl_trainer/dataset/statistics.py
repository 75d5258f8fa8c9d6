"""Mean, spread and quantiles of every feature, in the form LeRobot keeps them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# T = frames, D = dimensions
Statistics = dict[str, list]
"""min, max, mean, std, count, q01, q10, q50, q90, q99; nested lists, ready for JSON."""

QUANTILES: dict[str, float] = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}


def vector_statistics(values_TD: npt.NDArray) -> Statistics:
    """Statistics of each dimension over all frames."""
    values = np.asarray(values_TD, dtype=np.float64)
    quantiles = np.quantile(values, list(QUANTILES.values()), axis=0)
    return {
        "min": values.min(axis=0).tolist(),
        "max": values.max(axis=0).tolist(),
        "mean": values.mean(axis=0).tolist(),
        "std": values.std(axis=0).tolist(),
        "count": [len(values)],
        **{name: row.tolist() for name, row in zip(QUANTILES, quantiles, strict=True)},
    }


def image_histogram(images_THW3: npt.NDArray[np.uint8], max_frames: int = 50) -> npt.NDArray[np.int64]:
    """How often each of the 256 values occurs in each channel, shape (3, 256), over evenly spaced frames."""
    chosen = np.unique(np.linspace(0, len(images_THW3) - 1, min(max_frames, len(images_THW3))).astype(int))
    pixels = images_THW3[chosen].reshape(-1, 3)
    return np.stack([np.bincount(pixels[:, channel], minlength=256) for channel in range(3)])


def image_statistics(histogram: npt.NDArray[np.int64], num_frames: int) -> Statistics:
    """Statistics of each channel on a scale of 0 to 1, exact for the histogram's frames; lists of shape (3, 1, 1).

    Args:
        histogram: From `image_histogram`; those of several episodes may be added.
        num_frames: How many frames it stands for.
    """
    levels = np.arange(256) / 255.0
    weights = histogram / histogram.sum(axis=1, keepdims=True)
    mean = weights @ levels
    std = np.sqrt(np.maximum(weights @ levels**2 - mean**2, 0.0))
    cumulative = np.cumsum(weights, axis=1)
    present = histogram > 0
    values = {
        "min": levels[present.argmax(axis=1)],
        "max": levels[255 - present[:, ::-1].argmax(axis=1)],
        "mean": mean,
        "std": std,
        **{name: levels[(cumulative < part - 1e-12).sum(axis=1)] for name, part in QUANTILES.items()},
    }
    shaped: Statistics = {name: channel.reshape(3, 1, 1).tolist() for name, channel in values.items()}
    return {**shaped, "count": [num_frames]}
