"""The one reader each of JSON, JSON lines, YAML and safetensors headers.

A file may be damaged, of another kind, or malicious. So bytes, depth of nesting and the number of
values are bounded before anything is kept, and what the formats leave open is refused: a key given
twice, numbers that are not finite or have thousands of digits. Every problem is one line.
"""

from tinylm.errors import key_shown, shown
from tinylm.reading.files import MOST_BYTES, decode, lines, read_bytes
from tinylm.reading.json_files import parse_json, read_json, read_json_lines
from tinylm.reading.shapes import checked, problem, refusal
from tinylm.reading.signed import CHECKSUM, read_signed, signed, verified
from tinylm.reading.tensors import TensorHeader, read_tensor_headers
from tinylm.reading.yaml_files import Yaml, parse_yaml, plain_word, read_yaml, write_yaml

__all__ = [
    "CHECKSUM",
    "MOST_BYTES",
    "TensorHeader",
    "Yaml",
    "checked",
    "decode",
    "key_shown",
    "lines",
    "parse_json",
    "parse_yaml",
    "plain_word",
    "problem",
    "read_bytes",
    "read_json",
    "read_json_lines",
    "read_signed",
    "read_tensor_headers",
    "read_yaml",
    "refusal",
    "shown",
    "signed",
    "verified",
    "write_yaml",
]
