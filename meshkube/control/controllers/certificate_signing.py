"""Signs approved certificate requests with the cluster's CA."""

from __future__ import annotations

import base64

from meshkube import csr
from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.control.certificates import conditions, signers
from meshkube.control.loop import Context, Controller

REQUEST = kinds.CERTIFICATE_SIGNING_REQUEST


async def reconcile(context: Context, key: str) -> float | None:
    request = context.caches.of(REQUEST).get(key)
    sign = context.settings.sign
    if request is None or sign is None or not waits(request):
        return None
    spec = request["spec"]
    usages = spec.get("usages") or []
    try:
        pem = conditions.pem(request)
        why = signers.refusal(spec["signerName"], csr.read(pem), usages)
        if why:
            raise csr.BadRequest(why)
        certificate = sign(pem, usages, spec.get("expirationSeconds"))
    except csr.BadRequest as error:
        changed = conditions.with_condition(
            request, conditions.FAILED, "SignerValidationFailure", str(error), context.clock.now()
        )
    else:
        changed = meta.copy(request)
        changed["status"]["certificate"] = base64.b64encode(certificate).decode()
    await context.client.update(REQUEST, changed, subresource="status")
    return None


def waits(request: Object) -> bool:
    """Approved, ours to sign, and neither signed nor failed."""
    return (
        not meta.deleting(request)
        and signers.known(request["spec"].get("signerName") or "")
        and conditions.condition(request, conditions.APPROVED) is not None
        and conditions.condition(request, conditions.FAILED) is None
        and not conditions.certificate(request)
    )


CONTROLLER = Controller(
    name="csrsigning",
    kind=REQUEST,
    component="certificate-controller",
    reconcile=reconcile,
    workers=2,
)
