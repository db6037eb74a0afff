"""Files of records in each format that prompts are read from."""

import csv
import json

import pyarrow
import pyarrow.parquet

SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet", ".txt")


def write_rows(path, rows):
    """Write records in the format of the suffix; of text the first column. Gives the path."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    elif path.suffix == ".txt":
        path.write_text("".join(f"{next(iter(row.values()))}\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], delimiter="," if path.suffix == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    return path
