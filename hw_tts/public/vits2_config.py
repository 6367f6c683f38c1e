"""The keys of the public MB-iSTFT-VITS2 configs as a config of this project."""

from collections.abc import Mapping
from typing import Any

from hw_base.errors import ConfigError
from hw_tts.features.acoustic import VITS_SPECTROGRAM

# Original key -> argument of the model, as it stands.
MODEL_KEYS = {
    "inter_channels": "inter_channels",
    "hidden_channels": "hidden_channels",
    "filter_channels": "filter_channels",
    "gin_channels": "speaker_channels",
    "n_heads": "n_heads",
    "n_layers": "n_layers",
    "kernel_size": "kernel_size",
    "p_dropout": "dropout",
    "resblock": "resblock",
    "resblock_kernel_sizes": "resblock_kernel_sizes",
    "resblock_dilation_sizes": "resblock_dilations",
    "upsample_rates": "upsample_rates",
    "upsample_initial_channel": "upsample_initial_channels",
    "upsample_kernel_sizes": "upsample_kernel_sizes",
    "gen_istft_n_fft": "istft_n_fft",
    "gen_istft_hop_size": "istft_hop_length",
    "subbands": "subbands",
    "use_spk_conditioned_encoder": "speaker_in_text_encoder",
    "use_noise_scaled_mas": "search_noise",
}
FEATURE_KEYS = {
    "sampling_rate": "sample_rate",
    "filter_length": "n_fft",
    "hop_length": "hop_length",
    "win_length": "win_length",
    "n_mel_channels": "n_mels",
    "mel_fmin": "f_min",
    "mel_fmax": "f_max",
}
DECODER_KEYS = {
    "mb_istft_vits": "multi_band_istft",
    "ms_istft_vits": "multi_stream_istft",
    "istft_vits": "istft",
}
SPLITS = {"training_files": "train", "validation_files": "val", "test_files": "test"}
# Keys that were looked at below; the rest is reported.
_READ = {
    "train": {
        "seed",
        "epochs",
        "learning_rate",
        "betas",
        "eps",
        "batch_size",
        "fp16_run",
        "lr_decay",
        "segment_size",
        "c_mel",
        "c_kl",
        "fft_sizes",
        "hop_sizes",
        "win_lengths",
        "eval_interval",
        "log_interval",
    },
    "data": {"add_blank", "n_speakers", "use_mel_posterior_encoder", "data_folder_prefix", *FEATURE_KEYS, *SPLITS},
    "model": {
        "use_mel_posterior_encoder",
        "use_transformer_flows",
        "transformer_flow_type",
        "use_duration_discriminator",
        "duration_discriminator_type",
        "use_spectral_norm",
        "use_sdp",
        *MODEL_KEYS,
        *DECODER_KEYS,
    },
}
# What is computed with here: key -> the smallest value; the rest is checked as part of our config.
_NUMBERS: dict[str, dict[str, float]] = {
    "train": {"segment_size": 1, "learning_rate": 0, "c_mel": 0, "c_kl": 0},
    "data": {"hop_length": 1, "n_speakers": 0, "mel_fmin": 0, "mel_fmax": 0},
}
_WHOLE = {"segment_size", "hop_length", "n_speakers"}
_NULLABLE = {"mel_fmin", "mel_fmax"}
# Symbol tables by their size, the padding included.
TABLES = {178: "vits", 205: "mb_istft_vits2"}


def convert(original: Mapping[str, Any], name: str, n_tokens: int, symbols: list[str] | None) -> dict[str, Any]:
    """A config of this project, not yet checked.

    Args:
        original: the public config, with its sections ``train``, ``data`` and ``model``.
        name: of the run.
        n_tokens: rows of the checkpoint's table of symbols.
        symbols: those of the ids 1, 2, ...; None takes the public table of this size.

    Raises:
        ConfigError: everything in it that this model does not offer, one line each.
    """
    train, data, model = (_section(original, section) for section in ("train", "data", "model"))
    problems = _problems(train, data, model) + _number_problems({"train": train, "data": data})
    if symbols is None and n_tokens not in TABLES:
        problems.append(f"no public table has {n_tokens} symbols; give the program's with --symbols FILE")
    if problems:
        raise ConfigError("\n".join(problems))
    features = {ours: data[theirs] for theirs, ours in FEATURE_KEYS.items() if theirs in data}
    features["f_min"] = float(features.get("f_min") or 0.0)
    return {
        "task": "tts",
        "name": name,
        "seed": train.get("seed", 1234),
        "data": _data(train, data),
        "text_encoder": {
            "type": "IPAFrontEnd",
            "args": {"table": symbols or TABLES[n_tokens], "add_blank": data.get("add_blank", True)},
        },
        "features": {"type": "TTSFeatures", "args": {**features, **VITS_SPECTROGRAM}},
        "model": {"type": "VITS2", "args": _model(train, data, model)},
        "losses": _losses(train, data, model),
        "optimizers": _optimizers(train),
        "trainer": {
            "type": "VITS2Trainer",
            "epochs": train.get("epochs", 1),
            "amp": "fp16" if train.get("fp16_run") else "off",
            **({"log_every": train["log_interval"]} if "log_interval" in train else {}),
            **({"eval_every": train["eval_interval"]} if "eval_interval" in train else {}),
        },
    }


def left_out(original: Mapping[str, Any]) -> list[str]:
    """Keys of a public config that have no counterpart here, ``section.key``."""
    known = {section: set(keys) for section, keys in _READ.items()}
    return [
        f"{section}.{key}"
        for section, keys in original.items()
        for key in (keys if isinstance(keys, Mapping) else ())
        if key not in known.get(section, set())
    ]


def _section(original: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = original.get(name, {})
    if not isinstance(found, Mapping):
        raise ConfigError(f"{name}: expected a mapping of keys, found {found!r}")
    return dict(found)


def _number_problems(sections: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Keys that should be numbers and are none."""
    problems = []
    for section, smallest in _NUMBERS.items():
        for key in smallest.keys() & sections[section].keys():
            value = sections[section][key]
            if value is None and key in _NULLABLE:
                continue
            kinds = (int,) if key in _WHOLE else (int, float)
            if not isinstance(value, kinds) or isinstance(value, bool) or value < smallest[key]:
                kind = "a whole number" if key in _WHOLE else "a number"
                problems.append(f"{section}.{key}: expected {kind} from {smallest[key]:g} on, found {value!r}")
    return sorted(problems)


def _problems(train: dict[str, Any], data: dict[str, Any], model: dict[str, Any]) -> list[str]:
    required = [("data", data, key) for key in ("sampling_rate", "filter_length", "hop_length", "n_mel_channels")]
    required += [("train", train, "segment_size")]
    found = [f"{section}.{key}: required, but missing" for section, keys, key in required if key not in keys]
    if not (model.get("use_mel_posterior_encoder") or data.get("use_mel_posterior_encoder")):
        found.append("model.use_mel_posterior_encoder: false, a linear spectrogram, is not offered")
    if model.get("use_transformer_flows") and model.get("transformer_flow_type") != "pre_conv2":
        kind = model.get("transformer_flow_type")
        found.append(f"model.transformer_flow_type: only pre_conv2 is offered, found {kind!r}")
    if model.get("use_duration_discriminator") and model.get("duration_discriminator_type") != "dur_disc_2":
        kind = model.get("duration_discriminator_type")
        found.append(f"model.duration_discriminator_type: only dur_disc_2 is offered, found {kind!r}")
    if model.get("use_spectral_norm"):
        found.append("model.use_spectral_norm: true is not offered")
    if sum(bool(model.get(key)) for key in DECODER_KEYS) > 1:
        found.append(f"model: only one of {', '.join(DECODER_KEYS)} can be true")
    return found


def _data(train: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    splits = {ours: data[theirs] for theirs, ours in SPLITS.items() if data.get(theirs)}
    root = {"root": data["data_folder_prefix"]} if data.get("data_folder_prefix") else {}
    return {
        name: {
            "datasets": [{"type": "FileList", "args": {"path": path, **root}}],
            "batch_size": train.get("batch_size", 32),
        }
        for name, path in (splits or {"train": "filelists/train.txt"}).items()
    }


def _model(train: dict[str, Any], data: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    decoder = next((ours for theirs, ours in DECODER_KEYS.items() if model.get(theirs)), "hifigan")
    return {
        **{ours: model[theirs] for theirs, ours in MODEL_KEYS.items() if theirs in model},
        "speaker_in_text_encoder": bool(model.get("use_spk_conditioned_encoder", False)),
        "search_noise": bool(model.get("use_noise_scaled_mas", False)),
        "flow": "pre_conv2" if model.get("use_transformer_flows") else "plain",
        "duration_predictor": "stochastic" if model.get("use_sdp", True) else "deterministic",
        "decoder": decoder,
        "condition_decoder": decoder == "hifigan" and bool(model.get("gin_channels")),
        "bank": "public",
        "segment_frames": train["segment_size"] // data["hop_length"],
    }


def _losses(train: dict[str, Any], data: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    losses: dict[str, Any] = {
        "mel": {"type": "WaveformMelLoss", "weight": float(train.get("c_mel", 45)), "args": {"f_max": None}},
        "kl": float(train.get("c_kl", 1.0)),
        "duration": 1.0,
        "adversarial": 1.0,
        "feature_matching": 1.0,
    }
    if data.get("mel_fmax") is not None:
        losses["mel"]["args"]["f_max"] = float(data["mel_fmax"])
    if model.get("mb_istft_vits"):
        sizes = {"fft_sizes": "fft_sizes", "hop_sizes": "hop_sizes", "win_lengths": "window_sizes"}
        args = {ours: train[theirs] for theirs, ours in sizes.items() if theirs in train}
        losses["subband_stft"] = {"type": "SubbandSTFTLoss", "args": args}
    if model.get("use_duration_discriminator"):
        losses["adversarial_duration"] = 1.0
    return losses


def _optimizers(train: dict[str, Any]) -> dict[str, Any]:
    args = {
        "lr": float(train.get("learning_rate", 2e-4)),
        "betas": train.get("betas", [0.8, 0.99]),
        "eps": float(train.get("eps", 1e-9)),
    }
    schedule = {"type": "ExponentialLR", "args": {"gamma": train.get("lr_decay", 0.999875)}, "every": "epoch"}
    groups = ("duration_discriminator", "discriminator", "generator")
    return {group: {"type": "AdamW", "args": args, "scheduler": schedule} for group in groups}
