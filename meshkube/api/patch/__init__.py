"""The three kinds of patch that the API takes: JSON, merge and strategic merge.

Each is a pure function of a document and a patch: neither is changed, and the result shares
nothing with them, so that it may be changed in place. A patch that makes no sense is an `ApiError`
400, one that does not fit the document 422.
"""

from meshkube.api.patch.json_patch import json_patch
from meshkube.api.patch.merge import merge_patch
from meshkube.api.patch.strategic import strategic_merge

__all__ = ["json_patch", "merge_patch", "strategic_merge"]
