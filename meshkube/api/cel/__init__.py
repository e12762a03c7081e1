"""The Common Expression Language, as Kubernetes uses it in `x-kubernetes-validations`.

    program = compile_rule("self.min <= self.max", {"self": schema})
    program.run({"self": {"min": 1, "max": 2}}, Budget(100_000))

Source: the language definition of google/cel-spec and the Kubernetes documents, "Common Expression
Language in Kubernetes". Why this is our own: see docs/custom-resources.md.
"""

from meshkube.api.cel.compiler import Program, compile_rule
from meshkube.api.cel.values import Budget, CelError, CompileError, OutOfBudget

__all__ = ["Budget", "CelError", "CompileError", "OutOfBudget", "Program", "compile_rule"]
