"""A site's data: a folder with a manifest, checked and split once, loaded part by part. Torch-free."""

from fl_jobs.data.load import DataPart, encode_records, load_part
from fl_jobs.data.register import DatasetCard, read_registration, register
from fl_jobs.data.texts import TextEncoder, text_encoder

__all__ = [
    "DataPart",
    "DatasetCard",
    "TextEncoder",
    "encode_records",
    "load_part",
    "read_registration",
    "register",
    "text_encoder",
]
