"""What a finished run is used for, beside its page."""

from cxrjax.infer.synthesize import Made, synthesize

__all__ = ["Made", "synthesize"]
