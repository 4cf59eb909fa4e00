"""JSON Schema of policies and suites, for editors: names of keys, types of values, required keys.

It is generated from the records, so it does not contain checks across several records, and it describes a whole
policy: for a policy that `extends` another, use `policy check`. To use the schema, begin a file with:

    # yaml-language-server: $schema=../policies/schema/policy.v1.schema.json
"""

from __future__ import annotations

from typing import Any

from robustness_gate.records.encode import Json
from robustness_gate.records.policy import Policy
from robustness_gate.records.suite import Suite

CHILD = ("schema", "id", "version", "extends")


def policy_schema() -> dict[str, Json]:
    """The schema of `robustness-gate/policy/v1`. A file with `extends` may omit its parent's top-level keys."""
    made: dict[str, Any] = Policy.model_json_schema(by_alias=True)
    whole = made.pop("required")
    made["if"] = {"required": ["extends"]}
    made["then"] = {"required": list(CHILD)}
    made["else"] = {"required": whole}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def suite_schema() -> dict[str, Json]:
    """The schema of `robustness-gate/suite/v1`."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Suite.model_json_schema(by_alias=True)}
