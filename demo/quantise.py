"""Write the weights of a GGUF file in another quantisation, with gguf-py alone.

    python -m demo.quantise SOURCE.gguf TARGET.gguf Q8_0

For comparisons: the numbers are dequantised and quantised anew, so the target is a quantisation of
the source as llmscope reads it. Vectors, such as the weights of norms, stay as they are.
"""

from __future__ import annotations

import sys
from pathlib import Path

import gguf

OWN = ("GGUF.", "general.architecture", "general.quantization_version")
"""Metadata that the writer makes itself."""


def quantise(source: Path, target: Path, kind: str) -> None:
    """Write the tensors of a GGUF file in one quantisation, with the same metadata.

    Args:
        source: the file to read.
        target: the file to write.
        kind: a type that gguf-py can quantise to, such as Q8_0 or Q4_0.
    """
    to = gguf.GGMLQuantizationType[kind]
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if not name.startswith(OWN):
            inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        if values.ndim < 2:
            writer.add_tensor(tensor.name, values)
        else:
            writer.add_tensor(tensor.name, gguf.quantize(values, to), raw_dtype=to)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    quantise(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
