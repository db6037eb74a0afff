"""llama.cpp itself, in the child process: loads one model, and hands out and changes its tensors.

The functions of this module are called by `llmscope.models.llama.process`, through
`llmscope.support.sandbox`. Tensors pass through a block of shared memory: a result only says where.

The evaluation callback of llama.cpp is called for each tensor of a pass, twice: it says whether it
wants the tensor, and is then called once the tensor is computed. It may write the tensor before the
next one is computed.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import mmap
import os
import re
import struct
from importlib import import_module
from pathlib import Path
from typing import Any

SIZES, STRIDES, PARAMETERS, SOURCES, NAME = 16, 48, 84, 152, 256
"""Where fields of `struct ggml_tensor` lie, which the binding does not describe; see `_note`."""
NAME_BYTES = 64
SOURCE_COUNT = 4
"""Number of a tensor's sources that are searched for weights."""
F32, F16, I32 = 0, 1, 26
SEQUENCES = 16
"""Number of token sequences in the KV cache."""
LOGITS = "logits"
SOFTMAX, CAPPED = "kq_soft_max", "kq_scaled_1"
FLASH = "flash_attention"
"""What a nameless tensor is called here that attention's one kernel computes."""
TURNED_BACK = "kqv_turned_back"
"""What the output of attention is called here, in the basis of the values in the model.

For a quantised KV cache llama.cpp turns queries, keys and values by a Hadamard matrix first."""
ROTATIONS = {"attn_inp_k_rot": "key", "attn_inp_v_rot": "value"}
"""The matrices that turn them -> what they turn."""
NAMELESS = "node_"
_CACHED_KEYS = re.compile(r"cache_k_l(\d+)\b")
_ATTENTION_OUT = re.compile(r"blk\.(\d+)\.attn_output\.(?:weight|bias)")
_WRITTEN = re.compile(r"attn_out-(\d+)(?: \(rows\))?")
_NORMED = re.compile(r"blk\.(\d+)\.post_ffw_norm\.weight")
NORMED, SCORES = "result_norm", "result_scores"
UNEMBEDDINGS = ("output.weight", "token_embd.weight")
CONTEXT_BYTES = 1 << 20
"""Memory for the descriptions of the tensors of one product."""


class NativeError(Exception):
    """llama.cpp gave up on a call. The text gives the reason in a few words."""


class _Model:
    """The loaded model.

    Attributes:
        weights: the addresses of the weights that passes read, by name.
        seen: the numbers a token of all tensors of float32 of the latest survey, by name.
        scales: what the scores of each layer's attention are multiplied by.
        softcaps: of the scores of `attention` and of the `logits`, where there is one.
        visible: how many keys the first query sees, by layer.
        rotations: of `key` and `value`, how many neighbouring numbers are turned together before
            they are written to a quantised KV cache; missing where none are.
    """

    def __init__(
        self, path: str, library: str, context: int, threads: int, rows: int, cache: int
    ) -> None:
        binding = _binding(library)
        self.ffi, self.lib = binding.get_ffi(), binding.get_lib()
        self.log: list[str] = []
        self._on_log = self.ffi.callback(
            "void(enum ggml_log_level, const char *, void *)", self._logged
        )
        self.lib.llama_log_set(self._on_log, self.ffi.NULL)
        self.base = _base_library(binding)
        self.lib.llama_backend_init()
        self.cpu = _cpu_backend(binding, threads)
        parameters = self.lib.llama_model_default_params()
        parameters.n_gpu_layers = 0
        self.model = self.lib.llama_model_load_from_file(path.encode(), parameters)
        if self.model == self.ffi.NULL:
            raise NativeError(self._reason("it cannot be loaded"))
        self.vocab = self.lib.llama_model_get_vocab(self.model)
        settings = self.lib.llama_context_default_params()
        settings.n_ctx, settings.n_seq_max, settings.kv_unified = context, SEQUENCES, True
        settings.n_batch = settings.n_ubatch = rows
        settings.n_threads = settings.n_threads_batch = threads
        # With it, llama.cpp computes no pattern; it refuses a quantised cache without it.
        settings.flash_attn_type = 0 if cache in (F32, F16) else 1
        settings.swa_full = True
        settings.type_k = settings.type_v = cache
        self._on_tensor = self.ffi.callback(
            "bool(struct ggml_tensor *, bool, void *)", self._tensor
        )
        settings.cb_eval = self._on_tensor
        self.context = self.lib.llama_init_from_model(self.model, settings)
        if self.context == self.ffi.NULL:
            raise NativeError(self._reason("it cannot be run"))
        self.memory = self.lib.llama_get_memory(self.context)
        self.rows = rows
        self.weights: dict[str, int] = {}
        self.seen: dict[str, int] = {}
        self.scales: list[float] = []
        self.visible: list[int] = []
        self.softcaps: dict[str, float] = {}
        self.rotations: dict[str, int] = {}
        self.block: Any = None
        self.address = 0
        self._listening = self._surveying = False
        self._wanted: frozenset[str] = frozenset()
        self._writes: dict[str, list[Any]] = {}
        self._places: dict[str, list[Any]] = {}
        self._start = self._count = self._total = self._end = 0
        self._error = ""

    def _logged(self, level: int, text: Any, _: Any) -> None:
        if level in (3, 4):  # a warning or an error
            self.log = [*self.log[-20:], self.ffi.string(text).decode(errors="replace").strip()]

    def _reason(self, otherwise: str) -> str:
        lines = [line for line in self.log if line]
        return lines[-1] if lines else otherwise

    def known_as(self, tensor: Any) -> str:
        """Return the name of a tensor; of a nameless one, that of the part that it ends.

        Many architectures name neither attention's write nor the queries once they are scaled;
        phi3 does not name the stream after attention, gemma2 not the scores before their softcap,
        and it leaves the layer out of the name of a norm.
        """
        name = self.name(tensor)
        if name == "ffn_post_norm":
            layers = (_NORMED.fullmatch(self.name(source)) for source in self.sources(tensor))
            layer = next((match[1] for match in layers if match is not None), None)
            return name if layer is None else f"{name}-{layer}"
        if not name.startswith(NAMELESS):
            return name
        sources = self.sources(tensor)
        names = [self.name(source) for source in sources]
        if any(read.startswith(tuple(ROTATIONS)) for read in names):
            joined = next((read for read in names if read.startswith("kqv_out-")), None)
            if joined is None:
                return name
            return joined.partition(" ")[0].replace("kqv_out", TURNED_BACK)
        if len(names) > 2 and (match := _CACHED_KEYS.match(names[1])):
            return f"{FLASH}-{match[1]}"
        for read in names:
            if read.startswith("Qcur-"):
                return read.partition(" ")[0]
            if (match := _ATTENTION_OUT.fullmatch(read)) is not None:
                return f"attn_out-{match[1]}"
        if NORMED in names and any(read in UNEMBEDDINGS for read in names):
            return SCORES
        if not sources:
            return name
        read = self.known_as(sources[0]) if names[0].startswith(NAMELESS) else names[0]
        if (match := _WRITTEN.fullmatch(read)) is not None:
            operation = self._operation(tensor)
            if operation == b"GET_ROWS":
                return f"attn_out-{match[1]} (rows)"
            if operation == b"ADD":
                return f"ffn_inp-{match[1]}"
        return name

    def sources(self, tensor: Any) -> list[Any]:
        """Return the first tensors that a tensor is computed from."""
        address = self.ffi.cast("char *", tensor) + SOURCES
        pointers = self.ffi.cast("struct ggml_tensor **", address)[0:SOURCE_COUNT]
        return [source for source in pointers if source != self.ffi.NULL]

    def name(self, tensor: Any) -> str:
        """Return the name of a tensor."""
        field = self.ffi.cast("char *", tensor) + NAME
        return str(self.ffi.string(field, NAME_BYTES).decode(errors="replace"))

    def shape(self, tensor: Any) -> list[int]:
        """Return the sizes of a tensor, the fastest first."""
        return list(self.ffi.cast("int64_t *", self.ffi.cast("char *", tensor) + SIZES)[0:4])

    def kind(self, tensor: Any) -> int:
        """Return the number of a tensor's type."""
        return int(self.ffi.cast("int32_t *", tensor)[0])

    def _tensor(self, tensor: Any, ask: bool, _: Any) -> bool:
        if not self._listening:
            return not ask
        try:
            name = self.known_as(tensor)
            if self._surveying:
                self._note(name, tensor)
                return False
            if ask:
                return name in self._wanted or name in self._writes
            self._exchange(name, tensor)
        except Exception as error:  # an exception would be lost in llama.cpp's own frames
            self._error = self._error or str(error)
            return False
        return True

    def _note(self, name: str, tensor: Any) -> None:
        """Note a tensor of a survey, and the weights that it is computed from."""
        ffi = self.ffi
        if (
            self.base.ggml_get_name(int(ffi.cast("uintptr_t", tensor)))
            != self.name(tensor).encode()
        ):
            self._error = "this build of llama.cpp keeps its tensors in a form of its own"
        if self.kind(tensor) in (F32, I32):
            self.seen[name] = math.prod(self.shape(tensor)) // self._count
        if name.startswith((SOFTMAX, FLASH)):
            self.scales.append(self._factor(tensor))
            mask = self.sources(tensor)[3 if name.startswith(FLASH) else 1]
            self.visible.append(self._count_visible(mask))
        if name.startswith(FLASH) and (cap := self._factor(tensor, 2)):
            self.softcaps["attention"] = cap
        if name.startswith(CAPPED):
            self.softcaps["attention"] = 1 / self._factor(tensor)
        elif name.startswith(NAMELESS) and self._operation(tensor) == b"SCALE":
            capped = self.known_as(self.sources(tensor)[0]) == SCORES
            self.softcaps |= {"logits": 1 / self._factor(tensor)} if capped else {}
        for source in self.sources(tensor):
            if (weight := self.name(source)).endswith(".weight"):
                self.weights[weight] = int(ffi.cast("uintptr_t", source))
            for matrix, part in ROTATIONS.items():
                if weight.startswith(matrix):
                    self.rotations[part] = self.shape(source)[0]

    def _operation(self, tensor: Any) -> bytes:
        """Return the name of the operation that computes a tensor, such as `ADD`."""
        name: bytes = self.base.ggml_op_desc(int(self.ffi.cast("uintptr_t", tensor)))
        return name

    def _factor(self, tensor: Any, index: int = 0) -> float:
        """Return a parameter, such as the first, of the operation that computes a tensor."""
        address = self.ffi.cast("char *", tensor) + PARAMETERS
        return float(self.ffi.cast("float *", address)[index])

    def _count_visible(self, mask: Any) -> int:
        """Return how many keys the first query of a mask sees."""
        count, size = self.shape(mask)[0], 4 if self.kind(mask) == F32 else 2
        row = self.ffi.new("char[]", count * size)
        address, place = (int(self.ffi.cast("uintptr_t", each)) for each in (mask, row))
        self.base.ggml_backend_tensor_get(address, place, 0, count * size)
        values = struct.unpack(f"<{count}{'f' if size == 4 else 'e'}", self.ffi.buffer(row))
        return sum(value >= 0 for value in values)

    def survey(self, ids: list[int]) -> dict[str, Any]:
        """Run some tokens, and return what there is: tensors, weights, scales of attention."""
        self._surveying, self.seen, self.scales, self.visible = True, {}, [], []
        self.rotations = {}
        try:
            self.decode([[0, 0, 0, ids]], [SOFTMAX], [])
        finally:
            self._surveying = False
        self.lib.llama_memory_seq_rm(self.memory, 0, -1, -1)
        scales = self.scales
        return {
            "tensors": dict(self.seen),
            "weights": list(self.weights),
            "scales": scales,
            "windows": self._windows(ids),
            "softcaps": self.softcaps,
            "rotations": self.rotations,
        }

    def _windows(self, ids: list[int]) -> list[int]:
        """Return how many tokens each layer's attention sees; 0 without a window.

        Architectures differ in which layers have one, and the file need not say it: a token is put
        farther away than the window, and the masks show which layers do not see it.

        Args:
            ids: three tokens.
        """
        window = max(0, int(self.lib.llama_model_n_swa(self.model)))
        if not window:
            return [0] * len(self.scales)
        self.decode([[0, 0, 0, ids[:2]]], [], [])
        self.lib.llama_memory_seq_add(self.memory, 0, 1, 2, window)
        self._surveying, self.scales, self.visible = True, [], []
        try:
            self.decode([[0, 0, window + 2, ids[2:3]]], [SOFTMAX], [])
        finally:
            self._surveying = False
            self.lib.llama_memory_seq_rm(self.memory, 0, -1, -1)
        return [window if count < len(ids) else 0 for count in self.visible]

    def _exchange(self, name: str, tensor: Any) -> None:
        if self.kind(tensor) not in (F32, I32):
            raise NativeError(f"{name} has no numbers of four bytes")
        address = int(self.ffi.cast("uintptr_t", tensor))
        shape = self.shape(tensor)
        size = 4 * math.prod(shape)
        begin, bytes_per_row = self._start, size // self._count
        whole = bool(self.base.ggml_is_contiguous(address))
        if name in self._writes:
            if not whole:
                raise NativeError(f"{name} has gaps in memory")
            for row, offset, length in self._writes[name]:
                self._write(address, row, offset, length, bytes_per_row)
        if name in self._wanted:
            if name not in self._places:
                self._places[name] = [self._end, bytes_per_row // 4]
                self._end += -(-bytes_per_row * self._total // 64) * 64
            offset = self._places[name][0] + begin * bytes_per_row
            if offset + size > len(self.block):
                raise NativeError("the shared memory is too small")
            if whole:
                self.base.ggml_backend_tensor_get(address, self.address + offset, 0, size)
            else:
                self._gather(tensor, shape, self.address + offset)

    def _write(self, address: int, row: int, offset: int, length: int, bytes_per_row: int) -> None:
        """Write what lies in the shared memory into those of its rows that run now."""
        first = max(row, self._start)
        last = min(row + length // bytes_per_row, self._start + self._count)
        if first < last:
            place = self.address + offset + (first - row) * bytes_per_row
            target = (first - self._start) * bytes_per_row
            size = (last - first) * bytes_per_row
            self.base.ggml_backend_tensor_set(address, place, target, size)

    def _gather(self, tensor: Any, shape: list[int], place: int) -> None:
        """Copy a tensor that is a part of a larger one, such as the queries of fused weights."""
        address = int(self.ffi.cast("uintptr_t", tensor))
        strides = list(self.ffi.cast("size_t *", self.ffi.cast("char *", tensor) + STRIDES)[0:4])
        if strides[0] != 4:
            raise NativeError("a part of it lies across memory")
        joined = 1  # dimensions that lie without gaps
        while joined < 4 and strides[joined] == strides[joined - 1] * shape[joined - 1]:
            joined += 1
        size = 4 * math.prod(shape[:joined])
        outer = [range(count) for count in reversed(shape[joined:])]
        steps = list(reversed(strides[joined:]))
        for indices in itertools.product(*outer):
            offset = sum(index * step for index, step in zip(indices, steps, strict=True))
            self.base.ggml_backend_tensor_get(address, place, offset, size)
            place += size

    def decode(self, runs: list[Any], wanted: list[str], writes: list[Any]) -> list[Any]:
        """Run tokens of several sequences at once; see `decode` below."""
        lib = self.lib
        for sequence, source, keep, _ in runs:
            self._prepare(sequence, source, keep)
        self._wanted, self._writes = frozenset(wanted), {}
        for name, *place in writes:
            self._writes.setdefault(name, []).append(place)
        tokens = [
            (token, keep + index, sequence, index == len(ids) - 1)
            for sequence, _, keep, ids in runs
            for index, token in enumerate(ids)
        ]
        self._places, self._error, self._total = {}, "", len(tokens)
        self._end = max((offset + size for _, _, offset, size in writes), default=0)
        self._end = -(-self._end // 64) * 64
        self.log.clear()
        count = lib.llama_vocab_n_tokens(self.vocab)
        ended = 0
        for start in range(0, len(tokens), self.rows):
            part = tokens[start : start + self.rows]
            self._start, self._count = start, len(part)
            status = self._run_rows(part, listening=bool(wanted or writes))
            if self._error or status:
                for sequence, _, keep, _ in runs:
                    lib.llama_memory_seq_rm(self.memory, sequence, keep, -1)
                if status == 1:
                    raise NativeError("the prompt is longer than the room in its cache")
                raise NativeError(self._error or self._reason(f"llama_decode ends with {status}"))
            for row, (*_, last) in enumerate(part):
                if last:
                    self._keep_logits(row, self._end + 4 * count * ended, 4 * count)
                    ended += 1
        self._places[LOGITS] = [self._end, count]
        return [[name, *place] for name, place in self._places.items()]

    def _prepare(self, sequence: int, source: int, keep: int) -> None:
        """Let a sequence be the first tokens of another, or of itself."""
        if source != sequence:
            self.lib.llama_memory_seq_rm(self.memory, sequence, -1, -1)
            if keep:
                self.lib.llama_memory_seq_cp(self.memory, source, sequence, 0, keep)
        elif not self.lib.llama_memory_seq_rm(self.memory, sequence, keep, -1):
            raise NativeError("its cache cannot be cut back to a prefix")

    def _run_rows(self, part: list[Any], *, listening: bool) -> int:
        """Run tokens, each with its position and sequence, and return llama.cpp's status."""
        batch = self.lib.llama_batch_init(len(part), 0, 1)
        try:
            batch.n_tokens = len(part)
            for row, (token, position, sequence, _) in enumerate(part):
                batch.token[row], batch.pos[row] = token, position
                batch.n_seq_id[row], batch.seq_id[row][0] = 1, sequence
                batch.logits[row] = 1  # the last layer runs only the rows that are asked for
            self._listening = listening
            return int(self.lib.llama_decode(self.context, batch))
        finally:
            self._listening = False
            self.lib.llama_batch_free(batch)

    def _keep_logits(self, row: int, offset: int, size: int) -> None:
        """Copy the logits of a row of the tokens that ran last into the shared memory."""
        if offset + size > len(self.block):
            raise NativeError("the shared memory is too small")
        logits = self.lib.llama_get_logits_ith(self.context, row)
        ctypes.memmove(self.address + offset, int(self.ffi.cast("uintptr_t", logits)), size)

    def apply(self, weight: str, count: int, inputs: int, outputs: int, offset: int) -> None:
        """Multiply the rows at the beginning of the shared memory by a weight; see `apply`."""
        if weight not in self.weights:
            raise NativeError(f"no pass reads {weight}")
        base, cpu = self.base, self.cpu
        context = base.ggml_init(_Memory(CONTEXT_BYTES, None, True))
        buffer = None
        try:
            rows = base.ggml_new_tensor_2d(context, F32, inputs, count)
            product = base.ggml_mul_mat(context, self.weights[weight], rows)
            graph = base.ggml_new_graph(context)
            base.ggml_build_forward_expand(graph, product)
            buffer = base.ggml_backend_alloc_ctx_tensors(context, cpu)
            base.ggml_backend_tensor_set(rows, self.address, 0, 4 * count * inputs)
            if base.ggml_backend_graph_compute(cpu, graph):
                raise NativeError(f"the product with {weight} fails")
            base.ggml_backend_tensor_get(product, self.address + offset, 0, 4 * count * outputs)
        finally:
            if buffer:
                base.ggml_backend_buffer_free(buffer)
            base.ggml_free(context)


class _Memory(ctypes.Structure):
    """`struct ggml_init_params`."""

    _fields_ = (
        ("bytes", ctypes.c_size_t),
        ("buffer", ctypes.c_void_p),
        ("without_data", ctypes.c_bool),
    )


def _binding(library: str) -> Any:
    """Return the binding of llama.cpp; of the library at a path, unless that is empty."""
    if library:
        os.environ["LLAMA_CPP_LIB"] = library
    return import_module("llama_cpp_py_sync._cffi_bindings")


def _ggml(binding: Any, name: str) -> Any:
    """Load one of the libraries beside libllama, by ctypes."""
    folder = Path(binding._find_library()).parent
    forms = (f"lib{name}.so", f"lib{name}.dylib", f"{name}.dll", f"lib{name}.dll")
    paths = [path for form in forms for path in sorted(folder.glob(f"{form}*"))]
    if not paths:
        raise RuntimeError(f"there is no {name} beside libllama")
    return ctypes.CDLL(str(paths[0]))


def _base_library(binding: Any) -> Any:
    """Return ggml's own functions on tensors."""
    base = _ggml(binding, "ggml-base")
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    for name, result, arguments in (
        ("ggml_nbytes", size, [pointer]),
        ("ggml_is_contiguous", ctypes.c_bool, [pointer]),
        ("ggml_get_name", ctypes.c_char_p, [pointer]),
        ("ggml_op_desc", ctypes.c_char_p, [pointer]),
        ("ggml_backend_tensor_get", None, [pointer, pointer, size, size]),
        ("ggml_backend_tensor_set", None, [pointer, pointer, size, size]),
        ("ggml_init", pointer, [_Memory]),
        ("ggml_free", None, [pointer]),
        (
            "ggml_new_tensor_2d",
            pointer,
            [pointer, ctypes.c_int, ctypes.c_int64, ctypes.c_int64],
        ),
        ("ggml_mul_mat", pointer, [pointer, pointer, pointer]),
        ("ggml_new_graph", pointer, [pointer]),
        ("ggml_build_forward_expand", None, [pointer, pointer]),
        ("ggml_backend_alloc_ctx_tensors", pointer, [pointer, pointer]),
        ("ggml_backend_graph_compute", ctypes.c_int, [pointer, pointer]),
        ("ggml_backend_buffer_free", None, [pointer]),
    ):
        function = getattr(base, name)
        function.restype, function.argtypes = result, arguments
    return base


def _cpu_backend(binding: Any, threads: int) -> int:
    """Return ggml's backend on the CPU."""
    cpu = _ggml(binding, "ggml-cpu")
    cpu.ggml_backend_cpu_init.restype = ctypes.c_void_p
    cpu.ggml_backend_cpu_set_n_threads.argtypes = [ctypes.c_void_p, ctypes.c_int]
    backend: int = cpu.ggml_backend_cpu_init()
    cpu.ggml_backend_cpu_set_n_threads(backend, threads)
    return backend


_model: _Model | None = None
_vocabulary: tuple[Any, Any, Any] | None = None
"""Bindings and vocabulary, in a process that has no model."""


def _loaded() -> _Model:
    if _model is None:
        raise NativeError("no model is loaded")
    return _model


def load(path: str, library: str, context: int, threads: int, rows: int, cache: int) -> None:
    """Load a model.

    Args:
        path: the GGUF file.
        library: the path of libllama; empty: that of the binding.
        context: the number of tokens that its KV cache holds.
        threads: the number of threads of a pass.
        rows: the number of tokens that run at once.
        cache: the number of the type of the KV cache.
    """
    global _model
    _model = _Model(path, library, context, threads, rows, cache)


def describe() -> str:
    """Return what llama.cpp calls the model: architecture, size, type."""
    model = _loaded()
    text = model.ffi.new("char[256]")
    model.lib.llama_model_desc(model.model, text, 256)
    return str(model.ffi.string(text).decode(errors="replace"))


def share(path: str, size: int) -> None:
    """Map the block of shared memory.

    Args:
        path: the file that it is.
        size: its bytes.
    """
    model = _loaded()
    with open(path, "r+b") as file:
        model.block = mmap.mmap(file.fileno(), size)
    model.address = ctypes.addressof(ctypes.c_char.from_buffer(model.block))


def decode(runs: list[Any], wanted: list[str], writes: list[Any]) -> list[Any]:
    """Run tokens of several sequences at once.

    Args:
        runs: `[sequence, source, keep, tokens]`: the sequence of the KV cache that the tokens are
            added to, the sequence whose first tokens are their prefix (it may be the same), and how
            many those are.
        wanted: the names of the tensors to put into the shared memory.
        writes: `[name, row, offset, bytes]` of rows to replace by what is in the shared memory;
            rows are counted over the tokens of all runs.

    Returns:
        `[name, offset, numbers a row]` of each tensor, with the rows of all runs; `logits` has one
        row a run, after its last token.
    """
    return _loaded().decode(runs, wanted, writes)


def forget(sequence: int) -> None:
    """Free the rows of a sequence of the KV cache."""
    model = _loaded()
    model.lib.llama_memory_seq_rm(model.memory, sequence, -1, -1)


def survey(ids: list[int]) -> dict[str, Any]:
    """Run tokens, and return what there is in a pass.

    Returns:
        `tensors`: the numbers a token, by name; `weights`: the names of those that passes read;
        `scales`: what the scores of each layer's attention are multiplied by; `windows`: how many
        tokens it sees, 0 without a window; `softcaps`: of `attention` and `logits`;
        `rotations`: how many neighbouring numbers of keys and values are turned together for a
        quantised cache.
    """
    return _loaded().survey(ids)


def apply(weight: str, count: int, inputs: int, outputs: int, offset: int) -> None:
    """Multiply rows by a weight, with llama.cpp's own kernel.

    Args:
        weight: the name of the weight.
        count: the number of rows, which begin the shared memory.
        inputs: the numbers of a row.
        outputs: the numbers of a row of the product.
        offset: where in the shared memory the product goes, in bytes.
    """
    _loaded().apply(weight, count, inputs, outputs, offset)


def load_vocabulary(path: str, library: str) -> None:
    """Load the vocabulary of a file alone.

    Args:
        path: the GGUF file.
        library: the path of libllama; empty: that of the binding.
    """
    global _vocabulary
    binding = _binding(library)
    ffi, lib = binding.get_ffi(), binding.get_lib()
    lib.llama_backend_init()
    parameters = lib.llama_model_default_params()
    parameters.vocab_only = True
    model = lib.llama_model_load_from_file(path.encode(), parameters)
    if model == ffi.NULL:
        raise NativeError("its vocabulary cannot be loaded")
    _vocabulary = ffi, lib, lib.llama_model_get_vocab(model)


def tokenize(texts: list[str], special: bool) -> list[list[int]]:
    """Return the tokens of texts, in which special tokens may be written out.

    Args:
        texts: the texts.
        special: whether the special tokens are added that a text begins and ends with.
    """
    if _vocabulary is not None:
        ffi, lib, vocabulary = _vocabulary
    else:
        model = _loaded()
        ffi, lib, vocabulary = model.ffi, model.lib, model.vocab
    results = []
    for text in texts:
        data = text.encode()
        limit = len(data) + 8
        ids = ffi.new("llama_token[]", limit)
        count = lib.llama_tokenize(vocabulary, data, len(data), ids, limit, special, True)
        if count < 0:
            raise NativeError("its tokenizer gives more tokens than bytes")
        results.append(list(ids[0:count]))
    return results
