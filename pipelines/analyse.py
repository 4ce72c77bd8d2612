"""Results in Python polars: tables are plain Parquet, so nothing of rote is needed.

    pip install polars
    python3 pipelines/analyse.py REQUESTS OUTCOMES SCORES [ACTIVATIONS]

REQUESTS, OUTCOMES, SCORES and ACTIVATIONS are folders of rote-prepare or rote-extract, rote-intervene, rote-score
and rote-capture; of a pipeline run they are `data/store/view/PIPELINE/NODE`. `pipelines/README.md` shows the same
lines.
"""

import sys

import polars as pl


def table(folder, name):
    """A table of an artifact, not yet read; its parts may lie in folders that say `hook=…`, `block=…`."""
    return pl.scan_parquet(f"{folder}/{name}/**/*.parquet", hive_partitioning=True)


def recall_by_count(requests, scores):
    """Share of sequences recited, by how often training showed them, under every change."""
    asked = table(requests, "request").select("request", "document", "source")
    return (
        table(scores, "score")
        .filter(pl.col("metric") == "exact_match", pl.col("role") == "memorized")
        .join(asked, on="request")
        .group_by("change", "seen", maintain_order=True)
        .agg(recited=pl.col("value").mean(), n=pl.len())
        .sort("change", "seen")
        .collect()
    )


def surprise(requests, outcomes):
    """The tokens that a change made hardest: log-probability lost against the model as it is."""
    rows = table(outcomes, "outcome").select("change", "request", "position", "token", "logprob")
    plain = rows.filter(pl.col("change") == "none").drop("change", "token")
    return (
        rows.filter(pl.col("change") != "none")
        .join(plain, on=["request", "position"], suffix="_none")
        .with_columns(lost=pl.col("logprob_none") - pl.col("logprob"))
        .sort("lost", "change", "request", "position", descending=[True, False, False, False])
        .head(10)
        .collect()
    )


def norms_beside_outcomes(requests, outcomes, activations):
    """Length of the captured vector that predicts a token, beside that token's log-probability.

    An outcome's `position` counts from the continuation's first token, an activation's from the context's. The
    vector at a position predicts the token after it.
    """
    given = table(requests, "request").select("request", given=pl.col("context").list.len())
    told = (
        table(outcomes, "outcome")
        .filter(pl.col("change") == "none")
        .join(given, on="request")
        .with_columns(position=pl.col("given") + pl.col("position") - 1)
        .select("request", "position", "token", "logprob", "entropy")
    )
    return (
        table(activations, "activation")
        .filter(pl.col("change") == "none")
        .with_columns(norm=pl.col("value").cast(pl.List(pl.Float32)).list.eval(pl.element() ** 2).list.sum().sqrt())
        .select("hook", "block", "request", "position", "norm")
        .join(told, on=["request", "position"])
        .group_by("hook", "block", maintain_order=True)
        .agg(n=pl.len(), norm=pl.col("norm").mean(), with_entropy=pl.corr("norm", "entropy"))
        .sort("hook", "block")
        .collect()
    )


def main(requests, outcomes, scores, activations=None):
    print(recall_by_count(requests, scores))
    print(surprise(requests, outcomes))
    if activations:
        print(norms_beside_outcomes(requests, outcomes, activations))


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    main(*sys.argv[1:])
