"""The second model of a comparison: another one, or the same one loaded another way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from llmscope.cli import completion
from llmscope.cli.options.layer_ids import LayerIds, read_layer_ids
from llmscope.cli.options.loading import Loader, StreamsFile
from llmscope.cli.options.shared import usage
from llmscope.support.dtypes import dtype_name
from llmscope.support.text import display_text


def _dtype(name: str | None) -> str | None:
    return None if name is None else dtype_name(name)


@dataclass(frozen=True)
class VersusOptions:
    """How the second model is loaded; None: as the first."""

    panel: ClassVar[str] = "Edits and comparison"

    versus_dtype: Annotated[
        str | None,
        typer.Option(
            metavar="DTYPE",
            callback=_dtype,
            help="The second model's dtype, as --dtype.",
            show_default="that of the first",
        ),
    ] = None
    versus_device: Annotated[
        str | None,
        typer.Option(
            metavar="DEVICE",
            help="The second model's device, as --device.",
            show_default="that of the first",
        ),
    ] = None
    versus_backend: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=completion.backends,
            help="What runs the second model, as --backend.",
            show_default="as the first",
        ),
    ] = None
    versus_cache_type: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            autocompletion=completion.cache_types,
            help="The type of its KV cache in llama.cpp, as --cache-type.",
            show_default="as the first",
        ),
    ] = None
    versus_revision: Annotated[
        str | None,
        typer.Option(
            metavar="REVISION",
            help="The second model's branch, tag or commit of the hub, or version of a package.",
        ),
    ] = None

    @property
    def given(self) -> bool:
        """Whether one of them is given, so that the same model may be loaded twice."""
        return any(
            (
                *(self.versus_dtype, self.versus_device, self.versus_revision),
                *(self.versus_backend, self.versus_cache_type),
            )
        )


@dataclass(frozen=True)
class VersusModelOptions(VersusOptions):
    """Which second model is loaded, and how; nothing given: no second model."""

    versus_model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="A second model that reads the same tokens, to compare with: any form of MODEL. "
            "Or FILE.safetensors with the streams of one text, as vLLM writes them.",
            autocompletion=completion.models,
        ),
    ] = None
    versus_adapter: Annotated[
        str | None,
        typer.Option(
            metavar="ADAPTER",
            help="The same model with another adapter, to compare with: the name of one that is "
            "loaded, its folder or hub id, or base for none.",
            autocompletion=completion.models,
        ),
    ] = None
    layer_ids: LayerIds = None

    def onto(self, loader: Loader) -> Loader:
        """Return what loads the first model, and the second where one of the options is given.

        Raises:
            BadParameter: `--layer-ids` is no list of ids, or names those of no file of streams; or
                the second model is named twice.
            ScopeError: a spec cannot be parsed, or its source has no revisions.
        """
        if self.versus_adapter is not None:
            usage(self.layer_ids is None, "they are those of --versus-model FILE", "--layer-ids")
            usage(
                self.versus_model is None,
                "it is of the same model: --versus-model or --versus-adapter",
                "--versus-adapter",
            )
            return replace(
                loader,
                versus=_with_adapter(versus_loader(loader, None, self), self.versus_adapter),
                versus_adapter=self.versus_adapter,
            )
        if not (self.given or self.versus_model is not None):
            usage(self.layer_ids is None, "they are those of --versus-model FILE", "--layer-ids")
            return loader
        named = self.versus_model
        if named is not None and named.endswith(".safetensors"):
            usage(not self.given, f"{display_text(named)} is a file of streams", "--versus-dtype")
            return replace(loader, versus=StreamsFile(named, read_layer_ids(self.layer_ids)))
        usage(
            self.layer_ids is None,
            "they are those of --versus-model FILE.safetensors",
            "--layer-ids",
        )
        return replace(loader, versus=versus_loader(loader, self.versus_model, self))


def _with_adapter(loader: Loader, adapter: str) -> Loader:
    """Return a loader of the same model with another adapter on.

    Args:
        loader: loads the model with the adapters that were named for it.
        adapter: a folder, a spec or a hub id, which is loaded; or the name of one of its adapters,
            or `base`, to which it switches.
    """
    named = ":" in adapter or "/" in adapter or Path(adapter).is_dir()
    if named and adapter not in loader.adapters:
        return replace(loader, adapters=(adapter,))
    return replace(loader, switched_to=Path(adapter).name if named else adapter)


def versus_loader(loader: Loader, model: str | None, options: VersusOptions) -> Loader:
    """Return what loads the second model of a comparison.

    Another model has no adapters and nothing that was learned of the first. It is named on the same
    command line, so the trust in remote code and in pickled weights is for both. Where another
    backend runs it, device, dtype and type of the cache are not those of the first.

    Args:
        loader: what loads the first model.
        model: the spec of the second; None: that of the first.
        options: how it is loaded.

    Raises:
        ScopeError: a spec cannot be parsed, or its source has no revisions.
    """
    from llmscope.models.spec import DEFAULT, at_revision

    named = model if model is not None else loader.model
    if options.versus_revision is not None:
        named = at_revision(named or DEFAULT, options.versus_revision)
    second = loader if named is None else loader.other(named)
    backend = options.versus_backend or second.backend
    alike = backend == loader.backend
    return replace(
        second,
        device=options.versus_device or (loader.device if alike else "auto"),
        dtype=options.versus_dtype or (loader.dtype if alike else "auto"),
        backend=backend,
        cache_type=options.versus_cache_type or (second.cache_type if alike else None),
        trust_remote_code=loader.trust_remote_code,
        allow_pickle=loader.allow_pickle,
    )
