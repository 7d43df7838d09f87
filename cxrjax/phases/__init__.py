"""The phases of a run: which films and members each trains on, where its weights begin, and its training."""

from cxrjax.phases.context import Context
from cxrjax.phases.phase import check, check_films, run

__all__ = ["Context", "check", "check_films", "run"]
