"""Write a run as Parquet: a table of its steps, one of its scalars, and one for each lens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmscope.errors import ScopeError, option
from llmscope.figure import Axis, Figure
from llmscope.runs.format import RunFigure, StepLine
from llmscope.runs.reader import RunReader
from llmscope.support.text import display_line

COLUMNS = ("step", "prompt", "value", "unit", "status", "reason")
"""Columns of every table of a lens: an axis of such a name becomes `axis_NAME`."""


def export(run: RunReader, folder: Path, *, force: bool = False) -> list[Path]:
    """Write a run as Parquet files with typed columns.

    - `steps.parquet`: step (int64), name, stage, time (UTC), took (seconds), shard.
    - `scalars.parquet`: step, name, value (float64), in long form.
    - `prompts.parquet`: prompt (int32), text, target, versus_prompt.
    - `LENS.MODE.parquet`: one row for each value: step, prompt (null for a figure of the model
      alone), for each axis NAME (int32, the position) and NAME_label, value (float32), and each
      array of the figure that has a number for every value, such as `ids` or `ranks`; unit,
      status and reason of the verdict.

    A step whose shard is damaged has no rows in the tables of lenses.

    Args:
        run: the run.
        folder: where the files go.
        force: replace files of these names; other files in the folder stay.

    Returns:
        The files.

    Raises:
        ScopeError: pyarrow is not installed, or the folder holds something or cannot be written.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise ScopeError("Parquet needs pyarrow", "pip install pyarrow") from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not force and any(folder.iterdir()):
            raise ScopeError(
                f"{display_line(folder)} is not empty",
                f"another folder, or {option('force')} to replace the tables in it",
            )
        written = [_steps(run, folder), _scalars(run, folder), _prompts(run, folder)]
        groups: dict[tuple[str, str], list[RunFigure]] = {}
        for figure in run.info.figures:
            groups.setdefault((figure.lens, figure.mode), []).append(figure)
        for (lens, mode), figures in groups.items():
            name = re.sub(r"[^\w.-]", "_", f"{lens}.{mode}" if mode else lens)
            path = folder / f"{name}.parquet"
            if _lens(run, figures, path):
                written.append(path)
    except OSError as error:
        raise ScopeError(
            f"cannot write {display_line(folder)}: {error.strerror}", "another folder"
        ) from error
    return written


def _write(path: Path, columns: dict[str, Any]) -> Path:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def _steps(run: RunReader, folder: Path) -> Path:
    import pyarrow

    steps = run.steps
    times = [round(1e6 * step.time) for step in steps]
    return _write(
        folder / "steps.parquet",
        {
            "step": pyarrow.array([step.step for step in steps], pyarrow.int64()),
            "name": pyarrow.array([step.name or None for step in steps], pyarrow.string()),
            "stage": pyarrow.array([step.stage or None for step in steps], pyarrow.string()),
            "time": pyarrow.array(times, pyarrow.timestamp("us", "UTC")),
            "took": pyarrow.array([step.took for step in steps], pyarrow.float64()),
            "shard": pyarrow.array([step.shard for step in steps], pyarrow.string()),
        },
    )


def _scalars(run: RunReader, folder: Path) -> Path:
    import pyarrow

    rows = [(step, name, value) for step, scalars in run.logs for name, value in scalars.items()]
    return _write(
        folder / "scalars.parquet",
        {
            "step": pyarrow.array([row[0] for row in rows], pyarrow.int64()),
            "name": pyarrow.array([row[1] for row in rows], pyarrow.string()),
            "value": pyarrow.array([row[2] for row in rows], pyarrow.float64()),
        },
    )


def _prompts(run: RunReader, folder: Path) -> Path:
    import pyarrow

    prompts = run.info.prompts
    text = pyarrow.string()
    return _write(
        folder / "prompts.parquet",
        {
            "prompt": pyarrow.array(range(len(prompts)), pyarrow.int32()),
            "text": pyarrow.array([prompt.text for prompt in prompts], text),
            "ids": pyarrow.array(
                [list(prompt.ids) for prompt in prompts], pyarrow.list_(pyarrow.int64())
            ),
            "target": pyarrow.array([prompt.target for prompt in prompts], text),
            "versus_prompt": pyarrow.array([prompt.versus_prompt for prompt in prompts], text),
        },
    )


def _lens(run: RunReader, figures: list[RunFigure], path: Path) -> bool:
    """Write the table of a lens, a row group at a time; return whether there is any row."""
    import pyarrow
    import pyarrow.parquet

    schemas = {table.schema for table in _tables(run, figures, first=True)}
    if not schemas:
        return False
    schema = pyarrow.unify_schemas(list(schemas), promote_options="permissive")
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for table in _tables(run, figures):
            for field in schema:
                if field.name not in table.column_names:
                    table = table.append_column(field, pyarrow.nulls(len(table), field.type))
            writer.write_table(table.select(schema.names).cast(schema))
    return True


def _tables(run: RunReader, figures: list[RunFigure], *, first: bool = False) -> Iterator[Any]:
    """Yield a table for each figure of each step.

    Args:
        run: the run.
        figures: which figures.
        first: with the first row alone, for the columns.
    """
    import pyarrow

    for step in run.steps:
        figures_of_step = run.figures(step)
        for declared in figures:
            figure = figures_of_step[declared.key]
            if figure.axes and figure.values.size:
                table = pyarrow.table(_rows(figure, declared, step))
                yield table.slice(0, 1) if first else table


def _rows(figure: Figure, declared: RunFigure, step: StepLine) -> dict[str, Any]:
    import pyarrow

    count = figure.values.size
    columns: dict[str, Any] = {
        "step": pyarrow.array(np.full(count, step.step, np.int64)),
        "prompt": pyarrow.array(
            np.full(count, -1 if declared.prompt is None else declared.prompt, np.int32),
            mask=np.full(count, declared.prompt is None),
        ),
    }
    for index, axis in enumerate(figure.axes):
        places = _along(figure, index, np.arange(len(axis), dtype=np.int32))
        name = f"axis_{axis.name}" if axis.name in COLUMNS else axis.name
        columns[name] = pyarrow.array(_positions(axis)[places])
        labels = pyarrow.array(list(axis.labels), pyarrow.string())
        columns[f"{name}_label"] = labels.take(pyarrow.array(places))
    columns["value"] = pyarrow.array(figure.values.ravel())
    for name, value in figure.extra.items():
        array = np.asarray(value) if isinstance(value, np.ndarray) else None
        if array is not None and array.shape == figure.values.shape and name not in columns:
            columns[name] = pyarrow.array(array.ravel())
    text = pyarrow.string()
    for name, content in (
        ("unit", figure.unit),
        ("status", figure.verdict.status),
        ("reason", figure.verdict.reason or None),
    ):
        columns[name] = pyarrow.array([content] * count, text)
    return columns


def _along(figure: Figure, index: int, values: NDArray[Any]) -> NDArray[Any]:
    """Return the index on one axis of each value of a figure, in order."""
    shape = [1] * figure.values.ndim
    shape[index] = -1
    return np.broadcast_to(values.reshape(shape), figure.values.shape).ravel()


def _positions(axis: Axis) -> NDArray[np.int32]:
    return np.arange(len(axis), dtype=np.int32) * axis.step + axis.start
