"""A procedural frontal chest film: seeded anatomy, any findings at any severity, its healthy twin and exact masks."""

from cxrjax.data.phantom.render import Phantom, render

__all__ = ["Phantom", "render"]
