"""All versions of one model in this worker, and which of them its labels lead to.

A label that is moved to a version which cannot be used stays where it was, and so does the default:
a broken version answers nobody. A version that is gone from the disk goes, too, once no label
leads to it; requests that it is answering keep it until they are done.
"""

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from service.inference.classifier import Classifier
from service.inference.errors import ModelError, ModelNotFound
from service.inference.layout import ONLY_VERSION, STABLE, ModelLayout
from service.serving.models.catalogue import Catalogue, Offer
from service.serving.models.opener import Opener
from service.serving.models.version import Version
from service.serving.served import Served

_LOG = logging.getLogger("labelserve.model")
# How many labels of images a line lists.
_LISTED = 5


class Targets(msgspec.Struct, frozen=True):
    """The numbers that labels lead to, and that of the default; 0 where there is none."""

    default: int = 0
    labels: dict[str, int] = msgspec.field(default_factory=dict)


class Versions:
    """The versions of one model; ``catalogue`` is what is served, and may be replaced at any time.

    Args:
        folder: the name of its folder in a folder of models, else empty.
        opener: opens model files.
        targets: what the other workers answer with, if this one replaces a worker.
        last_good: the bytes of their default, as far as these are kept.
    """

    def __init__(
        self, folder: str, opener: Opener, targets: Targets | None = None, last_good: bytes = b""
    ) -> None:
        self.folder = folder
        self._opener = opener
        self._versions: dict[int, Version] = {}
        self._told: set[str] = set()
        self._gone: set[str | int] = set()  # what was missing at the last look
        self._layout = ModelLayout(folder, Path(), {})
        self._last_good = last_good
        self.targets = targets or Targets()
        self.catalogue = Catalogue.of(folder, ())

    @property
    def default(self) -> Version | None:
        """What answers where no version is named."""
        return self._versions.get(self.targets.default)

    @property
    def all(self) -> Collection[Version]:
        """All versions, those that are gone and still answer included."""
        return self._versions.values()

    def look(self, layout: ModelLayout, *, now: bool) -> None:
        """Look at the versions once, for what is to be opened.

        Args:
            layout: what there is on the disk.
            now: take a changed file without waiting for a second look.
        """
        gone = self._missing_in(layout)
        self._take(layout, set() if now else gone - self._gone)
        self._gone = gone
        for number in self._layout.versions:
            self._versions[number].look(now=now)

    def glance(self, layout: ModelLayout) -> None:
        """Look at where the labels lead, between two looks: nothing is gone by that."""
        self._take(layout, self._missing_in(layout))

    def _missing_in(self, layout: ModelLayout) -> set[str | int]:
        known: set[str | int] = {*self.targets.labels, *self._versions}
        return known - {*layout.labels, *layout.versions}

    def _take(self, layout: ModelLayout, still: set[str | int]) -> None:
        """Take a layout, together with what is missing in it and ``still`` counts as there.

        ``ln -sfn`` and many others take away first, and then put in place. Of a ``labels.json``
        that cannot be read, no label is gone.
        """
        labels = {
            label: number
            for label, number in self.targets.labels.items()
            if label in still or (label not in layout.labels and not layout.labels_are_known)
        }
        versions = {n: one.path for n, one in self._versions.items() if n in still}
        self._layout = replace(
            layout, labels={**layout.labels, **labels}, versions={**layout.versions, **versions}
        )
        for number, path in self._layout.versions.items():
            version = self._versions.setdefault(
                number, Version(self.folder, number, path, self._opener)
            )
            version.path = path

    def use(self, classifier: Classifier, path: Path) -> None:
        """Answer with this one instead of the file that there is."""
        version = Version(self.folder, ONLY_VERSION, path, self._opener)
        version.use(classifier)
        self._versions[ONLY_VERSION], self.targets = version, Targets(ONLY_VERSION)

    def is_targeted(self, number: int) -> bool:
        """Whether a version answers by default or by a label now."""
        return number == self.targets.default or number in self.targets.labels.values()

    def is_default(self, number: int) -> bool:
        """Whether a version is to answer by default."""
        return number == self._layout.default

    def is_wanted(self, number: int) -> bool:
        """Whether a version answers by default or has a label, now or as soon as it is open."""
        wanted = {self._layout.default, *self._layout.labels.values()}
        return number in wanted or self.is_targeted(number)

    def is_needed(self, number: int) -> bool:
        """Whether a start has to wait for a version: it is wanted, or may be the default."""
        return self.is_wanted(number) or (
            STABLE not in self._layout.labels and number > max(self._usable(), default=0)
        )

    def replaced_by(self, number: int) -> Version | None:
        """The version that nothing leads to any more as soon as this one is open."""
        for before in {self.targets.default, *self.targets.labels.values()} - {number}:
            leads = {
                self._layout.labels.get(label)
                for label, target in self.targets.labels.items()
                if target == before
            }
            if before == self.targets.default:
                leads.add(self._layout.default)
            if leads == {number}:
                return self._versions.get(before)
        return None

    def missing(self) -> Iterator[ModelError]:
        """Why nothing answers by default, if nothing does."""
        if self.catalogue.default is not None:
            return
        layout = self._layout
        number = layout.default or 0
        error = self._versions[number].error if number in self._versions else None
        if error is None:
            yield ModelNotFound("; ".join(layout.problems))
        elif STABLE not in layout.labels:
            yield error
        else:
            yield ModelNotFound(
                f"label {STABLE!r} of {layout.path} leads to version {number}, which is refused:"
                f" {error}"
            )

    def restore(self) -> int | None:
        """In a worker that replaces another one: answer with what the others answer with.

        Returns:
            The number of the version that had to be restored from its bytes, if one had to.
        """
        number, layout = self.targets.default, self._layout
        version = self._versions.get(number)
        if not self._last_good or (version is not None and version.classifier is not None):
            return None
        if version is None:
            path = layout.versions.get(number, layout.path)
            version = self._versions[number] = Version(self.folder, number, path, self._opener)
        why = version.error or "; ".join(layout.problems) or "its version is gone"
        self._opener.count_refusal()
        _LOG.error("model refused, the last-known-good one answers: %s", why)
        version.restore(self._last_good)
        self._last_good = b""
        return number

    def follow(self) -> None:
        """Have the labels lead where they can; one that cannot stays where it was.

        That may be a version which this worker could not open, and others have: it is remembered.
        """
        if self._layout.versions:  # else all is gone, and what answers stays
            self._move(self._layout)
        before, self.catalogue = self.catalogue, self._catalogue(self._layout)
        if before.found:
            _log_changes(before, self.catalogue)
        self._tell(self._layout)

    def _move(self, layout: ModelLayout) -> None:
        """Move the labels; what is gone and has none goes."""
        usable = self._usable()
        labels: dict[str, int] = {}
        for label, number in layout.labels.items():
            found = number if number in usable else self.targets.labels.get(label)
            if found is not None:
                labels[label] = found
        kept = self.targets.default
        if STABLE in layout.labels:
            default = labels.get(STABLE, kept)
        else:
            default = max(usable & layout.versions.keys(), default=kept)
        self.targets = Targets(default, labels)
        self._versions = {
            number: version
            for number, version in self._versions.items()
            if number in layout.versions or self.is_targeted(number)
        }

    def _usable(self) -> set[int]:
        return {n for n, version in self._versions.items() if version.classifier is not None}

    def _catalogue(self, layout: ModelLayout) -> Catalogue:
        labels_of: dict[int, list[str]] = {}
        for label, number in sorted(self.targets.labels.items()):
            labels_of.setdefault(number, []).append(label)
        default = self.default
        opened = None if default is None else default.classifier
        name = self.folder if opened is None else self._opener.name_of(opened, self.folder)
        offers = []
        for number, version in sorted(self._versions.items()):
            labels = tuple(labels_of.get(number, ()))
            classifier = version.classifier
            served = None if classifier is None else Served(name, number, labels, classifier)
            offers.append(Offer(number, labels, served, str(version.error or "")))
        return Catalogue.of(name, offers, self.targets.default, self._problems(layout))

    def _problems(self, layout: ModelLayout) -> tuple[str, ...]:
        """What is wrong with the labels."""
        usable = self._usable()
        refused = [
            f"label {label!r} of {layout.path} leads to version {number}, which is refused:"
            f" {f'it stays with version {kept}' if kept in usable else 'it leads nowhere'}"
            for label, number in layout.labels.items()
            if number is not None and number != (kept := self.targets.labels.get(label))
            if number in self._versions and self._versions[number].error is not None
        ]
        return (*layout.problems, *refused)

    def _tell(self, layout: ModelLayout) -> None:
        """Log what is wrong or unusual, once."""
        lines = {*self._problems(layout), *_differing_labels(self.catalogue)}
        for line in sorted(lines - self._told):
            _LOG.warning("%s", line, extra={"fields": {"model": self.catalogue.name}})
        self._told = lines


def _log_changes(before: Catalogue, after: Catalogue) -> None:
    for version in sorted({*before.found, *after.found}):
        old, new = before.found.get(version), after.found.get(version)
        fields: dict[str, Any] = {"model": after.name}
        if version.isdecimal():
            if (old is None) != (new is None):
                what = "closed" if new is None else "opened"
                fields["model_version"] = int(version)
                _LOG.info("version %s", what, extra={"fields": fields})
        elif (old and old.number) != (new and new.number):
            fields |= {"label": version, "model_version": new and new.number}
            fields |= {"model_version_before": old and old.number}
            _LOG.info("label moved", extra={"fields": fields})
    was, now = before.default, after.default
    if was is not None and now is not None and was.classifier is not now.classifier:
        card = now.classifier.card
        fields = {"name": card.name, "version": card.version, "model_version": now.number}
        fields["version_before"] = was.classifier.card.version
        _LOG.info("new model answers", extra={"fields": fields})


def _differing_labels(catalogue: Catalogue) -> Iterator[str]:
    """A line about each version whose labels of images are not the default's."""
    if catalogue.default is None:
        return
    known = catalogue.default.classifier.card.labels
    for offer in catalogue.offers:
        labels = known if offer.served is None else offer.served.classifier.card.labels
        if labels != known:
            before, after = set(known), set(labels)
            more = [label for label in labels if label not in before]
            fewer = [label for label in known if label not in after]
            told = [
                f"{what} {_listed(some)}" for what, some in (("more", more), ("not", fewer)) if some
            ]
            yield (
                f"version {offer.number} of {catalogue.name!r} knows other labels than version"
                f" {catalogue.default.number}: {'; '.join(told) or 'the same in another order'}"
            )


def _listed(labels: Sequence[str]) -> str:
    some = ", ".join(map(repr, labels[:_LISTED]))
    return f"{some}, …" if len(labels) > _LISTED else some
