"""How much clusters of questions inflate the variance of a mean: the design effect, measured, in plain Python."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import fsum


def design_effect(values: Sequence[float], clusters: Sequence[Hashable]) -> float:
    """The variance of the mean by clusters, divided by its variance if all questions were independent.

    With n questions, C clusters, mean m and deviations d = value - m, the variance by clusters is
    C / (C - 1) * (sum over clusters of (sum of d)^2) / n^2 (the linearised variance of a mean with the number of
    questions itself random: Cochran, Sampling Techniques, 1977, section 9A), and the other is
    (sum of d^2) / (n - 1) / n. For answers right or wrong the latter is the binomial's.

    It depends on the score: measure it on what a limit compares, for example on differences of two models.

    Args:
        values: one score, or difference of scores, for each question, finite.
        clusters: the cluster of each question, in the same order.

    Returns:
        A ratio >= 0; 1 if each question is a cluster of its own. It is an estimate and can be below 1 by chance: use
        max(1, design effect) where counts are divided by it.

    Raises:
        ValueError: not one cluster for each value, fewer than two clusters, or values that are all equal, which say
            nothing about it.
    """
    if len(values) != len(clusters):
        raise ValueError(f"need a cluster for each value; got {len(clusters)} for {len(values)} values")
    n, mean = len(values), fsum(values) / max(1, len(values))
    deviations: dict[Hashable, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        deviations.setdefault(cluster, []).append(value - mean)
    if len(deviations) < 2:
        raise ValueError(f"need at least two clusters, got {len(deviations)}")
    independent = fsum(d * d for group in deviations.values() for d in group) / (n - 1) / n
    if min(values) == max(values):
        raise ValueError(f"all {n} values are equal, so they do not show a design effect")
    clustered = fsum(fsum(group) ** 2 for group in deviations.values()) / n**2
    return clustered * len(deviations) / (len(deviations) - 1) / independent
