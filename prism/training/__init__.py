"""SFT through TRL, on the very tokens that were scored."""

from prism.training.sft import fine_tune

__all__ = ["fine_tune"]
