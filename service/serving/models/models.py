"""The models that are served, and what of them answers a request.

The path of the models is looked at every few seconds, and at once after SIGHUP. What has changed is
opened beside the old, and answers between two requests (``versions``, ``version``).
"""

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b, sha256
from typing import Any

import msgspec

from service.inference.classifier import Classifier
from service.inference.errors import ModelError, ModelNotFound, ModelTooLarge
from service.inference.layout import ModelLayout, read_layout
from service.inference.model_files import model_file, read_model
from service.runtime.metrics import Metrics
from service.runtime.shared_bytes import SharedBytes
from service.runtime.sizing import Sizing
from service.serving.context import Headers
from service.serving.errors import UnknownModel
from service.serving.models.catalogue import Catalogue
from service.serving.models.opener import Opener
from service.serving.models.version import Version
from service.serving.models.versions import Targets, Versions
from service.serving.served import CANARY, Asked, Served
from service.settings import variable_name

CANARY_KEY = "X-Canary-Key"

_LOG = logging.getLogger("labelserve.model")


class _Kept(msgspec.Struct):
    """What a worker that is replaced goes on with: where each model's labels lead, by folder.

    ``data``: the bytes of the default, where there is one model that has no name of a folder.
    """

    targets: dict[str, Targets] = msgspec.field(default_factory=dict)
    data: bytes = b""


class Models:
    """All models of one worker. Any thread may ask; one looks at the files.

    Args:
        sizing: the settings' models, how to open them, and the memory there is.
        last_models: the last-known-good ones, which all workers share.
        metrics: told of each version that is opened, or refused.
        classifier: to answer with instead of the file.

    Raises:
        ModelError: no model can be used, and no worker has used one before.
        SettingsError: there is no such execution provider.
    """

    def __init__(
        self,
        sizing: Sizing,
        last_models: SharedBytes,
        metrics: Metrics,
        classifier: Classifier | None = None,
    ) -> None:
        self._sizing = sizing
        self._path = sizing.settings.model
        self._percent = sizing.settings.canary_percent
        self._last_models = last_models
        self._metrics = metrics
        self._opener = Opener(sizing, metrics)
        self._versions: dict[str, Versions] = {}
        self._named: Mapping[str, Versions] = {}
        self._complaint = ""
        self._complained = False
        self._gone: set[str] = set()  # the folders that were missing at the last look
        self._refused: dict[tuple[str, int], ModelError] = {}  # not yet told
        self._more = True  # whether something may be left to be opened
        self._remembered: tuple[dict[str, Targets], bytes] = ({}, b"")
        self._start(classifier)

    # ---- for requests ------------------------------------------------------------------------

    @property
    def catalogues(self) -> Sequence[Catalogue]:
        """What is served of each model, by their names."""
        return tuple(versions.catalogue for versions in self._named.values())

    def choose(self, asked: Asked, headers: Headers, request_id: str) -> Served:
        """What answers a request for predictions, decided here alone, once for each request.

        A request that names no version is answered by the model's default, or by its version with
        the label ``canary``, for the share that ``LABELSERVE_CANARY_PERCENT`` says.

        Args:
            asked: the model and the version that the request names.
            headers: may have ``X-Canary-Key``: the same key is always answered by the same version.
            request_id: the key of a request without that header.

        Raises:
            UnknownModel: as of ``find``.
        """
        catalogue = self.catalogue(asked)
        served = catalogue.find(asked.version)
        canary = catalogue.found.get(CANARY) if self._percent and not asked.version else None
        if canary is None:
            return served
        key = headers.get(CANARY_KEY, "") or request_id
        return canary if _percentile(key) < self._percent else served

    def find(self, asked: Asked) -> Served:
        """The version that is named, or the default: for what describes it, or compares with it.

        Raises:
            UnknownModel: none of that name is served, or not in that version or with that label;
                the message says what there is.
        """
        return self.catalogue(asked).find(asked.version)

    def catalogue(self, asked: Asked) -> Catalogue:
        """What is served of the model that is named, or of the one that needs no name.

        Raises:
            UnknownModel: there is none.
        """
        named, name = self._named, asked.name
        if not name and len(named) == 1:
            return next(iter(named.values())).catalogue
        found = named.get(name or self._sizing.settings.name or "")
        if found is not None:
            return found.catalogue
        known = ", ".join(map(repr, named))
        if name:
            raise UnknownModel(f"no model {name!r} is served here, there is {known}")
        raise UnknownModel(
            f"several models are served here, ask for one by its path, such as"
            f" /models/{next(iter(named))}/predict: there is {known}"
        )

    # ---- for files ---------------------------------------------------------------------------

    def look(self, *, now: bool = False) -> None:
        """Look at the files once, and open at most one of those that have changed.

        ``now`` takes a change without waiting for a second look.
        """
        if not self._is_there():
            return  # what is gone stays
        try:
            layouts = read_layout(self._path)
        except ModelNotFound as error:
            self._complain(error, now=now)
            return
        self._complaint, self._complained = "", False
        self._look(layouts, now=now)
        self._follow()
        self._forget({layout.name for layout in layouts}, now=now)
        self._more = True
        self._open_next()

    def go_on(self) -> bool:
        """Open the next one that has changed, if one is left: between two looks, again and again.

        Labels are followed first, as they lead by now.

        Returns:
            Whether there was one.
        """
        if not self._more:
            return False
        if self._is_there():
            with suppress(ModelNotFound):
                for layout in read_layout(self._path):
                    if layout.name in self._versions:
                        self._versions[layout.name].glance(layout)
                self._follow()
        return self._open_next()

    def _is_there(self) -> bool:
        return os.path.exists(self._path)  # noqa: PTH110  which raises where one may not look

    def _start(self, classifier: Classifier | None) -> None:
        """Open what a service needs to answer; the rest is opened while it does."""
        kept = self._kept()
        try:
            layouts = read_layout(self._path)
        except ModelNotFound as error:
            if not kept.data:
                raise
            layouts = (ModelLayout("", self._path, {}, problems=(str(error),)),)
        for layout in layouts:
            targets = kept.targets.get(layout.name)
            data = b"" if layout.name else kept.data
            self._versions[layout.name] = Versions(layout.name, self._opener, targets, data)
        if classifier is not None:
            self._versions[layouts[0].name].use(classifier, self._path)
        self._look(layouts, now=True)
        while self._open_one(needed=True):
            pass
        for folder, versions in self._versions.items():
            self._refused.pop((folder, versions.restore() or 0), None)
        self._follow()
        errors = [why for versions in self._versions.values() for why in versions.missing()]
        if len(errors) == len(layouts):
            raise errors[0]
        self._tell_refused()
        self._tell_of_name()

    def _tell_of_name(self) -> None:
        """Warn of a set name that no model has."""
        name = self._sizing.settings.name
        if name and len(self._named) > 1 and name not in self._named:
            _LOG.warning(
                "%s=%s is none of the models, so paths without a name get a 404: there is %s",
                variable_name("name"),
                name,
                ", ".join(self._named),
            )

    def _complain(self, error: ModelError, *, now: bool) -> None:
        """Once, about what was there at two looks, or is to be taken at once."""
        same, self._complaint = str(error) == self._complaint, str(error)
        self._complained &= same
        if not self._complained and (same or now):
            self._complained = True
            for folder in self._versions:
                self._refuse(error, folder)

    def _refuse(self, error: ModelError, folder: str, number: int = 0) -> None:
        """Count and log what is refused: a version's file, or the folder that has them all.

        That there is no room for what nobody has asked for is as it should be.
        """
        versions = self._versions[folder]
        default = versions.catalogue.default
        fields: dict[str, Any] = {"model": folder} if folder else {}
        fields |= {"model_version": number} if number else {}
        fields |= {"version_kept": default.classifier.card.version} if default else {}
        if isinstance(error, ModelTooLarge) and not self._is_wanted(versions, number):
            _LOG.info("version not opened: %s", error, extra={"fields": fields})
            return
        self._opener.count_refusal()
        _LOG.error("new model refused: %s", error, extra={"fields": fields})

    def _tell_refused(self) -> None:
        refused, self._refused = self._refused, {}
        for (folder, number), error in refused.items():
            self._refuse(error, folder, number)

    def _look(self, layouts: Sequence[ModelLayout], *, now: bool) -> None:
        """Look at the files of all models."""
        for layout in layouts:
            if layout.name not in self._versions:
                self._versions[layout.name] = Versions(layout.name, self._opener)
            self._versions[layout.name].look(layout, now=now)

    def _forget(self, there: Collection[str], *, now: bool) -> None:
        """Drop the models that are gone at two looks, while another one can answer."""
        gone = self._versions.keys() - there
        if any(self._versions[folder].catalogue.default for folder in there):
            for folder in gone if now else gone & self._gone:
                del self._versions[folder]
        self._gone = gone & self._versions.keys()
        self._publish()

    def _follow(self) -> None:
        """Have all labels lead where they can."""
        for versions in self._versions.values():
            versions.follow()
        self._publish()

    def _publish(self) -> None:
        """Have it known what is served."""
        self._named = {
            versions.catalogue.name: versions for _, versions in sorted(self._versions.items())
        }
        defaults = [one.default for one in self.catalogues if one.default is not None]
        self._metrics.show_defaults(
            [(served.name, served.classifier.card.version) for served in defaults]
        )
        self._remember()

    def _open_next(self) -> bool:
        self._more = self._open_one()
        if self._more:
            self._follow()
        self._tell_refused()
        return self._more

    def _open_one(self, *, needed: bool = False) -> bool:
        """Close what there is no room for, and open the first file that is to be opened.

        Args:
            needed: only what a start has to wait for.

        Returns:
            Whether there was one.
        """
        ranked = self._ranked()
        full = self._full(ranked)
        closed = False
        for versions, version in ranked:
            if version in full:
                keep = versions.is_targeted(version.number)
                closed |= version.classifier is not None and not keep
                is_wanted = self._is_wanted(versions, version.number)
                error = version.give_up(full[version], keep=keep, is_wanted=is_wanted)
                self._note(error, versions, version)
        if closed:
            self._follow()  # else the catalogues hold its memory
        for versions, version in ranked:
            is_next = version.is_due and version not in full and versions.folder not in self._gone
            if is_next and (not needed or self._is_needed(versions, version.number)):
                self._note(version.open(), versions, version)
                return True
        return False

    def _note(self, error: ModelError | None, versions: Versions, version: Version) -> None:
        if error is not None:
            self._refused[versions.folder, version.number] = error

    def _is_wanted(self, versions: Versions, number: int) -> bool:
        return versions.is_wanted(number) or str(number) == self._sizing.settings.shadow

    def _is_needed(self, versions: Versions, number: int) -> bool:
        return self._is_wanted(versions, number) or versions.is_needed(number)

    def _ranked(self) -> Sequence[tuple[Versions, Version]]:
        """All versions, the most important first.

        That is what answers now, by default or by a label; then what is to answer by default; then
        what has a label; then what has the higher number.
        """

        def rank(one: tuple[Versions, Version]) -> tuple[bool, bool, bool, int]:
            versions, number = one[0], one[1].number
            return (
                not versions.is_targeted(number),
                not versions.is_default(number),
                not self._is_wanted(versions, number),
                -number,
            )

        found = [(versions, one) for versions in self._versions.values() for one in versions.all]
        return sorted(found, key=rank)

    def _full(self, ranked: Sequence[tuple[Versions, Version]]) -> dict[Version, ModelTooLarge]:
        """The versions that there is no memory for, and why.

        What is open and answers stays, whatever else there is to be; but a version that takes its
        place is opened beside it, as a file that replaces another one is.
        """
        sizing, memory = self._sizing, self._sizing.machine.memory / 1e6
        fitting = {
            version: version.size
            for versions, version in ranked
            if version.classifier is not None and versions.is_targeted(version.number)
        }
        found: dict[Version, ModelTooLarge] = {}
        for versions, version in ranked:
            size = version.needed
            if size <= fitting.get(version, 0):
                continue
            leaving = versions.replaced_by(version.number)
            others = [kept for one, kept in fitting.items() if one not in (version, leaving)]
            peak = size if leaving is None else max(size, fitting.get(leaving, 0))
            if sizing.has_room(*others, peak):
                fitting[version] = size
                continue
            before = f" with the {len(others)} that come before it" if others else ""
            found[version] = ModelTooLarge(
                f"model {version.path} needs {sizing.needed_memory(*others, peak) / 1e6:.0f} MB of"
                f" memory{before}, and there are {memory:.0f} MB"
            )
        return found

    # ---- for workers that are replaced -------------------------------------------------------

    def _remember(self) -> None:
        """Have a worker that replaces this one answer with the same."""
        targets = {folder: versions.targets for folder, versions in self._versions.items()}
        default = self._versions[""].default if "" in self._versions else None
        remembered = targets, b"" if default is None else default.digest
        if remembered == self._remembered:
            return
        self._remembered = remembered
        data = b"" if default is None else self._bytes_of(default)
        self._last_models.store(msgspec.msgpack.encode(_Kept(targets, data)))

    def _bytes_of(self, version: Version) -> bytes:
        """What answers, from its file or from what is kept; empty if it is nowhere any more."""
        with suppress(ModelError):
            data = read_model(model_file(version.path))
            if sha256(data).digest() == version.digest:
                return data
        data = self._kept().data
        return data if sha256(data).digest() == version.digest else b""

    def _kept(self) -> _Kept:
        stored = self._last_models.load()
        return _Kept() if stored is None else msgspec.msgpack.decode(stored, type=_Kept)


def _percentile(key: str) -> float:
    """Where a key stands among all keys, 0 to 100: the same in every process, and spread evenly."""
    digest = blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 * 100
