"""Checkpoints of the public VITS2 programs, both ways."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hw_base import seeding
from hw_base.config.resolve import as_dict, build, resolve
from hw_base.config.schema import Config
from hw_base.errors import CheckpointError, ConfigError
from hw_base.registry import MODELS, TEXT_ENCODERS
from hw_base.texts.files import from_json
from hw_tts.models.vits2 import VITS2
from hw_tts.models.vits2.sizes import complete
from hw_tts.public import vits2_config as public_config
from hw_tts.public import vits2_config_export as public_config_back
from hw_tts.public import vits2_weights as public_checkpoint
from hw_tts.public.vits2_weights import PREFIXES, PublicFile, public_name

log = logging.getLogger(__name__)


def import_files(
    files: Sequence[Path], original: Mapping[str, Any], name: str, symbols: list[str] | None = None
) -> dict[str, Any]:
    """A checkpoint of this project out of public ones.

    Args:
        files: ``G_<step>.pth`` and, where there are, ``D_<step>.pth`` and ``DUR_<step>.pth``, known by what they hold.
        original: the public config.
        name: of the run.
        symbols: those of the ids 1, 2, ...; None takes the public table of the checkpoint's size.

    Raises:
        CheckpointError: a file is hostile, damaged or of another kind; every tensor that is missing, unexpected or of
            another shape than the config says.
        ConfigError: everything in the config that this model does not offer.
    """
    found = public_checkpoint.read(files)
    generator = found["generator"]
    n_tokens = len(generator.weights["enc_p.emb.weight"])
    if symbols is not None and len(symbols) + 1 != n_tokens:
        raise ConfigError(
            f"--symbols: {len(symbols)} symbols and the padding do not fit the checkpoint's table of {n_tokens}"
        )
    tree = public_config.convert(original, name, n_tokens, symbols)
    if "discriminator" in found:  # the public configs do not say how wide it is
        widest = found["discriminator"].weights["discriminators.0.conv_post.weight_v"]
        tree["model"]["args"]["discriminator_channels"] = widest.shape[1]
    config = resolve(tree)
    for key in public_config.left_out(original):
        log.info("not taken over from the config: %s", key)
    n_speakers = public_checkpoint.n_speakers_of(generator)
    stated = original["data"].get("n_speakers", 0)
    if n_speakers != max(1, stated):
        log.warning("%s has %d speakers, the config says %d: the file is followed", generator.path, n_speakers, stated)
        original = {**original, "data": {**original["data"], "n_speakers": n_speakers if n_speakers > 1 else 0}}
    with seeding.isolated(config.seed):
        model = _model(config, n_tokens, n_speakers)
        rng = seeding.rng_state()
    groups = model.parameter_groups()
    for group in groups.keys() - found.keys():
        log.warning(
            "no file of the %s (%s_<step>.pth): it starts from scratch", group.replace("_", " "), PREFIXES[group]
        )
    public_checkpoint.load(groups, found)
    return {
        "config": as_dict(config),
        "text_encoder": _symbol_state(config),
        "task": {"speakers": [str(speaker) for speaker in range(n_speakers)]},
        "model": model.state_dict(),
        "optimizations": {key: _optimization(key, network, found.get(key), config) for key, network in groups.items()},
        "step": public_checkpoint.step_of(files),
        "epoch": generator.epoch,
        "batch": 0,
        "evaluated_at": -1,
        "monitor": {"best": None, "best_step": 0, "stale": 0, "ranking": []},
        "guard": {"skipped": 0, "in_row": {}},
        "window": [{"sums": {}, "counts": {}}],
        "rng": [rng],
        "writers": {},
        "original_config": dict(original),
    }


def _model(config: Config, n_tokens: int, n_speakers: int) -> VITS2:
    features = config.features.args
    given = {
        "n_mels": features["n_mels"],
        "n_tokens": n_tokens,
        "n_speakers": n_speakers,
        "hop_length": features["hop_length"],
    }
    model: VITS2 = build("model", config.model, MODELS, **given)
    return model


def _symbol_state(config: Config) -> dict[str, Any]:
    state: dict[str, Any] = build("text_encoder", config.text_encoder, TEXT_ENCODERS).state_dict()
    return state


def _optimization(group: str, network: nn.Module, file: PublicFile | None, config: Config) -> dict[str, Any]:
    """An optimizer's state with the moments in this model's order of parameters."""
    args = config.optimizers[group].args
    lr = float(args["lr"]) if file is None or file.learning_rate is None else file.learning_rate
    if file is None or file.state is None:
        if file is not None:
            log.warning("%s: no moments of the optimizer, which starts from scratch", file.path)
        fresh = torch.optim.AdamW(network.parameters(), **{**args, "lr": lr}).state_dict()
        fresh["param_groups"][0]["initial_lr"] = lr
        return {"lr": lr, "optimizer": fresh, "scheduler": _schedule(0, lr), "scaler": None}
    place = {public_name(name): index for index, (name, _) in enumerate(network.named_parameters())}
    order = [place[name] for name in file.weights]
    moments = {order[number]: value for number, value in file.state.items()}
    groups = [{**file.settings, "params": list(range(len(place)))}]
    state = {"state": dict(sorted(moments.items())), "param_groups": groups}
    return {"lr": lr, "optimizer": state, "scheduler": _schedule(file.epoch, file.settings["lr"]), "scaler": None}


def _schedule(epoch: int, rate: float) -> dict[str, Any]:
    return {"last_epoch": epoch, "_step_count": epoch + 1, "_last_lr": [rate]}


def export(state: Mapping[str, Any], folder: Path, source: Path | None = None) -> list[Path]:
    """Write a checkpoint of this project as the public program's files.

    Args:
        state: the checkpoint.
        folder: where ``G_<step>.pth``, ``D_<step>.pth``, ``DUR_<step>.pth``, ``config.json`` and ``symbols.json`` go.
        source: where the checkpoint lies, for messages.

    Raises:
        CheckpointError: it is of another model.
        ConfigError: its config is not accepted, or the folder cannot be written.
    """
    found = state["config"].get("model", {}).get("type")
    if found != "VITS2":
        raise CheckpointError(f"{source or folder}: only a checkpoint of VITS2 can be exported, found one of {found}")
    config = resolve(state["config"], checkpoint=source)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for group, prefix in PREFIXES.items():
            written.append(folder / f"{prefix}_{state['step']}.pth")
            torch.save(_public_content(group, state, config), written[-1])
        texts = {"config.json": _public_config(state, config), "symbols.json": _public_symbols(state)}
        for name, content in texts.items():
            written.append(folder / name)
            written[-1].write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"--export {folder}: cannot be written: {error}") from None
    return written


def _public_config(state: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """The config that an imported checkpoint came with, or one for what was trained here."""
    if "original_config" in state:
        return dict(state["original_config"])
    speakers, add_blank = state["task"]["speakers"], state["text_encoder"]["add_blank"]
    public, lost = public_config_back.revert(as_dict(config), len(speakers), add_blank)
    for line in lost:
        log.warning("config.json: %s", line)
    return public


def _public_symbols(state: Mapping[str, Any]) -> list[str]:
    """The program's table of symbols, as ``--symbols`` reads it: the padding comes first."""
    return ["_", *state["text_encoder"]["symbols"]]


def _public_content(group: str, state: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """What the public program saves of one network."""
    model = config.model.args
    weights = {
        public_name(name.removeprefix(f"{group}.")): value
        for name, value in state["model"].items()
        if name.startswith(f"{group}.")
    }
    optimization = state["optimizations"][group]
    optimizer = optimization["optimizer"]
    if [len(settings["params"]) for settings in optimizer["param_groups"]] != [len(weights)]:
        log.warning("%s: not all parameters were trained, or at several rates; its moments are left out", group)
        optimizer = None
    if group == "generator" and complete(model)["decoder"] == "multi_stream_istft":
        weights[public_checkpoint.UPDOWN] = public_checkpoint.updown_filter(model["subbands"])
    return {
        "model": weights,
        "iteration": state["epoch"],
        "optimizer": optimizer,
        "learning_rate": optimization["lr"],
    }


def read_symbols(path: Path) -> list[str]:
    """A table of symbols, without its first one, the padding.

    Args:
        path: a JSON list, or one symbol a line; a space is a symbol.

    Raises:
        ConfigError: it cannot be read, or is no list of strings.
    """
    try:
        text = path.read_text(encoding="utf-8")
        symbols = from_json(text) if text.lstrip().startswith("[") else text.removesuffix("\n").split("\n")
    except (OSError, ValueError) as error:
        raise ConfigError(f"--symbols {path}: cannot be read: {error}") from None
    if not isinstance(symbols, list) or not all(isinstance(symbol, str) and symbol for symbol in symbols):
        raise ConfigError(f"--symbols {path}: expected a list of symbols, none of them empty")
    return symbols[1:]
