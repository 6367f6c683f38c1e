"""What `python -m hw_base.doctor` and every run look at before training: data, config, model, the machine."""
