"""Other libraries, kept from talking in the middle of our output."""

import contextlib
import logging
from collections.abc import Iterator

logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells of each product that it rounds


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and load reports of other libraries in the middle of ours; what matters in them is raised."""
    import warnings

    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
