"""The storage of trials: Optuna's, in any database that SQLAlchemy supports."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from warnings import catch_warnings, simplefilter

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.files import no_empty_file_left

DATABASE_ERRORS = (SQLAlchemyError, optuna.exceptions.StorageInternalError)
HEARTBEAT_SECONDS, GRACE_SECONDS = 10, 60  # a trial without a heartbeat for so long has lost its process
_TRIES, _PAUSE_SECONDS = 12, 0.25
_WAIT_SECONDS = 120  # for SQLite's lock, which another process holds for milliseconds


def storage_name(url: str) -> str:
    """A storage's URL for messages, without a password. Raises ConfigError if it is none."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        raise ConfigError(
            f"--storage: {url} is not the URL of a storage; use one such as sqlite:///saved/tuning.sqlite"
        ) from None


@contextmanager
def storage_at(url: str, must_exist: bool = False) -> Iterator[RDBStorage]:
    """The storage at an SQLAlchemy URL, made if it is absent.

    Raises ConfigError if it is no such URL or, with ``must_exist``, an SQLite file that is absent; DataError if it
    cannot be opened or, later, used.
    """
    name, address, options = storage_name(url), make_url(url), None
    file = Path(address.database) if address.get_backend_name() == "sqlite" and address.database else None
    if file:
        if must_exist and not file.is_file():
            raise ConfigError(f"{name}: there is no such storage; run recbole-metarec tune first")
        file.parent.mkdir(parents=True, exist_ok=True)
        options = {"connect_args": {"timeout": _WAIT_SECONDS}}
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # of a failed trial we print the error ourselves
    try:
        with no_empty_file_left(file):
            storage = _opened(url, options)
    except (*DATABASE_ERRORS, RuntimeError, ImportError) as error:
        raise _fault(name, error) from error
    try:
        yield storage
    except DATABASE_ERRORS as error:
        raise _fault(name, error) from error
    finally:
        storage.engine.dispose()


def _opened(url: str, options: dict | None) -> RDBStorage:
    """Opens a storage; another command may be creating its tables at the same moment, in several steps."""
    with catch_warnings():
        simplefilter("ignore", ExperimentalWarning)
        heartbeat = {
            "heartbeat_interval": HEARTBEAT_SECONDS,
            "grace_period": GRACE_SECONDS,
            "heartbeat_stale_trial_callback": RetryHeartbeatStaleTrialCallback(),
        }
        for _ in range(_TRIES - 1):
            try:
                return RDBStorage(url, options, **heartbeat)
            except SQLAlchemyError:
                sleep(_PAUSE_SECONDS)
        return RDBStorage(url, options, **heartbeat)


def _fault(name: str, error: Exception) -> DataError:
    reason = " ".join(str(getattr(error, "orig", None) or error).split())
    return DataError(f"{name}: {reason}; check that it is a storage of trials and may be written")
