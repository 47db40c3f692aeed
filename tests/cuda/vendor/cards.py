"""Cards as cuDNN describes them, and the shapes that WAN's models give to attention and convolution."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    name: str
    sm: int
    multiprocessors: int
    memory: int
    l2: int
    shared: int
    clock: int
    memory_clock: int
    bus: int
    blocks: int
    threads: int
    pci: int

    def description(self) -> str:
        """What cuDNN 9.15 to 9.28 want to know. Of what is not set here every card has the same."""
        return json.dumps(
            {
                "cudnnVersion": 91900,
                "schemaVersion": 1,
                "deviceVersion": self.sm * 10,
                "deviceVer": self.sm * 10,
                "driverVersion": 13000,
                "driverVer": 13000,
                "maxGridSize": [2147483647, 65535, 65535],
                "maxBlockSize": [1024, 1024, 64],
                "regsPerBlock": 65536,
                "multiProcessorCount": self.multiprocessors,
                "smCountOrigin": 0,
                "warpSize": 32,
                "maxSharedMemoryPerBlock": 49152,
                "maxSharedMemoryPerBlockOptin": self.shared,
                "oversizedSharedMemoryPerBlock": 0,
                "reservedSharedMemoryPerBlock": 1024,
                "maxRegistersPerSM": 65536,
                "maxCtasPerSM": self.blocks,
                "maxThreadsPerBlock": 1024,
                "maxThreadsPerSM": self.threads,
                "pciDeviceId": self.pci,
                "isTccDriver": 0,
                "supportCoopLaunch": 1,
                "smClockRateKHz": self.clock,
                "memClockRateKHz": self.memory_clock,
                "memoryBusWidth": self.bus,
                "l2CacheSize": self.l2,
                "deviceName": self.name,
                "cudaDeviceId": 0,
                "totalGlobalMem": self.memory,
            }
        )


_MIB = 1 << 20
# name, sm, multiprocessors, memory, l2, shared, clock, memory_clock, bus, blocks, threads, pci
_ROWS = (
    ("a100", "NVIDIA A100-SXM4-80GB", 80, 108, 81920, 40, 166912, 1410000, 1593000, 5120, 32, 2048, 0x20B2),
    ("rtx3060", "NVIDIA GeForce RTX 3060", 86, 28, 12288, 2.25, 101376, 1777000, 7501000, 192, 16, 1536, 0x2504),
    ("rtx3090", "NVIDIA GeForce RTX 3090", 86, 82, 24576, 6, 101376, 1695000, 9751000, 384, 16, 1536, 0x2204),
    ("rtx4090", "NVIDIA GeForce RTX 4090", 89, 128, 24564, 72, 101376, 2520000, 10501000, 384, 24, 1536, 0x2684),
    ("h200", "NVIDIA H200", 90, 132, 143771, 60, 232448, 1980000, 3201000, 6144, 32, 2048, 0x2335),
    ("rtx5090", "NVIDIA GeForce RTX 5090", 120, 170, 32102, 96, 101376, 2407000, 14001000, 512, 24, 1536, 0x2B85),
)
CARDS = {
    key: Card(name, sm, count, memory * _MIB, int(l2 * _MIB), shared, clock, memory_clock, bus, blocks, threads, pci)
    for key, name, sm, count, memory, l2, shared, clock, memory_clock, bus, blocks, threads, pci in _ROWS
}

# Height and width of the latents of 81 frames, which are 21 latents long.
RESOLUTIONS = {"480p": (60, 104), "720p": (90, 160)}
HEADS = {"1.3B": 12, "14B": 40}


def _query_portions(tokens: int) -> list[int]:
    """Lengths of the calls that the queries of so many tokens go into: csrc/model/transformer_block.c, query_rows."""
    calls = math.ceil(tokens / 16384)
    most = math.ceil(math.ceil(tokens / calls) / 256) * 256
    return [most, tokens - (calls - 1) * most] if calls > 1 else [tokens]


def attentions() -> Iterator[str]:
    """Self-attention of every published transformer (image to video has the shapes of text to video); over text and
    images own kernels attend."""
    for height, width in RESOLUTIONS.values():
        tokens = 21 * (height // 2) * (width // 2)
        for heads in HEADS.values():
            for queries in _query_portions(tokens):
                yield f"attention {queries} {tokens} {heads} 128"


def _residual_blocks(height: int, width: int, first: int, last: int) -> Iterator[str]:
    for channels in dict.fromkeys((first, last)):
        yield f"conv 3 {height} {width} {channels} {last} 3 3 3"


def _decoder(height: int, width: int) -> Iterator[str]:
    yield f"conv 3 {height} {width} 16 384 3 3 3"
    for stage, (first, last) in enumerate(((384, 384), (192, 384), (192, 192), (96, 96))):
        h, w = height << stage, width << stage
        yield from _residual_blocks(h, w, first, last)
        if stage < 2:
            yield f"conv 3 {h} {w} {last} {last} 3 1 1 rounded"
        if stage < 3:
            yield f"conv 1 {h} {w} {last} {last // 2} 1 3 3 doubled"
    yield f"conv 3 {height << 3} {width << 3} 96 3 3 3 3"


def _encoder(height: int, width: int) -> Iterator[str]:
    yield f"conv 3 {height << 3} {width << 3} 3 96 3 3 3"
    for stage, (first, last) in enumerate(((96, 96), (96, 192), (192, 384), (384, 384))):
        h, w = height << (3 - stage), width << (3 - stage)
        yield from _residual_blocks(h, w, first, last)
        if stage < 3:
            yield f"conv 1 {h} {w} {last} {last} 1 3 3 halved"
        if 0 < stage < 3:
            yield f"conv 3 {h // 2} {w // 2} {last} {last} 3 1 1"
    yield f"conv 3 {height} {width} 384 32 3 3 3"


def convolutions() -> Iterator[str]:
    """Every convolution of both halves of the VAE, as the model calls it: one frame out."""
    for height, width in RESOLUTIONS.values():
        yield from dict.fromkeys((*_decoder(height, width), *_encoder(height, width)))


def in_float16() -> Iterator[str]:
    """Some of them: a plan takes a second to make, and those of float16 have the shapes of bfloat16's."""
    for height, width in RESOLUTIONS.values():
        tokens = 21 * (height // 2) * (width // 2)
        yield f"attention {_query_portions(tokens)[0]} {tokens} {HEADS['14B']} 128 float16"
    yield "conv 3 120 208 384 384 3 3 3 float16"


def problems() -> list[str]:
    return [*attentions(), *convolutions(), *in_float16()]
