"""llama.cpp's own pass, by its C interface alone: nothing of llmscope is in it.

    python by_hand.py REQUEST.json RESULT.npz

The request names a GGUF file, tokens, the type of the KV cache, whether there is a callback, and
passes; each pass may write rows into tensors. The result has all named tensors of each pass.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path

import numpy as np

F32, F16 = 0, 1
SIZES, STRIDES, NAME = 16, 48, 256  # of the fields of `struct ggml_tensor`


def main(request, target):
    from llama_cpp_py_sync import _cffi_bindings as binding

    ffi, lib = binding.get_ffi(), binding.get_lib()
    folder = Path(binding._find_library()).parent
    ggml = ctypes.CDLL(str(next(iter(sorted(folder.glob("libggml-base.so*"))))))
    ggml.ggml_backend_tensor_get.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_size_t] * 2
    ggml.ggml_backend_tensor_set.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_size_t] * 2
    ids, seen, writes = request["ids"], {}, {}

    def address(pointer):
        return int(ffi.cast("uintptr_t", pointer))

    def name_of(tensor):
        return ffi.string(ffi.cast("char *", tensor) + NAME, 64).decode()

    @ffi.callback("bool(struct ggml_tensor *, bool, void *)")
    def on_tensor(tensor, ask, _):
        kind = ffi.cast("int32_t *", tensor)[0]
        shape = list(ffi.cast("int64_t *", ffi.cast("char *", tensor) + SIZES)[0:4])
        strides = list(ffi.cast("size_t *", ffi.cast("char *", tensor) + STRIDES)[0:4])
        packed = [4 * int(np.prod(shape[:axis])) for axis in range(4)]
        if kind != F32 or strides != packed:
            return False
        if ask:
            return True
        name, values = name_of(tensor), np.zeros(shape[::-1], np.float32)
        if name in writes:
            for row, numbers in writes[name]:
                numbers = np.ascontiguousarray(numbers, np.float32)
                ggml.ggml_backend_tensor_set(
                    address(tensor), numbers.ctypes.data, row * strides[1], numbers.nbytes
                )
        ggml.ggml_backend_tensor_get(address(tensor), values.ctypes.data, 0, values.nbytes)
        seen.setdefault(name, values)
        return True

    silent = ffi.callback("void(enum ggml_log_level, const char *, void *)", quiet)  # kept alive
    lib.llama_log_set(silent, ffi.NULL)
    lib.llama_backend_init()
    parameters = lib.llama_model_default_params()
    parameters.n_gpu_layers = 0
    model = lib.llama_model_load_from_file(request["path"].encode(), parameters)
    settings = lib.llama_context_default_params()
    settings.n_ctx, settings.n_seq_max, settings.kv_unified = request["context"], 16, True
    settings.n_batch = settings.n_ubatch = 256
    settings.n_threads = settings.n_threads_batch = 1
    settings.flash_attn_type, settings.swa_full = 0, True
    settings.type_k = settings.type_v = request["cache"]
    if request["callback"]:
        settings.cb_eval = on_tensor
    context = lib.llama_init_from_model(model, settings)
    memory, vocab = lib.llama_get_memory(context), lib.llama_model_get_vocab(model)
    size = lib.llama_vocab_n_tokens(vocab)
    results = {}
    given = np.load(request["arrays"]) if request.get("arrays") else {}
    for at, changes in enumerate(request["passes"]):
        seen.clear()
        writes.clear()
        for name, row, key in changes:
            writes.setdefault(name, []).append((row, given[key]))
        lib.llama_memory_seq_rm(memory, 0, -1, -1)
        batch = lib.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for row, token in enumerate(ids):
            batch.token[row], batch.pos[row] = token, row
            batch.n_seq_id[row], batch.seq_id[row][0], batch.logits[row] = 1, 0, 1
        assert lib.llama_decode(context, batch) == 0
        lib.llama_batch_free(batch)
        rows = [
            np.frombuffer(ffi.buffer(lib.llama_get_logits_ith(context, row), 4 * size), np.float32)
            for row in range(len(ids))
        ]
        results |= {f"{at}/{name}": values for name, values in seen.items()}
        results[f"{at}/logits"] = np.stack(rows)
    np.savez(target, **results)


def quiet(*_):
    """Print nothing."""


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2])
