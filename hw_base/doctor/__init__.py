"""What is wrong with data, config and model before training: ``python -m hw_base.doctor -c CONFIG``."""
