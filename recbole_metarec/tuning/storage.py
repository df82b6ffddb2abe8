"""The storage of trials: Optuna's, in any database that SQLAlchemy supports."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from warnings import catch_warnings, simplefilter

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.files import no_empty_file_left
from recbole_metarec.jobs.database import connect_args, parsed, reason_of, shown, without_driver

DATABASE_ERRORS = (SQLAlchemyError, optuna.exceptions.StorageInternalError)
HEARTBEAT_SECONDS, GRACE_SECONDS = 10, 60  # a trial without a heartbeat for so long has lost its process
_TRIES, _PAUSE_SECONDS = 12, 0.25


def storage_name(url: str) -> str:
    """A storage's URL for messages and commands, without a password. Raises ConfigError if it is none."""
    return shown(parsed(url, "--storage"))


@contextmanager
def storage_at(url: str, must_exist: bool = False) -> Iterator[RDBStorage]:
    """The storage at an SQLAlchemy URL, made if it is absent.

    Raises ConfigError if it is no such URL or, with ``must_exist``, an SQLite file that is absent; DataError if it
    cannot be opened or, later, used.
    """
    address = parsed(url, "--storage")
    name, is_file = shown(address), address.get_backend_name() == "sqlite"
    file = Path(address.database) if is_file and address.database else None
    if file:
        if must_exist and not file.is_file():
            raise ConfigError(f"{name}: there is no such storage; run recbole-metarec tune first")
        file.parent.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # of a failed trial we print the error ourselves
    try:
        with no_empty_file_left(file):
            storage = _opened(address)
    except ImportError as error:
        raise without_driver(address, error) from error
    except (*DATABASE_ERRORS, RuntimeError) as error:
        raise _fault(name, error) from error
    try:
        yield storage
    except DATABASE_ERRORS as error:
        raise _fault(name, error) from error
    finally:
        storage.engine.dispose()


def _opened(address: URL) -> RDBStorage:
    """Opens a storage; another command may be creating its tables at the same moment, in several steps."""
    url = address.render_as_string(hide_password=False)
    options = {"connect_args": connect_args(address), "pool_pre_ping": True}
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
            except SQLAlchemyError as error:
                if isinstance(error, OperationalError) and address.get_backend_name() != "sqlite":  # no server there
                    raise
                sleep(_PAUSE_SECONDS)
        return RDBStorage(url, options, **heartbeat)


def _fault(name: str, error: Exception) -> DataError:
    return DataError(f"{name}: {reason_of(error)}; check that it is a storage of trials and may be written")
