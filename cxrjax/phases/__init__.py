"""The phases of a run: which films and members each trains on, where its weights begin, and its training."""

from cxrjax.phases.bind import Bound, bind
from cxrjax.phases.context import Context
from cxrjax.phases.phase import check, check_films, run

__all__ = ["Bound", "Context", "bind", "check", "check_films", "run"]
