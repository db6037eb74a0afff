"""What a model's folder tells without its weights: the tokenizer, and the sizes of the stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmscope.errors import ScopeError, option
from llmscope.models.files.checkpoint import check_model
from llmscope.models.loading.adapters import fetched
from llmscope.models.loading.load import load_tokenizer_of, own_tokenizer
from llmscope.models.progress import silenced
from llmscope.models.sources import Options
from llmscope.models.spec import parse
from llmscope.models.tokenizer.tokens import Tokens
from llmscope.support.text import display_text, error_line


@dataclass(frozen=True)
class DescribedModel:
    """A model that was not loaded.

    Attributes:
        spec: the spec that the user gave.
        tokens: its tokenizer; None for a checkpoint without one.
        layers: the number of its layers.
        width: the width of its stream.
        vocabulary: the number of its tokens.
    """

    spec: str
    tokens: Tokens | None
    layers: int
    width: int
    vocabulary: int


def described(spec: str) -> DescribedModel:
    """Read a model's tokenizer and its config. The weights are fetched, and not loaded.

    Raises:
        ScopeError: the model cannot be found, or its config has no such sizes.
    """
    from transformers import AutoConfig

    parsed = parse(spec)
    with silenced():
        weights, _ = fetched(parsed, (), Options())
        check_model(weights.folder, parsed.text)
        tokens, _ = load_tokenizer_of(weights.folder)
        try:
            config = AutoConfig.from_pretrained(str(weights.folder), local_files_only=True)
            text_config = config.get_text_config()
            sizes = [
                int(getattr(text_config, name))
                for name in ("num_hidden_layers", "hidden_size", "vocab_size")
            ]
        except Exception as error:  # an unusual config can raise anything
            raise ScopeError(
                f"the config of {display_text(spec)} tells no sizes: {error_line(error)}",
                f"the same without {option('tokenizer')}, and with {option('layer-ids')}",
            ) from error
    return DescribedModel(parsed.text, tokens, *sizes)


def tokenizer_of(
    spec: str | None, adapters: Sequence[str] = (), options: Options | None = None
) -> Tokens:
    """Read a model's tokenizer as loading the model would. The weights are fetched, and not loaded.

    Args:
        spec: the spec of the model; None: the one that opens where none is named.
        adapters: the specs of its adapters, which may bring a tokenizer.
        options: whether foreign code may run, and where progress is told; None: neither.

    Raises:
        ScopeError: the model cannot be found, or has no tokenizer that can be read.
    """
    parsed, options = parse(spec), options or Options()
    with silenced():
        weights, added = fetched(parsed, adapters, options)
        trusted = options.trust_remote_code
        check_model(
            weights.folder,
            parsed.text,
            trust_remote_code=trusted,
            allow_pickle=options.allow_pickle,
        )
        tokens, missing = load_tokenizer_of(own_tokenizer(weights, added), trusted)
    if tokens is None:
        raise ScopeError(f"{display_text(parsed.text)}: {'; '.join(missing)}", "another model")
    return tokens
