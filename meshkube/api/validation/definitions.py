"""CustomResourceDefinitions: the rules are `api.custom.review`'s."""

from __future__ import annotations

from meshkube.api.types import Object
from meshkube.api.validation.faults import Faults

# Imported when the first definition comes: that room judges values by this one's faults, and most
# clusters start with no definition to judge.


def validate_definition(crd: Object) -> Faults:
    from meshkube.api.custom import review

    return review.validate(crd)


def validate_definition_update(crd: Object, old: Object) -> Faults:
    from meshkube.api.custom import review

    return review.validate_update(crd, old)


def validate_definition_status(crd: Object, old: Object) -> Faults:
    from meshkube.api.custom import review

    return review.validate_status(crd, old)
