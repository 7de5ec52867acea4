"""The services' state on disk: one pickle a service, replaced atomically.

A kill at any moment leaves the state of the last completed save. Services whose answers promise something
(EC2, IAM, SSM) are saved before the answer goes out; the others, whose requests come in hundreds, half a second
later at most. Large values (S3's objects) are files of their own, written once.
"""

from __future__ import annotations

import contextlib
import copyreg
import hashlib
import io
import logging
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from labtool.files import write_bytes

log = logging.getLogger(__name__)

PROMISED = frozenset(("ec2", "iam", "ssm"))
DEFERRED = frozenset(("cloudwatch", "dynamodb", "s3", "sqs"))
_DELAY_S = 0.5
_LARGE = 64 * 1024
_LOCK, _RLOCK = type(threading.Lock()), type(threading.RLock())


class Snapshots:
    """Saves and restores moto's backends of one account."""

    def __init__(self, folder: Path, account: str) -> None:
        self._folder = folder
        self._account = account
        self._services: dict[str, _Service] = {}
        self._dirty = threading.Event()
        self._closed = False
        self._pending: set[str] = set()
        self._used: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)
        _teach_pickle()
        self._writer = threading.Thread(target=self._write_deferred, name="snapshots", daemon=True)
        self._writer.start()

    def restore(self, service: str) -> dict[str, Any]:
        """Return what was saved of `service`: its backends by region; empty if nothing was."""
        file = self._file(service)
        try:
            with file.open("rb") as source:
                found: dict[str, Any] = _Unpickler(source, self._blobs, self._used).load()
        except FileNotFoundError:
            return {}
        except Exception:
            # A pickle of another moto: starting without that service's state beats not starting.
            log.exception("%s cannot be read; kept as %s.unreadable", file, file.name)
            file.replace(file.with_suffix(".unreadable"))
            return {}
        return found

    def restore_all(self) -> None:
        """Put what was saved of every service but EC2 back into moto; drop large values that nothing uses now."""
        from moto.backends import get_backend

        for name in sorted((PROMISED | DEFERRED) - {"ec2"}):
            for region, backend in self.restore(name).items():
                if name == "ssm":
                    _backends(name, self._account)[region]._parameters = backend
                    continue
                _backends(name, self._account)[region] = backend
                if name == "s3":  # moto's register of all buckets is outside the backends
                    owner = (region, self._account)
                    get_backend("s3").bucket_accounts.update(dict.fromkeys(backend.buckets, owner))
        for blob in self._blobs.glob("*"):
            if blob.name not in self._used:
                blob.unlink()

    def changed(self, service: str, guard: contextlib.AbstractContextManager[Any] | None = None) -> None:
        """Save `service`: now if its answers promise something, soon if not. `guard` is held while it is read."""
        if service in PROMISED:
            self._service(service).save(guard)
        elif service in DEFERRED:
            self._pending.add(service)
            self._dirty.set()

    def close(self) -> None:
        """Write what is pending."""
        self._closed = True
        self._dirty.set()
        self._writer.join(10)

    def _service(self, name: str) -> _Service:
        return self._services.setdefault(name, _Service(lambda: self._dump(name), self._file(name)))

    def _file(self, service: str) -> Path:
        return self._folder / f"{service}.pickle"

    @property
    def _blobs(self) -> Path:
        return self._folder / "blobs"

    def _dump(self, service: str) -> bytes:
        for attempt in range(5):
            try:
                buffer = io.BytesIO()
                content = dict(_backends(service, self._account).items())
                if service == "ssm":
                    # Of SSM the parameters: the rest of its backend (documents, maintenance windows) has
                    # functions in it, which cannot be pickled.
                    content = {region: backend._parameters for region, backend in content.items()}
                _Pickler(buffer, self._blobs).dump(content)
                return buffer.getvalue()
            except RuntimeError:  # a request changed a dictionary meanwhile
                if attempt == 4:
                    raise
        raise AssertionError

    def _write_deferred(self) -> None:
        while not self._closed or self._pending:
            self._dirty.wait()
            self._dirty.clear()
            if not self._closed:
                threading.Event().wait(_DELAY_S)
            while self._pending:
                name = self._pending.pop()
                try:
                    self._service(name).save(None)
                except Exception:
                    log.exception("the state of %s could not be saved", name)


class _Service:
    """Group commit: requests that arrive while one save runs share the next."""

    def __init__(self, dump: Callable[[], bytes], file: Path) -> None:
        self._dump = dump
        self._file = file
        self._count = threading.Lock()
        self._writing = threading.Lock()
        self._asked = 0
        self._saved = 0

    def save(self, guard: contextlib.AbstractContextManager[Any] | None) -> None:
        with self._count:
            self._asked += 1
            mine = self._asked
        with self._writing:
            if self._saved >= mine:
                return
            with self._count:
                upto = self._asked
            with guard or contextlib.nullcontext():
                content = self._dump()
            write_bytes(self._file, content, 0o600)
            self._saved = upto


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, blobs: Path) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._blobs = blobs

    def reducer_override(self, obj: Any) -> Any:
        # A lock's state is that of threads, which do not outlive the process: a new one takes its place.
        if isinstance(obj, _RLOCK):
            return threading.RLock, ()
        if isinstance(obj, _LOCK):
            return threading.Lock, ()
        if isinstance(obj, threading.Condition):
            return threading.Condition, ()
        return NotImplemented

    def persistent_id(self, obj: Any) -> str | None:
        if type(obj) is not bytes or len(obj) < _LARGE:
            return None
        name = hashlib.sha256(obj).hexdigest()
        file = self._blobs / name
        if not file.exists():
            self._blobs.mkdir(exist_ok=True)
            write_bytes(file, obj, 0o600)
        return name


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, blobs: Path, used: set[str]) -> None:
        super().__init__(file)
        self._blobs = blobs
        self._used = used

    def persistent_load(self, pid: Any) -> bytes:
        self._used.add(str(pid))
        return (self._blobs / str(pid)).read_bytes()


def _backends(service: str, account: str) -> dict[str, Any]:
    from moto.backends import get_backend

    return get_backend(service)[account]  # type: ignore[no-any-return]


def _teach_pickle() -> None:
    """SSM keeps its parameters in a defaultdict whose class takes other arguments; say how to make it again."""
    from moto.ssm.models import ParameterDict

    def reduce(parameters: Any) -> tuple[Any, ...]:
        state = dict(parameters.__dict__)
        items: Iterator[tuple[Any, Any]] = iter(list(dict.items(parameters)))
        return ParameterDict, (parameters.account_id, parameters.region_name), state, None, items

    copyreg.pickle(ParameterDict, reduce)
