"""Custom resources: what a CustomResourceDefinition says of its objects, made executable.

    definition.py   the definition as a whole: its versions, its kinds
    structural.py   the tree of one schema, which all below walk
    pruning.py      unknown fields out · defaulting.py  defaults in · values.py  faults of values
    columns.py      printed columns · jsonpath.py  the paths that columns and `scale` use
    names.py        accepted names, conditions · review.py  what a definition itself may say
    rules.py, cel/  `x-kubernetes-validations`

Pure, and compiled on first use: a definition that nobody uses costs its stored bytes.
"""
