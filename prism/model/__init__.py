"""Load a causal LM (and adapter), choose the parameters that carry gradients, fingerprint it."""

from prism.model.load import load_model
from prism.model.losses import sample_losses, token_losses
from prism.model.model import Model
from prism.model.parameters import choose_parameters
from prism.model.places import Places, find_model

__all__ = ["Model", "Places", "choose_parameters", "find_model", "load_model", "sample_losses", "token_losses"]
