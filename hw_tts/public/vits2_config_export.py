"""A config of this project in the keys of the public MB-iSTFT-VITS2 configs."""

from collections.abc import Mapping
from typing import Any

from hw_tts.features.acoustic import VITS_SPECTROGRAM
from hw_tts.models.vits2.sizes import complete
from hw_tts.public.vits2_config import DECODER_KEYS, FEATURE_KEYS, MODEL_KEYS

# What the public program has no key for: our argument -> its value there.
_MODEL_FIXED = {
    "posterior_layers": 16,
    "n_flows": 4,
    "flow_layers": 4,
    "duration_channels": 256,
    "duration_dropout": 0.5,
    "bank": "public",
    "discriminator_periods": [2, 3, 5, 7, 11],
    "discriminator_channels": 1024,
}
_WEIGHTS_FIXED = ("duration", "adversarial", "feature_matching", "subband_stft", "adversarial_duration")


def revert(config: Mapping[str, Any], n_speakers: int, add_blank: bool) -> tuple[dict[str, Any], list[str]]:
    """What `public_config.convert` would make this config from.

    Args:
        config: complete, as checkpoints hold it, of a VITS2.
        n_speakers: rows of its table of speakers.
        add_blank: whether its text front end puts a blank between symbols.

    Returns:
        The public config, and a line for everything in ours that no public key can say.
    """
    model = complete(config["model"]["args"])
    data = {
        **{theirs: config["features"]["args"][ours] for theirs, ours in FEATURE_KEYS.items()},
        "add_blank": add_blank,
        "n_speakers": n_speakers if n_speakers > 1 else 0,
    }
    public = {"train": _train(config, model), "data": data, "model": _model(config, model)}
    return public, _lost(config, model, n_speakers)


def _train(config: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    losses, trainer = config["losses"], config["trainer"]
    optimizer = config["optimizers"]["generator"]["args"]
    train = {
        "seed": config["seed"],
        "epochs": trainer["epochs"] or 1,
        "learning_rate": optimizer["lr"],
        "betas": list(optimizer.get("betas", (0.8, 0.99))),
        "eps": optimizer.get("eps", 1e-9),
        "batch_size": config["data"]["train"]["batch_size"],
        "fp16_run": trainer["amp"] == "fp16",
        "lr_decay": _decay(config) or 1.0,
        "segment_size": model["segment_frames"] * config["features"]["args"]["hop_length"],
        "c_mel": losses["mel"]["weight"] if "mel" in losses else 0.0,
        "c_kl": losses["kl"]["weight"] if "kl" in losses else 0.0,
        "log_interval": trainer["log_every"],
    }
    if isinstance(trainer["eval_every"], int):  # not by epochs
        train["eval_interval"] = trainer["eval_every"]
    if "subband_stft" in losses:
        sizes = losses["subband_stft"]["args"]
        train |= {
            "fft_sizes": sizes["fft_sizes"],
            "hop_sizes": sizes["hop_sizes"],
            "win_lengths": sizes["window_sizes"],
        }
    return train


def _model(config: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{theirs: model[ours] for theirs, ours in MODEL_KEYS.items()},
        "use_mel_posterior_encoder": True,
        "use_transformer_flows": model["flow"] == "pre_conv2",
        "transformer_flow_type": "pre_conv2",
        "use_sdp": model["duration_predictor"] == "stochastic",
        "use_duration_discriminator": "adversarial_duration" in config["losses"],
        "duration_discriminator_type": "dur_disc_2",
        "use_spectral_norm": False,
        **{theirs: model["decoder"] == ours for theirs, ours in DECODER_KEYS.items()},
    }


def _lost(config: Mapping[str, Any], model: Mapping[str, Any], n_speakers: int) -> list[str]:
    features, losses = config["features"]["args"], config["losses"]
    fixed = {**_MODEL_FIXED, "condition_decoder": model["decoder"] == "hifigan" and n_speakers > 1}
    if model["decoder"] != "multi_band_istft":  # which alone has a filter bank
        del fixed["bank"]
    found = [("model.args", model, fixed), ("features.args", features, VITS_SPECTROGRAM)]
    found += [(f"losses.{key}", losses[key], {"weight": 1.0}) for key in _WEIGHTS_FIXED if key in losses]
    lost = [
        f"{section}.{key} is {ours[key]!r}, the public program always has {value!r}"
        for section, ours, table in found
        for key, value in table.items()
        if ours[key] != value
    ]
    if config["optimizers"]["generator"]["type"] != "AdamW":
        lost.append("optimizers.generator.type: the public program has AdamW")
    if _decay(config) is None:
        lost.append("optimizers.generator.scheduler: the public program has ExponentialLR by epochs; written as none")
    if "mel" in losses and features["f_max"] != losses["mel"]["args"]["f_max"]:
        lost.append("losses.mel.args.f_max: the public program has one mel_fmax; written as that of the features")
    return lost


def _decay(config: Mapping[str, Any]) -> float | None:
    """The factor by which the rate falls after each epoch; None where it does not fall so."""
    schedule = config["optimizers"]["generator"]["scheduler"]
    if schedule is None or schedule["type"] != "ExponentialLR" or schedule["every"] != "epoch":
        return None
    return float(schedule["args"]["gamma"])
