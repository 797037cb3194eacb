"""How fast: PANNs, captioning with a beam, self-critical training, Llama, beside the same in PyTorch, in turns.

    python experiments/bench_captioning.py --reference-python PYTHON_WITH_TORCH
    python experiments/bench_captioning.py --reference-python PYTHON_WITH_TORCH --works caption

The reference is what the published code does, written in plain PyTorch below, with weights that are random: spectra by
a convolution, the layers of `torch.nn`, and decoding that computes the whole caption again for every word, one clip and
one hypothesis at a time for the beam. Captions of random weights do not end, so that both sides say thirty words. The
reference's self-critical step leaves the reward out, which the published code computes in Python; ours has it. For
"llama" it is the cached `generate` of Transformers: four prompts of 16 tokens go on for 128 more, the likeliest each
time. Its interpreter needs torch, and for that Transformers. Each side runs in a process of its own; warm runs
alternate between them.
"""

import dataclasses
import sys
from pathlib import Path

import in_turns

WORDS = 30
WORKS = {
    "cnn10": {"clips": 1, "rate": 32000},
    "cnn14": {"clips": 1, "rate": 32000},
    "caption": {"clips": 32, "rate": 44100},
    "self-critical": {"clips": 16, "rate": 44100},
    "llama": {"clips": 4, "rate": 0},
}
"""Clips of ten seconds: PANNs' taggers, Cnn10 and a decoder of two layers with a beam of 3, a training step of them;
and prompts for a language model."""

LLAMA = {
    "vocab_size": 8000,
    "hidden_size": 512,
    "intermediate_size": 1376,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
}
PROMPT, SAID = 16, 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to time.

    Attributes:
      works: of "cnn10", "cnn14", "caption", "self-critical" and "llama", with commas between them.
      clips: of ten seconds each, prompts of the last; by default 1 of the first two, 32 of the third, 16, and 4.
      runs: timed runs per side; the median counts.
      reference_python: an interpreter with torch; without it only ours is timed.
      threads: CPU threads of the PyTorch side.
      json: write the figures there.
    """

    works: str = ",".join(WORKS)
    clips: int | None = None
    runs: int = 5
    reference_python: str | None = None
    threads: int = 2
    json: Path | None = None


def ours(work: str, clips: int):
    """A function that runs ours once."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    from jaxaudio.compile_cache import enable_compile_cache
    from jaxaudio.dsp.mel import log_mel
    from jaxaudio.nn import panns
    from jaxaudio.systems import captioning
    from jaxaudio.systems.captioning import critical
    from jaxaudio.text.decode.beams import DCASE

    enable_compile_cache()
    if work == "llama":
        return llama_decoding(clips)
    audio = 0.1 * np.random.default_rng(1).standard_normal((clips, 10 * WORKS[work]["rate"]), np.float32)
    if work.startswith("cnn"):
        config = panns.CNN10 if work == "cnn10" else panns.CNN14
        params = in_turns.random_weights(jax.eval_shape(lambda: panns.init(jax.random.key(0), config)))
        run = jax.jit(lambda p, x: panns.apply(p, config, log_mel(x, config.mel))[0])
        return lambda: jax.block_until_ready(run(params, audio))
    config = captioning.CNN10_CLOTHO
    params = in_turns.random_weights(jax.eval_shape(lambda: captioning.init(jax.random.key(0), config)))
    if work == "caption":
        hear = jax.jit(lambda p, x: captioning.encode(p, config, captioning.hear(config, x))[0]["memory"])
        return lambda: jax.block_until_ready(captioning.caption(params, config, hear(params, audio), WORDS, beam=DCASE))
    tx = optax.adam(1e-5)
    batch = {
        "audio": jnp.asarray(audio),
        "references_ids": jnp.asarray(np.random.default_rng(2).integers(0, config.words.vocab_size, (clips, 5, 20))),
        "references_mask": jnp.ones((clips, 5, 20), jnp.int32),
    }

    @jax.jit
    def step(params, opt, key):
        extra = {"batch_stats": params["batch_stats"]}
        lossy = jax.value_and_grad(critical.loss, has_aux=True)
        _, slopes = lossy(params["params"], extra, batch, key, config=config, length=WORDS)
        updates, opt = tx.update(slopes, opt, params["params"])
        return {**params, "params": optax.apply_updates(params["params"], updates)}, opt

    state = params, tx.init(params["params"])
    return lambda: jax.block_until_ready(step(*state, jax.random.key(0)))


def llama_decoding(prompts: int):
    """Ours of `LLAMA`, with random weights."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxaudio.text import llama
    from jaxaudio.text.decode import GREEDY, Rules, generate

    config = llama.Config(**LLAMA)
    params = in_turns.random_weights(jax.eval_shape(lambda: llama.init(jax.random.key(0), config)))
    ids = jnp.asarray(np.random.default_rng(1).integers(3, config.vocab_size, (prompts, PROMPT)))
    rules = Rules(length=SAID, least=SAID - 1, end=2)

    @jax.jit
    def run(params, ids):
        begun = llama.read(params, config, ids, jnp.ones_like(ids), rules.length)
        return generate(llama.decoder(params, config), *begun, rules, sampling=GREEDY).tokens

    return lambda: jax.block_until_ready(run(params, ids))


def original(work: str, clips: int, threads: int):
    """A function that runs PyTorch's once; its interpreter needs nothing of ours."""
    import heapq
    import math

    import torch
    from torch import nn
    from torch.nn.functional import avg_pool2d, dropout, log_softmax

    torch.manual_seed(0)
    torch.set_num_threads(threads)
    if work == "llama":
        from transformers import LlamaConfig, LlamaForCausalLM

        network = LlamaForCausalLM(LlamaConfig(**LLAMA, bos_token_id=1, eos_token_id=2)).eval()
        prompts = torch.randint(3, LLAMA["vocab_size"], (clips, PROMPT))

        def speak():
            with torch.no_grad():
                mask = torch.ones_like(prompts)
                return network.generate(
                    prompts, attention_mask=mask, do_sample=False, max_new_tokens=SAID, min_new_tokens=SAID
                )

        return speak
    captions = not work.startswith("cnn")
    hop, bins, mels = (512 if captions else 320), 513, 64

    class Sound(nn.Module):
        def __init__(self, widths):
            super().__init__()
            angle = 2 * math.pi * torch.arange(bins)[:, None] * torch.arange(1024) / 1024
            window = torch.hann_window(1024)
            self.basis = nn.Parameter((torch.cat([angle.cos(), angle.sin()]) * window)[:, None], requires_grad=False)
            self.filters = nn.Parameter(torch.rand(bins, mels) / bins, requires_grad=False)
            self.bn0 = nn.BatchNorm2d(mels)
            pairs = zip((1, *widths), widths)
            self.blocks = nn.ModuleList(
                nn.Sequential(
                    nn.Conv2d(a, b, 3, padding=1, bias=False),
                    nn.BatchNorm2d(b),
                    nn.ReLU(),
                    nn.Conv2d(b, b, 3, padding=1, bias=False),
                    nn.BatchNorm2d(b),
                    nn.ReLU(),
                )
                for a, b in pairs
            )
            self.fc1 = nn.Linear(widths[-1], 1024 if captions else widths[-1])
            self.head = nn.Linear(widths[-1], 527)

        def forward(self, x):
            x = nn.functional.pad(x[:, None], (512, 512), mode="reflect")
            x = nn.functional.conv1d(x, self.basis, stride=hop)
            power = x[:, :bins] ** 2 + x[:, bins:] ** 2
            x = 10 * torch.log10((power.transpose(1, 2) @ self.filters).clamp(min=1e-10))[:, None]
            x = self.bn0(x.transpose(1, 3)).transpose(1, 3)
            for i, block in enumerate(self.blocks):
                whole = i == 5 and not captions
                x = dropout(block(x), 0.2, self.training)
                x = x if whole else avg_pool2d(x, 2)
            x = x.mean(3)
            if captions:
                return torch.relu(self.fc1(x.transpose(1, 2)))
            return torch.sigmoid(self.head(torch.relu(self.fc1(x.amax(2) + x.mean(2)))))

    sound = Sound((64, 128, 256, 512, 1024, 2048) if work == "cnn14" else (64, 128, 256, 512)).eval()
    audio = 0.1 * torch.randn(clips, 10 * WORKS[work]["rate"])
    if not captions:

        def tag():
            with torch.no_grad():
                return sound(audio)

        return tag

    width, words, start, end = 128, 4367, 4365, 4366
    layer = nn.TransformerDecoderLayer(width, 4, 2048, 0.2, "gelu")
    decoder, out = nn.TransformerDecoder(layer, 2), nn.Linear(width, words)
    embedding, project = nn.Embedding(words, width), nn.Linear(1024, width)
    places = torch.randn(2000, 1, width)
    model = nn.ModuleList([sound, decoder, out, embedding, project]).eval()

    def encode():
        return torch.relu(project(sound(audio))).transpose(0, 1)

    def decode(memory, ids):
        x = embedding(ids.transpose(0, 1)) * math.sqrt(width) + places[: ids.shape[1]]
        mask = torch.triu(torch.full((len(x), len(x)), -math.inf), 1)
        return out(decoder(x, memory, tgt_mask=mask))

    def beam():
        """The likeliest by the mean of the logarithms, three at a time."""
        with torch.no_grad():
            memory, found = encode(), []
            for i in range(clips):
                own, live, done = memory[:, i : i + 1], [(0.0, [start])], []
                for _ in range(WORDS):
                    made = []
                    for total, ids in live:
                        shares = log_softmax(decode(own, torch.tensor([ids]))[-1, 0], -1)
                        best = torch.topk(shares, 3)
                        pairs = zip(best.values.tolist(), best.indices.tolist())
                        made += [(total + value, [*ids, word]) for value, word in pairs]
                    best = heapq.nlargest(3 - len(done), made, key=lambda one: one[0] / (len(one[1]) - 1))
                    done += [one for one in best if one[1][-1] == end]
                    live = [one for one in best if one[1][-1] != end]
                    if not live:
                        break
                found.append(max(done + live, key=lambda one: one[0] / (len(one[1]) - 1))[1])
            return found

    if work == "caption":
        return beam
    sound.requires_grad_(False)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-5)

    def step():
        model.eval()
        with torch.no_grad():
            memory, ids = encode(), torch.full((clips, 1), start)
            for _ in range(WORDS):
                ids = torch.cat([ids, decode(memory, ids)[-1].argmax(-1, keepdim=True)], 1)
        model.train()
        memory, ids, told = encode(), torch.full((clips, 1), start), []
        for _ in range(WORDS):
            shares = log_softmax(decode(memory, ids)[-1], -1)
            word = torch.multinomial(shares.exp(), 1)
            told.append(shares.gather(1, word))
            ids = torch.cat([ids, word], 1)
        optimizer.zero_grad()
        (-torch.cat(told, 1).sum(1) * 0.1).mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def main(o: Options) -> None:
    """Times every work and prints one line for each."""
    report = []
    for work in o.works.split(","):
        clips = o.clips or WORKS[work]["clips"]
        job = {"work": work, "clips": clips}
        jobs = {"ours": (sys.executable, job)}
        if o.reference_python:
            jobs["original"] = o.reference_python, {**job, "threads": o.threads}
        found = in_turns.measure(__file__, jobs, o.runs)
        mine = found["ours"]
        what = f"{clips} prompts" if work == "llama" else f"{clips} clip(s) of 10 s"
        line = f"{work}, {what}: {mine['seconds']:.3f} s, {mine['peak_gb']:.2f} GB"
        line += f", the first {mine['first']:.2f} s"
        if theirs := found.get("original"):
            line += f"; PyTorch {theirs['seconds']:.3f} s, {theirs['peak_gb']:.2f} GB"
            line += f"; {theirs['seconds'] / mine['seconds']:.2f} times as fast"
        print(line, flush=True)
        report.append({"what": work, "clips": clips, **found})
    in_turns.save(report, o.json)


if __name__ == "__main__" and not in_turns.worker({"ours": ours, "original": original}):
    import tyro

    main(tyro.cli(Options))
