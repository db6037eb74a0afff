"""Folders of a batch, written from plain rows."""

import json

import pyarrow
import pyarrow.parquet

ROLES = {
    **dict.fromkeys(
        ("layer", "head", "position", "from_end", "query", "key", "neuron", "part"), "key"
    ),
    **dict.fromkeys(
        ("surprisal", "rank", "entropy", "p", "p_target", "rank_target", "effect", "score"), "value"
    ),
    **dict.fromkeys(("contribution", "value", "weight"), "value"),
    **dict.fromkeys(("token", "class", "prompt_token", "target"), "label"),
    **dict.fromkeys(("token_id", "target_id", "line"), "id"),
    "status": "status",
}
UNITS = {"surprisal": "bits", "p_target": "probability", "effect": "logit"}


def write_table(path, rows, lens="", *, mode="", schema=2):
    """Write rows, dicts with the same names, with the metadata of a lens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = rows if isinstance(rows, pyarrow.Table) else pyarrow.Table.from_pylist(rows)
    columns = {
        name: {"role": ROLES.get(name, "input"), "unit": UNITS.get(name, ""), "help": ""}
        for name in table.column_names
    }
    about = {"schema": schema, "lens": lens, "mode": mode, "columns": columns}
    table = table.replace_schema_metadata({"llmscope": json.dumps(about)})
    pyarrow.parquet.write_table(table, path)


def write_folder(folder, prompts, lenses, *, refused=(), shard=100, complete=True):
    """Write the folder of a batch.

    Args:
        folder: where.
        prompts: a dict for each: line, prompt, n_tokens (None where it failed), error, inputs.
        lenses: the rows of each lens, with `line`; inputs and status are added.
        refused: pairs of a lens and a line, which get a verdict and no rows.
        shard: the number of prompts in a file.
        complete: whether the manifest says that the batch came to its end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {"schema": 2, "complete": complete, "options": {"model": {"spec": "builtin:town"}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for at in range(0, len(prompts), shard):
        some = prompts[at : at + shard]
        name = f"shard-{at // shard:05d}.parquet"
        about = {one["line"]: one for one in some}
        verdicts = []
        for lens, rows in lenses.items():
            inputs = {
                line: {
                    name: value
                    for name, value in one.items()
                    if name not in ("line", "prompt", "n_tokens", "error")
                }
                for line, one in about.items()
            }
            here = [
                {**row, "status": "verified", **inputs[row["line"]]}
                for row in rows
                if row["line"] in about
            ]
            for line, one in about.items():
                if one.get("error") is None:
                    no = (lens, line) in refused
                    verdicts.append(
                        {
                            "line": line,
                            "lens": lens,
                            "mode": "",
                            "status": "refused" if no else "verified",
                            "reason": "no such head" if no else "",
                            "discrepancy": 0.0,
                            "within": "",
                            "unit": "",
                            "title": lens,
                        }
                    )
            if here:
                write_table(folder / lens / name, here, lens)
        if verdicts:
            write_table(folder / "verdicts" / name, verdicts)
        write_table(
            folder / "prompts" / name,
            [{"error": None, **one} for one in some],
        )
    return folder
