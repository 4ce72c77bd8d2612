"""Makes `hellaswag.parquet`: two items of our own in the columns and encodings of the hub's data set.

    python3 make.py    (needs pyarrow)
"""

import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

ROWS = [
    {
        "ind": 4,
        "activity_label": "Baking bread",
        "ctx_a": "A man kneads dough on a table.",
        "ctx_b": "he",
        "ctx": "A man kneads dough on a table. he",
        "endings": ["throws it to the dog.", "lets it rest.", "sings [title] loudly.", "drives off."],
        "source_id": "made~0",
        "split": "val",
        "split_type": "indomain",
        "label": "1",
    },
    {
        "ind": 5,
        "activity_label": "Sailing",
        "ctx_a": "The wind drops.",
        "ctx_b": "",
        "ctx": "The wind drops.",
        "endings": ["the boat slows.", "the horse slows.", "rain sings.", "nobody bakes."],
        "source_id": "made~1",
        "split": "val",
        "split_type": "zeroshot",
        "label": "0",
    },
]

here = pathlib.Path(__file__).parent
pq.write_table(pa.Table.from_pylist(ROWS), here / "hellaswag.parquet", compression="snappy", store_schema=False)
