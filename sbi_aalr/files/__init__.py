"""Files that appear whole or not at all, and where they may be written."""

from sbi_aalr.files.formats import (
    hash_document,
    hash_tensors,
    read_datatree,
    read_headed_tensors,
    read_sealed,
    read_tensors,
    write_datatree,
    write_figure,
    write_json,
    write_sealed,
    write_tensors,
    write_text,
)
from sbi_aalr.files.outputs import (
    check_output_file,
    check_output_folder,
    check_path,
    check_replaceable,
)
from sbi_aalr.files.whole import (
    lock,
    remove_leftovers,
    write_bytes,
    write_folder,
    write_together,
)

__all__ = [
    "check_output_file",
    "check_output_folder",
    "check_path",
    "check_replaceable",
    "hash_document",
    "hash_tensors",
    "lock",
    "read_datatree",
    "read_headed_tensors",
    "read_sealed",
    "read_tensors",
    "remove_leftovers",
    "write_bytes",
    "write_datatree",
    "write_figure",
    "write_folder",
    "write_json",
    "write_sealed",
    "write_tensors",
    "write_text",
    "write_together",
]
