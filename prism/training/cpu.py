"""The loss of a training on a CPU, with its logits made once."""

from typing import Any

from torch.nn import functional as F

MOST = 1 << 27  # logits held at once, half a GB in float32; their gradients come on top


def on_cpu(sft: type[Any]) -> type[Any]:
    """TRL's SFTTrainer `sft` with the loss as transformers computes it, wherever a batch's logits are few.

    Without Triton TRL folds the logits of all positions tile by tile in torch, makes them once more in the backward
    pass, and measures entropy and accuracy, which nobody reads here: small models spend half of their time on it.
    """

    class OnCpu(sft):  # type: ignore[misc]
        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            plain = self.args.loss_type == "nll" and not (
                self.label_smoother or self.compute_loss_func or self.aux_loss_enabled
            )
            vocabulary = self.model.config.get_text_config().vocab_size
            if return_outputs or not plain or inputs["input_ids"].numel() * vocabulary > MOST:
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            labels = inputs["labels"][:, 1:].flatten()
            others = {name: value for name, value in inputs.items() if name != "labels"}
            logits = model(**others, use_cache=False).logits[:, :-1].flatten(0, 1).float()
            total = F.cross_entropy(logits, labels, reduction="sum")
            if num_items_in_batch is None:
                return total / (labels != -100).sum().clamp(min=1)
            across = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
            return total * across / num_items_in_batch

    return OnCpu
