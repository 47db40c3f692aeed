"""From a prompt to token ids: cleaning as diffusers does it, then the checkpoint's own tokenizer."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wanoffload.configuration import read_json


def prompt_clean(text: str) -> str:
    """Repairs the text with ftfy (full-width forms and curly quotes become ASCII, among others), undoes HTML escapes
    twice, and turns each run of white space into one space."""
    import ftfy

    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", text).strip()


class Tokenizer:
    """The Unigram tokenizer of a UMT5 checkpoint, read from ``tokenizer.json`` (or ``spiece.model``).

    Args:
        backend: A ``tokenizers.Tokenizer`` that adds no special tokens of its own accord.
        eos_token_id: Id of ``</s>``, put behind each prompt.
        folder: Where it came from, for messages.
    """

    def __init__(self, backend: Any, eos_token_id: int = 1, folder: str = "") -> None:
        self._backend = backend
        self.eos_token_id = eos_token_id
        self.pad_token_id = 0
        self.folder = folder

    @classmethod
    def from_pretrained(cls, path: str | Path, subfolder: str | None = None) -> Tokenizer:
        """Reads a tokenizer folder.

        Raises:
            OSError: The folder or its tokenizer.json is missing.
            ValueError: tokenizer.json is no tokenizer, or it has no ``</s>``.
        """
        folder = Path(path) / (subfolder or "")
        if not folder.is_dir():
            raise OSError(f"There is no tokenizer folder {folder}. A WAN checkpoint has one with tokenizer.json in it.")
        file, spiece = folder / "tokenizer.json", folder / "spiece.model"
        if file.is_file():
            backend = cls._read_json(file)
        elif spiece.is_file():
            backend = cls._read_sentencepiece(spiece)
        else:
            raise OSError(f"There is neither tokenizer.json nor spiece.model in {folder}.")
        eos = backend.token_to_id(cls._eos_token(folder))
        if eos is None:
            raise ValueError(f"The tokenizer in {folder} has no token '{cls._eos_token(folder)}' to end a prompt with.")
        return cls(backend, eos, str(folder))

    @staticmethod
    def _read_json(file: Path) -> Any:
        import tokenizers

        read_json(file)
        try:
            backend = tokenizers.Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises a bare Exception
            raise ValueError(f"{file} is not a tokenizer that this package can read: {error}") from None
        backend.no_truncation()
        backend.no_padding()
        return backend

    @staticmethod
    def _read_sentencepiece(file: Path) -> Any:
        """Builds the Unigram tokenizer that transformers' T5 converter would build from a SentencePiece model."""
        try:
            from sentencepiece import sentencepiece_model_pb2 as model_pb2
        except ImportError:
            raise OSError(
                f"{file.parent} has spiece.model but no tokenizer.json; reading that needs "
                "`pip install sentencepiece protobuf`."
            ) from None
        import tokenizers
        from tokenizers import decoders, models, normalizers, pre_tokenizers

        try:
            proto = model_pb2.ModelProto.FromString(file.read_bytes())
        except Exception as error:  # protobuf's own class, which differs between its versions
            raise ValueError(f"{file} is not a SentencePiece model: {error}") from None
        if not proto.pieces:
            raise ValueError(f"{file} is not a SentencePiece model: it has no pieces.")
        pieces = [(piece.piece, piece.score) for piece in proto.pieces]
        backend = tokenizers.Tokenizer(models.Unigram(pieces, proto.trainer_spec.unk_id, False))
        charsmap = proto.normalizer_spec.precompiled_charsmap
        if charsmap:
            backend.normalizer = normalizers.Precompiled(charsmap)
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")]
        )
        backend.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
        return backend

    @staticmethod
    def _eos_token(folder: Path) -> str:
        for name in ("tokenizer_config.json", "special_tokens_map.json"):
            if (folder / name).is_file():
                token = read_json(folder / name).get("eos_token")
                token = token.get("content") if isinstance(token, dict) else token
                if isinstance(token, str):
                    return token
        return "</s>"

    @property
    def most_id(self) -> int:
        """The largest id that a prompt may become."""
        return max(self._backend.get_vocab_size() - 1, self.eos_token_id)

    def __call__(self, prompts: Sequence[str], max_length: int) -> list[np.ndarray]:
        """Tokenises prompts that were cleaned before.

        Args:
            prompts: The texts.
            max_length: The most ids of one prompt, ``</s>`` included; longer ones lose their end but keep ``</s>``.

        Returns:
            One int32 array [n] per prompt, n >= 1, without padding.
        """
        found = self._backend.encode_batch(list(prompts), add_special_tokens=False)
        return [np.array([*one.ids[: max_length - 1], self.eos_token_id], dtype=np.int32) for one in found]

    def __repr__(self) -> str:
        return f"Tokenizer({self.folder!r}, {self._backend.get_vocab_size()} pieces)"
