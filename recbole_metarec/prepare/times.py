"""Times as numbers: numbers stay what they are, dates become seconds since 1970."""

import math
import re
from datetime import datetime

import numpy as np
import polars as pl

from recbole_metarec.errors import ConfigError

# ISO 8601: calendar days, weeks and days of the year, with or without hyphens; a zone as Z, UTC, +01, +0100 or +01:00
_DATE = (
    r"^(?P<day>[0-9]{4}(?:-[0-9]{2}-[0-9]{2}|-?W[0-9]{2}-?[1-7]|-?[0-9]{3}|-[0-9]{2}|[0-9]{4}))"
    r"(?:[Tt ](?P<hour>[0-9]{2})(?::?(?P<minute>[0-9]{2})(?::?(?P<second>[0-9]{2}))?)?(?:[.,](?P<part>[0-9]+))?"
    r" ?(?:[Zz]|UTC|GMT|(?P<sign>[-+\x{2212}])(?P<zone_hour>[0-9]{2}):?(?P<zone_minute>[0-9]{2})?)?)?$"
)
_PYTHON_DATE = re.compile(_DATE.replace(r"\x{2212}", "\u2212"))
_PLAIN_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:([T ])[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z| UTC)?)?")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_SECOND, _MINUTE, _HOUR, _DAY = 10**6, 60 * 10**6, 3600 * 10**6, 86400 * 10**6  # in microseconds
_DAYS = ("%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d", "%d %b %Y", "%d %B %Y",
         "%b %d, %Y", "%B %d, %Y", "%d-%b-%Y", "%m/%d/%y", "%d/%m/%y", "%d.%m.%y")  # fmt: skip
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p", ", %H:%M", ", %H:%M:%S")
_KNOWN_FORMATS = (
    *(day + clock for day in _DAYS for clock in _CLOCKS),
    "%Y/%m/%dT%H:%M:%S", "%a %b %d %H:%M:%S %z %Y", "%a %b %d %H:%M:%S %Y", "%a, %d %b %Y %H:%M:%S %z",
    "%d/%b/%Y:%H:%M:%S %z",
)  # fmt: skip

_WRITTEN = {"%Y%m%d": 1, "%Y%m%d%H%M": 10**4, "%Y%m%d%H%M%S": 10**6}  # as one number, which is the day times this


def looks_like_time(text: str) -> bool:
    """Whether a text is a number or a date, and so no name of a column."""
    return bool(_NUMBER.fullmatch(text) or _PYTHON_DATE.match(text))


def are_dates(times: pl.Series) -> bool | None:
    """Whether times are dates rather than numbers, by the first one that is either; None if none is."""
    for value in times.drop_nulls():
        if not isinstance(value, str) or _NUMBER.fullmatch(value.strip()):
            return False
        if _PYTHON_DATE.match(value.strip()):
            return True
    return None


def as_numbers(times: pl.Series, dates: bool, time_format: str = "") -> pl.Series:
    """Times as Int64 where all are whole, else Float64; null for what is neither a finite number nor a date.

    times: numbers, dates and times, or text. dates: whether text is read as ISO 8601 (``2023-01-31``,
    ``2023-01-31 12:30``, ``20230131T123005.25+01``, ``2023-W05-2``; UTC where no zone is named), else as numbers.
    time_format: how text is written, as in :meth:`datetime.strftime`. Dates become seconds since 1970, to the
    microsecond.
    """
    if time_format and times.dtype.is_numeric():
        times = times.cast(pl.Int64, strict=False).cast(pl.String)
    if times.dtype.is_integer():
        return times.cast(pl.Int64, strict=False)
    if times.dtype.is_temporal() and times.dtype not in (pl.Time, pl.Duration):
        return _seconds(_in_utc(times).dt.timestamp("us"))
    if times.dtype == pl.String:
        text = times.str.strip_chars()
        if time_format:
            return _seconds(_formatted(text, time_format))
        if dates:
            return _seconds(_iso_dates(text))
        whole = text.cast(pl.Int64, strict=False)
        if whole.null_count() == times.null_count():
            return whole
        times = text.cast(pl.Float64, strict=False)
    if not (times.dtype.is_numeric() or times.dtype.is_decimal()):
        return pl.Series(times.name, [None] * len(times), dtype=pl.Int64)
    return whole_if_exact(times.cast(pl.Float64).to_frame().select(_finite(times.name)).to_series())


def whole_if_exact(times: pl.Series) -> pl.Series:
    """Float64 as Int64 if that loses nothing."""
    largest = times.abs().max()
    if largest is not None and math.isfinite(largest) and largest < 2**53 and (times % 1 == 0).fill_null(True).all():
        return times.cast(pl.Int64)
    return times


def check_format(time_format: str) -> None:
    """Raises ConfigError for a ``--time_format`` that does not say the day."""
    told = {"%s"} & {*re.findall("%.", time_format)} or re.search("%[yYcGxDF]", time_format)
    if "%Z" in re.findall("%.", time_format):
        raise ConfigError(
            "--time_format: names of zones (%Z) are not read, as one name stands for several; write zones as +0100 (%z)"
        )
    try:
        if told and len(_formatted(pl.Series(["x"]), time_format)):
            return
        reason = "it says no year"
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
    raise ConfigError(
        f"--time_format: {time_format!r} cannot be used ({reason}); write one such as '%m/%d/%Y %H:%M:%S'"
    )


def written_form(times: np.ndarray) -> str:
    """The ``--time_format`` of numbers that are dates written as one number, such as 20230131; "" if they are not.

    times: [n] of any numeric dtype. With a clock they look like 202301311230 or 20230131123005.
    """
    for form, unit in _WRITTEN.items():
        if len(times) and times.min() >= 1900_00_00 * unit and times.max() < 2101_00_00 * unit:
            return "" if as_numbers(pl.Series(times), dates=False, time_format=form).null_count() else form
    return ""


def fitting_formats(value: str) -> list[str]:
    """At most two of the usual formats by which a time can be read."""
    return [form for form in _KNOWN_FORMATS if _fits(value.strip(), form)][:2]


def _fits(value: str, form: str) -> bool:
    try:
        datetime.strptime(value, form)
    except ValueError:
        return False
    return True


def _formatted(text: pl.Series, time_format: str) -> pl.Series:
    # Python's %f is the digits after a full stop, which chrono reads together with it
    chrono = re.sub(r"\.?%f", "%.f", time_format)
    return _in_utc(text.str.to_datetime(chrono, time_unit="us", strict=False)).dt.timestamp("us")


def _finite(name: str) -> pl.Expr:
    return pl.when(pl.col(name).is_finite()).then(pl.col(name)).otherwise(None).alias(name)


def _in_utc(times: pl.Series) -> pl.Series:
    if isinstance(times.dtype, pl.Datetime) and times.dtype.time_zone:
        times = times.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return times.cast(pl.Datetime("us"), strict=False)


def _iso_dates(text: pl.Series) -> pl.Series:
    """Microseconds since 1970, null for what is no ISO 8601 date."""
    plain = _plain_dates(text)
    if plain is not None:
        return plain
    parts = text.str.extract_groups(_DATE).struct.unnest()
    clock = ("hour", "minute", "second", "zone_hour", "zone_minute")
    frame = parts.with_columns(_days(parts["day"]).alias("day"), pl.col(clock).cast(pl.Int64))
    hour, minute, second, zone_hour, zone_minute = (pl.col(name).fill_null(0) for name in clock)
    is_clock = ((hour < 24) | ((hour == 24) & (minute + second == 0))) & (minute < 60) & (second < 61)
    is_clock &= (zone_hour < 24) & (zone_minute < 60)
    smallest = pl.when(pl.col("second").is_not_null()).then(_SECOND)
    smallest = smallest.when(pl.col("minute").is_not_null()).then(_MINUTE).otherwise(_HOUR)
    micro = pl.col("day") * _DAY + hour * _HOUR + minute * _MINUTE + second * _SECOND
    if frame["part"].null_count() < len(frame):
        part = ("0." + pl.col("part").str.slice(0, 15)).cast(pl.Float64) * smallest
        micro += part.fill_null(0).round().cast(pl.Int64)
    if frame["sign"].null_count() < len(frame):
        east = pl.when(pl.col("sign") == "+").then(1).otherwise(-1)
        micro -= east * (zone_hour * _HOUR + zone_minute * _MINUTE)
    return frame.select(pl.when(is_clock).then(micro).alias(text.name)).to_series()


def _plain_dates(text: pl.Series) -> pl.Series | None:
    """The same where all dates are of the form of the first, one of the usual ones: this takes a fifth of the time."""
    first = next(iter(text.drop_nulls()), "")
    form = _PLAIN_DATE.fullmatch(first)
    if form is None:
        return None
    pattern, shape = "[0-9]{4}-[0-9]{2}-[0-9]{2}", "%Y-%m-%d"
    if form[1]:
        pattern += f"{form[1]}(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
        pattern += ("[.][0-9]{1,6}" if form[2] else "") + (form[3] or "")
        shape += f"{form[1]}%H:%M:%S{'%.f' if form[2] else ''}{form[3] or ''}"
    if not text.str.contains(f"^{pattern}$").all():
        return None
    return text.str.to_datetime(shape, time_unit="us", strict=False).dt.timestamp("us")


def _days(days: pl.Series) -> pl.Series:
    """Days since 1970 as Int64."""
    bare = days.str.replace_all("-", "", literal=True)
    lengths, weeks = bare.str.len_bytes(), bare.str.contains("W", literal=True)
    dates = bare.str.to_date("%Y%m%d", strict=False)
    for form, which in (("%GW%V%u", weeks), ("%Y%j", lengths == 7)):
        if which.any():
            dates = dates.zip_with(~which.fill_null(False), bare.str.to_date(form, strict=False))
    months = (lengths == 6).fill_null(False)
    if months.any():
        dates = dates.zip_with(~months, (bare + "01").str.to_date("%Y%m%d", strict=False))
    return dates.cast(pl.Int32).cast(pl.Int64)


def _seconds(micro: pl.Series) -> pl.Series:
    if (micro % 1_000_000 == 0).fill_null(True).all():
        return micro // 1_000_000
    return (micro / 1_000_000).cast(pl.Float64)
