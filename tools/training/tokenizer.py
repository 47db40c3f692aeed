"""The tokenizer of the demo checkpoint: every word of the prompts is one piece, anything else goes letter by letter."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from pathlib import Path

from prompts import describe
from shapes import sample
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"  # ids 0, 1 and 2
SPACE = "\u2581"
MORE_WORDS = "film clip shape is and with it animation of slowly then small big".split()
ENDINGS = "ing s ed er es ly".split()


def write_tokenizer(folder: Path) -> int:
    """Writes tokenizer.json and the two files that go with it; returns the number of pieces."""
    pieces = _pieces()
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    words = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always", split=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), words])
    tokenizer.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme="always", split=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=["$A", END], pair=["$A", END, "$B", END], special_tokens=[(END, 1)]
    )
    tokenizer.add_special_tokens([PAD, END, UNKNOWN])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"eos_token": END, "pad_token": PAD, "unk_token": UNKNOWN}
    config = {
        **special,
        "tokenizer_class": "T5TokenizerFast",
        "model_max_length": 512,
        "extra_ids": 0,
        "additional_special_tokens": [],
        "clean_up_tokenization_spaces": False,
    }
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=1))
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
    return len(pieces)


def _pieces() -> list[tuple[str, float]]:
    """Pieces with their log probabilities: words as often as prompts have them, then letters and endings."""
    counts = _count_words()
    total = sum(counts.values())
    pieces = [(PAD, 0.0), (END, 0.0), (UNKNOWN, 0.0), (SPACE, -6.0)]
    for word, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        pieces.append((word if word in ",." else SPACE + word, math.log(count / total)))
    have = {piece for piece, _ in pieces}
    pieces += [(chr(code), -12.0) for code in range(33, 127) if chr(code) not in have]
    return pieces + [(ending, -11.0) for ending in ENDINGS]


def _count_words() -> dict[str, int]:
    """Words of 20000 prompts, each with a capital and without, and a few that no prompt has."""
    rng = random.Random(3)
    counts: Counter[str] = Counter()
    for _ in range(20000):
        prompt = describe(sample(rng).label, rng)
        counts.update(prompt.replace(",", " ,").replace(".", " .").split())
    for word in list(counts):
        counts.setdefault(word[0].upper() + word[1:], 20)
        counts.setdefault(word[0].lower() + word[1:], 20)
    for word in MORE_WORDS:
        counts.setdefault(word, 20)
    return counts
