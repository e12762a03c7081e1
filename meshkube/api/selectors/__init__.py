"""Label and field selectors: `app=web,tier in (a,b)`, `spec.nodeName=n1`."""

from meshkube.api.selectors.fields import (
    FieldSelector,
    Term,
    check_fields,
    field_values,
    parse_fields,
    supported_fields,
)
from meshkube.api.selectors.labels import (
    EVERYTHING,
    NOTHING,
    LabelSelector,
    Requirement,
    from_label_selector,
    from_labels,
    parse_labels,
)

__all__ = [
    "EVERYTHING",
    "NOTHING",
    "FieldSelector",
    "LabelSelector",
    "Requirement",
    "Term",
    "check_fields",
    "field_values",
    "from_label_selector",
    "from_labels",
    "parse_fields",
    "parse_labels",
    "supported_fields",
]
