"""What speech recognition and speech synthesis share: registries, configs, data, the training loop, checkpoints.

Import from the modules: ``hw_base.trained.load`` opens a checkpoint, ``hw_base.config.resolve.load`` a config;
``hw_base.registry`` holds what configs may name; ``hw_base.task.BaseTask``, ``hw_base.nn.model.BaseModel``,
``hw_base.metrics.BaseMetric``, ``hw_base.data.dataset.BaseDataset`` and ``hw_base.training.trainer.BaseTrainer`` are
what one's own classes are subclasses of; ``hw_base.runs.experiment.Experiment`` builds the parts of a config. Nothing
is imported here, so that a program loads only what it uses.

Letters of shapes: B batch, S samples, T frames, L tokens, F feature bins, D width, V vocabulary, C channels.
"""
