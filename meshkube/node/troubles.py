"""What keeps a pod's containers from starting, and when each is tried again. Pure: times are
arguments."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from datetime import datetime, timedelta

from meshkube.node.runtime import SANDBOX
from meshkube.node.view import Trouble

FIRST_PULL_RETRY = 10.0
FIRST_SANDBOX_RETRY = 1.0
RETRY = 10.0
LONGEST_RETRY = 300.0
# How long a failure shows as itself before it shows as the wait for the next try: a failed pull as
# ErrImagePull, then ImagePullBackOff; a failed hook as PostStartHookError, then CrashLoopBackOff.
FRESH = timedelta(seconds=2)
# What a new or changed object of the API may have put right.
OF_REFERENCES = ("CreateContainerConfigError", "FailedMount")
POST_START = "PostStartHookError"
# How a pull has failed that is tried again, later each time.
_FAILED = ("ErrImagePull", "RegistryUnavailable")
_PULLING = (*_FAILED, "ImagePullBackOff")
# What an image that came to the node may have put right.
OF_IMAGES = (*_PULLING, "ErrImageNeverPull")


class Troubles:
    """By container name, or `SANDBOX`."""

    def __init__(self) -> None:
        self.by_name: dict[str, Trouble] = {}

    def note(self, name: str, reason: str, message: str, now: datetime) -> None:
        """A try failed. Pulls and sandboxes wait twice as long each time."""
        if reason == "RunContainerError":
            # The record of the failed attempt carries its own back-off.
            self.by_name.pop(name, None)
            return
        if reason == POST_START:
            # So here; but that record cannot tell why it ended.
            self.by_name[name] = Trouble(reason, message, now + FRESH, FRESH.total_seconds())
            return
        before = self.by_name.get(name)
        delay = RETRY
        if reason in _FAILED:
            again = before is not None and before.reason in _PULLING
            delay = before.delay * 2 if before is not None and again else FIRST_PULL_RETRY
        elif name == SANDBOX:
            delay = before.delay * 2 if before is not None else FIRST_SANDBOX_RETRY
        delay = min(delay, LONGEST_RETRY)
        self.by_name[name] = Trouble(reason, message, now + timedelta(seconds=delay), delay)

    def forget(self, name: str) -> None:
        self.by_name.pop(name, None)

    def hurry(self, now: datetime, reasons: Container[str] = OF_REFERENCES) -> None:
        """What the pod needs has come or changed: who waits for such is tried now."""
        for name, trouble in self.by_name.items():
            if trouble.reason in reasons:
                self.by_name[name] = replace(trouble, retry_at=now)

    def age(
        self, now: datetime, busy: Container[str], images: dict[str, str]
    ) -> tuple[list[str], datetime | None]:
        """Turns failed pulls that are no longer fresh into ones that wait (`images` by container).
        Returns the names that turned, and when the next one will."""
        turned: list[str] = []
        following: datetime | None = None
        for name, trouble in list(self.by_name.items()):
            if trouble.reason == POST_START and trouble.retry_at <= now:
                del self.by_name[name]
            if trouble.reason not in _FAILED or name in busy:
                continue
            due = trouble.retry_at - timedelta(seconds=trouble.delay) + FRESH
            if due > now:
                following = due if following is None else min(following, due)
                continue
            said = f"{trouble.reason}: {trouble.message}"
            message = f"{back_off_message(images.get(name, ''))}: {said}"
            self.by_name[name] = replace(trouble, reason="ImagePullBackOff", message=message)
            turned.append(name)
        return turned, following


def back_off_message(image: str) -> str:
    return f'Back-off pulling image "{image}"'
