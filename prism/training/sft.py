"""Fine-tune on encoded samples with TRL's SFTTrainer."""

import copy
import tempfile
from collections.abc import Sequence

import numpy as np

from prism.data import Encoded
from prism.errors import ConfigError
from prism.model import Model

IGNORED = -100


def fine_tune(
    model: Model, samples: Sequence[Encoded], *, epochs: int = 2, rate: float = 5e-4, batch: int = 8, seed: int = 0
) -> Model:
    """A copy of `model`, all of its weights trained on the response tokens of `samples`; the original stays as it is.

    Samples carry scoring's own token ids and response mask. TRL's defaults that would change them are off: no
    truncation, no packing, no mixed precision.

    Raises:
        ConfigError: TRL is not installed.
    """
    try:
        from datasets import Dataset
        from transformers.trainer_callback import PrinterCallback
        from trl import SFTConfig, SFTTrainer
    except ImportError as error:
        raise ConfigError("training needs TRL: pip install 'prism-select[train]'") from error

    network = copy.deepcopy(model.network).requires_grad_(True)
    rows = [{"input_ids": s.ids, "labels": np.where(s.response, s.ids, IGNORED)} for s in samples]
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            output_dir=folder,
            num_train_epochs=epochs,
            learning_rate=rate,
            per_device_train_batch_size=batch,
            lr_scheduler_type="cosine",
            warmup_steps=0.1,
            seed=seed,
            max_length=None,
            packing=False,
            bf16=False,
            fp16=False,
            gradient_checkpointing=False,
            use_cpu=model.device.type == "cpu",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
            dataloader_pin_memory=False,
            shuffle_dataset=True,
        )
        tokenizer = copy.deepcopy(model.tokenizer)
        trainer = SFTTrainer(
            model=network, args=settings, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return Model(network, model.tokenizer, model.which)
