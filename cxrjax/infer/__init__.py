"""What a finished run is used for, beside its page."""

from cxrjax.infer.synthesize import synthesize

__all__ = ["synthesize"]
