"""The UMT5 encoder: token ids to embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wanoffload.arrays import like, to_numpy
from wanoffload.configuration import FrozenDict
from wanoffload.errors import CheckpointError
from wanoffload.loading import check_counts
from wanoffload.models.component import Component
from wanoffload.outputs import BaseModelOutput
from wanoffload.report import ComponentReport


class UMT5EncoderModel(Component):
    """The text encoder of WAN. Its 2 GB table of embeddings is never loaded: the rows of the prompt are read from the
    file."""

    class_name = "UMT5EncoderModel"
    component_name = "text_encoder"
    core_class = "TextEncoder"
    blocks_in = ("encoder", "block")
    config_defaults = {
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "layer_norm_epsilon": 1e-6,
        "feed_forward_proj": "gated-gelu",
    }
    config_needed = ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads")

    @classmethod
    def check_config(cls, config: FrozenDict, file: Path) -> None:
        check_counts(config, file, ("vocab_size", "d_model"))
        if config.get("model_type", "umt5") != "umt5":
            raise CheckpointError(
                f"{file} describes a model of type {config.model_type}, not umt5, the text encoder of WAN."
            )
        if config.feed_forward_proj != "gated-gelu":
            raise CheckpointError(
                f"{file} sets feed_forward_proj={config.feed_forward_proj!r}; WAN's text encoder has 'gated-gelu'."
            )

    def plan_tokens(self, engine: Any, tokens: Sequence[int], policy: dict[str, Any]) -> Any:
        """The core's plan for prompts of so many real tokens each."""
        return self.core.plan(engine, list(tokens), policy)

    def __call__(self, input_ids: Any, attention_mask: Any = None, return_dict: bool = True) -> BaseModelOutput | tuple:
        """Encodes token ids.

        Only real tokens are computed. Where the mask is 0 the result is zero, while transformers gives the encoder's
        output for padding there; WAN's pipeline throws that away.

        Args:
            input_ids: int [batch, length].
            attention_mask: 1 for tokens, 0 for padding, [batch, length]; the ones of an item lie side by side. All
                ones when None.
            return_dict: Whether to return an output object or a tuple.

        Returns:
            ``last_hidden_state``, float32 [batch, length, d_model].
        """
        ids, mask = self._check(input_ids, attention_mask)
        spans = [np.flatnonzero(row) for row in mask]
        prompts = [np.ascontiguousarray(row[span]) for row, span in zip(ids, spans, strict=True) if len(span)]
        hidden = np.zeros((*ids.shape, self.config.d_model), np.float32)
        if prompts:
            encoded = iter(self.encode(prompts))
            for row, span in zip(hidden, spans, strict=True):
                if len(span):
                    row[span] = next(encoded)
        result = like(hidden, input_ids)
        return BaseModelOutput(result) if return_dict else (result,)

    def encode(self, prompts: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Encodes prompts of real tokens, int32 [n] each, to float32 [n, d_model] each, in one pass over the weights.

        Bits do not depend on how weights are offloaded, but the longest prompt of the call decides the form of the
        products: up to 32 tokens another order of sums is the faster one. So a short prompt beside a long one can
        differ in its last bits from the same prompt alone.
        """
        report = ComponentReport(self.component_name)
        with self.runtime.call(self.class_name) as engine:
            tokens = [len(prompt) for prompt in prompts]
            policy = self.policy_alone(engine, 4 * sum(tokens) * self.config.d_model)
            plan = self.plan_tokens(engine, tokens, policy)
            with self.running(engine, plan, report) as execution:
                encoded = execution.encode(prompts)
            self.after_call(engine)
        self.report = report
        return encoded

    def _check(self, input_ids: Any, attention_mask: Any) -> tuple[np.ndarray, np.ndarray]:
        ids = to_numpy(input_ids, "input_ids")
        if ids.dtype.kind not in "iu" or ids.ndim != 2 or 0 in ids.shape:
            raise ValueError(
                f"`input_ids` has to be an integer array [batch, length] but is {ids.dtype} {list(ids.shape)}."
            )
        if ids.min() < 0 or ids.max() >= self.config.vocab_size:
            wrong = ids.min() if ids.min() < 0 else ids.max()
            raise ValueError(
                f"`input_ids` holds {wrong}; ids of this text encoder are 0 to {self.config.vocab_size - 1}."
            )
        mask = np.ones(ids.shape, bool) if attention_mask is None else to_numpy(attention_mask, "attention_mask") > 0
        if mask.shape != ids.shape:
            raise ValueError(
                f"`attention_mask` has to be of shape {list(ids.shape)}, as `input_ids`, but is {list(mask.shape)}."
            )
        for row in mask:
            used = np.flatnonzero(row)
            if len(used) and used[-1] - used[0] + 1 != len(used):
                raise ValueError(
                    "`attention_mask` has zeros between ones; the tokens of a prompt have to lie side by side."
                )
        return ids.astype(np.int32), mask
