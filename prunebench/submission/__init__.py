"""Verification of results that others contribute: what a folder says must follow from what is in it.

``folder`` looks at the files, ``manifest`` at the contribution's own description, ``records`` at each record,
``values`` at its figures against its arrays, ``settings`` at records against the suite, and ``fresh`` measures again
from saved weights. Nothing of a submission is executed: no plugin, no pickle, no code of a model, no template.
"""

from typing import TYPE_CHECKING

from prunebench.lazy import lazy_names

if TYPE_CHECKING:
    from prunebench.submission.checked import Checked, check_submission

__all__ = ["Checked", "check_submission"]

__getattr__, __dir__ = lazy_names(__name__, {"checked": "Checked check_submission"})
