"""Text to token ids, from files on this machine: BERT's wordpieces, RoBERTa's byte-level pairs, T5's pieces."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import tokenizers as hf
from tokenizers import decoders, models, normalizers, pre_tokenizers

from jaxaudio.errors import CheckpointError, MissingError, UsageError

BUCKETS = (8, 16, 32, 64, 128, 256, 512)


def bucket(length: int, limit: int = BUCKETS[-1]) -> int:
    """The padded length for `length` tokens: the next of `BUCKETS`, at most `limit`, so that few shapes compile."""
    return min(next((size for size in BUCKETS if size >= length), limit), limit)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Tokenizer:
    """A vocabulary with its conventions.

    Attributes:
      backend: splits text into ids, without special tokens.
      start: ids put before every text, `[CLS]` or `<s>`; T5 has none.
      end: ids put after it, `[SEP]` or `</s>`; LASS-Net has none.
      pad_id: id of the padding.
      max_length: most tokens that the encoder takes, special ones included.
    """

    backend: hf.Tokenizer
    start: tuple[int, ...]
    end: tuple[int, ...]
    pad_id: int
    max_length: int = 512

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return self.backend.get_vocab_size()

    def encode(
        self, texts: str | Sequence[str], max_length: int | None = None, *, allow_empty: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Token ids and mask of a batch of texts, padded at the end to the bucket of the longest.

        A text that is too long, a 3,000-word query say, is cut, its end token kept. What the vocabulary cannot spell
        (non-Latin script in an English wordpiece vocabulary) becomes the unknown token; byte-level pairs spell
        everything.

        Args:
          texts: one text or several.
          max_length: most tokens to keep, special ones included; `self.max_length` when left out.
          allow_empty: let a text be empty, as the prompt of unconditional generation is: special tokens alone.

        Returns:
          `(ids, mask)`, both (batch, length) int32; the mask is 1 for a token and 0 for padding.

        Raises:
          UsageError: no text, one that is not a string, or one with nothing to read in it.
        """
        limit = self.max_length if max_length is None else min(max_length, self.max_length)
        room = limit - len(self.start) - len(self.end)
        if room < 1:
            raise UsageError(f"max_length={max_length} leaves no room for text; give at least {limit - room + 1}.")
        rows = [
            (*self.start, *self._ids(text, allow_empty)[:room], *self.end) for text in _as_texts(texts, allow_empty)
        ]
        width = bucket(max(map(len, rows)), limit)
        ids = np.full((len(rows), width), self.pad_id, np.int32)
        mask = np.zeros((len(rows), width), np.int32)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
            mask[i, : len(row)] = 1
        return ids, mask

    def decode(self, ids: Sequence[int]) -> str:
        """Text of some ids without special tokens; wordpieces give it back lower-cased."""
        special = {*self.start, *self.end, self.pad_id}
        return self.backend.decode([int(i) for i in ids if int(i) not in special])

    def _ids(self, text: str, allow_empty: bool) -> list[int]:
        # One call per text: the backend's batch call starts threads that do not survive a later fork.
        ids = self.backend.encode(text.encode(errors="replace").decode(), add_special_tokens=False).ids
        if not ids and not allow_empty:
            raise UsageError(f"There is nothing to read in the query {text[:40]!r}; describe a sound in words.")
        return ids

    @classmethod
    def wordpiece(cls, vocab: str | Path, *, end_token: bool = True, max_length: int = 512) -> Self:
        """BERT's uncased tokenizer from `vocab.txt`, one token a line: lower case, accents stripped, then wordpieces.

        `end_token=False` leaves out `[SEP]`, as LASS-Net does.
        """
        tokens = _read(vocab).rstrip("\n").split("\n")
        ids = {token.rstrip("\r"): i for i, token in enumerate(tokens)}
        missing = [token for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]") if token not in ids]
        if missing or len(ids) != len(tokens):
            why = f"lacks {' '.join(missing)}" if missing else "lists a token twice"
            raise CheckpointError(f"{vocab} is not a BERT vocabulary: it {why}. Get the model's vocab.txt again.")
        backend = hf.Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
        backend.normalizer = normalizers.BertNormalizer(lowercase=True)
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.WordPiece()
        end = (ids["[SEP]"],) if end_token else ()
        return cls(backend=backend, start=(ids["[CLS]"],), end=end, pad_id=ids["[PAD]"], max_length=max_length)

    @classmethod
    def byte_bpe(cls, vocab: str | Path, merges: str | Path, *, max_length: int = 512) -> Self:
        """RoBERTa's tokenizer from `vocab.json` and `merges.txt`: byte-level pairs, case kept."""
        entries, lines = _read(vocab), _read(merges).rstrip("\n").split("\n")
        try:
            ids = json.loads(entries)
            pairs = [(a, b) for a, b in (line.split(" ") for line in lines if not line.startswith("#version"))]
            backend = hf.Tokenizer(models.BPE(ids, pairs))
            start, end, pad = ids["<s>"], ids["</s>"], ids["<pad>"]
        except Exception as error:  # the backend raises bare Exception
            message = f"{vocab} and {merges} are not a byte-level vocabulary ({error}). Get the model's files again."
            raise CheckpointError(message) from error
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        return cls(backend=backend, start=(start,), end=(end,), pad_id=pad, max_length=max_length)

    @classmethod
    def from_file(cls, path: str | Path, *, max_length: int = 512) -> Self:
        """Any BERT-, RoBERTa- or T5-like tokenizer from its `tokenizer.json`."""
        if Path(path).suffix == ".model":
            message = (
                f"{path} is a SentencePiece model, which is not read; give the tokenizer.json published beside it."
            )
            raise UsageError(message)
        text = _read(path)
        try:
            backend = hf.Tokenizer.from_str(text)
        except Exception as error:  # the backend raises bare Exception
            message = f"{path} is not a tokenizer.json ({error}). Get the model's file again."
            raise CheckpointError(message) from error
        backend.no_padding()
        backend.no_truncation()
        for names in (("[CLS]", "[SEP]", "[PAD]"), ("<s>", "</s>", "<pad>")):
            start, end, pad = map(backend.token_to_id, names)
            if start is not None and end is not None and pad is not None:
                return cls(backend=backend, start=(start,), end=(end,), pad_id=pad, max_length=max_length)
        if end is not None and pad is not None:  # T5: "</s>" and "<pad>" alone
            return cls(backend=backend, start=(), end=(end,), pad_id=pad, max_length=max_length)
        raise CheckpointError(
            f"{path} has neither BERT's, RoBERTa's nor T5's special tokens. Get the model's file again."
        )


def _as_texts(texts: str | Sequence[str], allow_empty: bool) -> list[str]:
    """The batch as a list; a UsageError for what is not text."""
    batch = [texts] if isinstance(texts, str) else list(texts)
    if not batch:
        raise UsageError("No query was given; describe the sound to look for, such as 'a dog barking'.")
    for text in batch:
        if not isinstance(text, str):
            raise UsageError(f"A query must be a string, not {type(text).__name__}: give text such as 'a dog barking'.")
        if not text.strip() and not allow_empty:
            raise UsageError("The query is empty; describe the sound to look for, such as 'a dog barking'.")
    return batch


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_bytes().decode()
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8 text. Get the model's file again.") from error
    except OSError as error:
        raise MissingError(f"Cannot read the vocabulary {path} ({error.strerror}). Check the path.") from error
