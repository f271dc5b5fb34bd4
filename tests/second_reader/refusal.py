"""How opening an envelope fails."""

from __future__ import annotations


class Refused(Exception):
    """The envelope is not opened, by this rule of the page."""

    def __init__(self, rule: str, why: str) -> None:
        super().__init__(f"{rule}: {why}")
        self.rule, self.why = rule, why


class KeyslotRefused(Refused):
    """This keyslot is not used; the next one may be."""


class HolderFailed(KeyslotRefused):
    """A holder could not unwrap its share, or would not."""

    def __init__(self, why: str) -> None:
        super().__init__("R23", why)
