"""All versions of one model in this worker, and which of them its labels lead to.

A label that is moved to a version which cannot be used stays where it was, and so does the default:
a broken version answers nobody. A version that is gone from the disk goes, too, once no label
leads to it; requests that it is answering keep it until they are done.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from service.inference.classifier import Classifier
from service.inference.errors import ModelError, ModelNotFound, ModelTooLarge
from service.inference.layout import ONLY_VERSION, STABLE, ModelLayout
from service.inference.model_files import model_size
from service.serving.catalogue import Catalogue, Offer
from service.serving.opener import Opener
from service.serving.served import Served
from service.serving.version import Version

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
        self._folder = folder
        self._opener = opener
        self._versions: dict[int, Version] = {}
        self._told: set[str] = set()
        self._gone: set[str | int] = set()  # what was missing at the last look
        self._is_new = True
        self._last_good = last_good
        self.targets = targets or Targets()
        self.catalogue = Catalogue.of(folder, ())

    @property
    def default(self) -> Version | None:
        """What answers where no version is named."""
        return self._versions.get(self.targets.default)

    def sizes(self, layout: ModelLayout) -> dict[int, int]:
        """Bytes to count for each version, those that are gone and still answer included.

        A file that was refused is not opened and has none.
        """
        found = {n: model_size(path) for n, path in layout.versions.items()}
        for number, version in self._versions.items():
            if version.classifier is not None:
                found[number] = max(version.size, found.get(number, 0))
            elif version.is_judged:
                found[number] = 0
        return found

    def look(
        self, layout: ModelLayout, full: Mapping[int, ModelTooLarge], *, now: bool
    ) -> dict[int, ModelError]:
        """Look at the versions once, and follow the labels.

        Args:
            layout: what there is on the disk.
            full: the versions that there is no memory for, and why.
            now: take a changed file without waiting for a second look.

        Returns:
            Why files are refused that were not refused before, by the number of their version.
        """
        refused: dict[int, ModelError] = {}
        first, self._is_new = self._is_new, False
        layout = self._steady(layout, now=now)
        for number in layout.order:
            path = layout.versions[number]
            version = self._versions.setdefault(
                number, Version(self._folder, number, path, self._opener)
            )
            version.path = path
            if number in full:
                error = version.give_up(full[number], keep=self._is_targeted(number))
            else:
                error = version.look(now=now)
            if error is not None:
                refused[number] = error
            if not first:
                self._follow(layout)  # the next one may take long to open
        if first and self._restore(layout):
            refused.pop(self.targets.default, None)
        if layout.versions or first:
            self._follow(layout)
        else:
            self.catalogue = replace(self.catalogue, problems=layout.problems)
        self._tell(layout)
        return refused

    def _steady(self, layout: ModelLayout, *, now: bool) -> ModelLayout:
        """A layout with what has been missing for one look only.

        ``ln -sfn`` and many others take away first, and then put in place. Of a ``labels.json``
        that cannot be read, no label is gone.
        """
        known: set[str | int] = {*self.targets.labels, *self._versions}
        gone = known - {*layout.labels, *layout.versions}
        still = set() if now else gone - self._gone
        self._gone = gone
        labels = {
            label: number
            for label, number in self.targets.labels.items()
            if label in still or (label in gone and not layout.labels_are_known)
        }
        versions = {n: one.path for n, one in self._versions.items() if n in still}
        return replace(
            layout, labels={**layout.labels, **labels}, versions={**layout.versions, **versions}
        )

    def use(self, classifier: Classifier, path: Path) -> None:
        """Answer with this one instead of the file that there is."""
        version = Version(self._folder, ONLY_VERSION, path, self._opener)
        version.use(classifier)
        self._versions[ONLY_VERSION], self.targets = version, Targets(ONLY_VERSION)

    def is_wanted(self, number: int, layout: ModelLayout) -> bool:
        """Whether a version answers by default or has a label, now or as soon as it is open."""
        return number in {layout.default, *layout.labels.values()} or self._is_targeted(number)

    def missing(self, layout: ModelLayout) -> Iterator[ModelError]:
        """Why nothing answers by default, if nothing does."""
        if self.catalogue.default is not None:
            return
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

    def _is_targeted(self, number: int) -> bool:
        return number == self.targets.default or number in self.targets.labels.values()

    def _restore(self, layout: ModelLayout) -> bool:
        """In a worker that replaces another one: answer with what the others answer with.

        Returns:
            Whether that had to be restored from its bytes.
        """
        number = self.targets.default
        version = self._versions.get(number)
        if not self._last_good or (version is not None and version.classifier is not None):
            return False
        if version is None:
            path = layout.versions.get(number, layout.path)
            version = self._versions[number] = Version(self._folder, number, path, self._opener)
        why = version.error or "; ".join(layout.problems) or "its version is gone"
        self._opener.count_refusal()
        _LOG.error("model refused, the last-known-good one answers: %s", why)
        version.restore(self._last_good)
        self._last_good = b""
        return True

    def _follow(self, layout: ModelLayout) -> None:
        """Have the labels lead where they can."""
        usable = {n for n, version in self._versions.items() if version.classifier is not None}
        labels: dict[str, int] = {}
        for label, number in layout.labels.items():
            before = self.targets.labels.get(label)
            found = number if number in usable else before if before in usable else None
            if found is not None:
                labels[label] = found
        kept = self.targets.default if self.targets.default in usable else 0
        if STABLE in layout.labels:
            default = labels.get(STABLE, kept)
        else:
            default = max(usable & layout.versions.keys(), default=kept)
        catalogue, self.targets = self.catalogue, Targets(default, labels)
        self._versions = {
            number: version
            for number, version in self._versions.items()
            if number in layout.versions or self._is_targeted(number)
        }
        self.catalogue = self._catalogue(layout)
        if catalogue.found:
            _log_changes(catalogue, self.catalogue)

    def _catalogue(self, layout: ModelLayout) -> Catalogue:
        labels_of: dict[int, list[str]] = {}
        for label, number in sorted(self.targets.labels.items()):
            labels_of.setdefault(number, []).append(label)
        default = self.default
        opened = None if default is None else default.classifier
        name = self._folder if opened is None else self._opener.name_of(opened, self._folder)
        offers = []
        for number, version in sorted(self._versions.items()):
            labels = tuple(labels_of.get(number, ()))
            classifier = version.classifier
            if classifier is None and version.error is None:
                continue  # it may still be coming
            served = None if classifier is None else Served(name, number, labels, classifier)
            offers.append(Offer(number, labels, served, str(version.error or "")))
        return Catalogue.of(name, offers, self.targets.default, self._problems(layout))

    def _problems(self, layout: ModelLayout) -> tuple[str, ...]:
        """What is wrong with the labels."""
        refused = [
            f"label {label!r} of {layout.path} leads to version {number}, which is refused:"
            f" {f'it stays with version {kept}' if kept else 'it leads nowhere'}"
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
