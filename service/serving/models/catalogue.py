"""What is served of one model at a moment: its versions, their labels, and what was refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

from service.serving.errors import UnknownModel
from service.serving.served import Served


@dataclass(frozen=True)
class Offer:
    """A version of a model: ``served`` if it answers; ``reason`` why its file is refused.

    Both, where a file that was replaced is refused, and what it held before goes on. Neither, where
    it is still to be opened.
    """

    number: int
    labels: tuple[str, ...]
    served: Served | None
    reason: str

    @property
    def state(self) -> Literal["available", "opening", "refused"]:
        """Whether it answers; if it does not, whether it still may."""
        if self.served is not None:
            return "available"
        return "refused" if self.reason else "opening"


@dataclass(frozen=True)
class Catalogue:
    """A model as clients find it.

    ``offers`` begin with the lowest number. ``default``: what answers where no version is named, if
    anything does; ``found``: what answers by number and by label; ``problems``: what is wrong with
    its labels. It does not change: labels that move make another catalogue.
    """

    name: str
    offers: Sequence[Offer]
    default: Served | None
    found: Mapping[str, Served]
    problems: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, name: str, offers: Sequence[Offer], default: int = 0, problems: tuple[str, ...] = ()
    ) -> Self:
        """A catalogue of these offers, by number and by label."""
        served = [offer.served for offer in offers if offer.served is not None]
        by_number = {str(one.number): one for one in served}
        by_label = {label: one for one in served for label in one.labels}
        return cls(name, offers, by_number.get(str(default)), by_label | by_number, problems)

    @property
    def served(self) -> Sequence[Served]:
        """What answers, from the lowest number."""
        return [offer.served for offer in self.offers if offer.served is not None]

    def find(self, version: str) -> Served:
        """The version of a number or label, or with an empty text the default.

        Raises:
            UnknownModel: it does not answer; the message says what does.
        """
        found = self.found.get(version) if version else self.default
        if found is not None:
            return found
        if not version:
            raise UnknownModel(f"no version of {self.name!r} can be used: GET /models says why")
        known = ", ".join(_told(offer) for offer in self.offers if offer.served is not None)
        for offer in self.offers:
            if version == str(offer.number):
                is_refused = offer.state == "refused"
                what = "is refused, GET /models says why" if is_refused else "is being opened"
                raise UnknownModel(
                    f"version {version} of {self.name!r} {what}: there is {known or 'no other'}"
                )
        raise UnknownModel(f"{self.name!r} has no version {version!r}: there is {known or 'none'}")


def _told(offer: Offer) -> str:
    return f"{offer.number} ({', '.join(offer.labels)})" if offer.labels else str(offer.number)
