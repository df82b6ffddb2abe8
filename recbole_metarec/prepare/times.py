"""Times as numbers: numbers stay what they are, dates become seconds since 1970."""

import math
import re

import polars as pl

_DATE = (
    r"^(?P<day>\d{4}-\d{2}-\d{2})"
    r"(?:[T ](?P<clock>\d{2}:\d{2})(?P<seconds>:\d{2}(?:\.\d{1,9})?)?)? ?(?P<zone>Z|[+-]\d{2}:?\d{2})?$"
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def are_dates(times: pl.Series) -> bool | None:
    """Whether times are dates rather than numbers, by the first one that is either; None if none is."""
    for value in times.drop_nulls():
        if not isinstance(value, str) or _NUMBER.fullmatch(value.strip()):
            return False
        if re.match(_DATE, value.strip()):
            return True
    return None


def as_numbers(times: pl.Series, dates: bool) -> pl.Series:
    """Times as Int64 where all are whole, else Float64; null for what is neither a finite number nor a date.

    times: numbers, dates and times, or text. dates: whether text is read as ISO 8601 dates (``2023-01-31``,
    ``2023-01-31 12:30``, ``2023-01-31T12:30:05.25+01:00``; UTC where no zone is named), else as numbers.
    Dates become seconds since 1970, to the microsecond.
    """
    if times.dtype.is_integer():
        return times.cast(pl.Int64, strict=False)
    if times.dtype.is_temporal():
        return _seconds(_in_utc(times))
    if times.dtype == pl.String:
        text = times.str.strip_chars()
        if dates:
            return _seconds(_parse_dates(text))
        whole = text.cast(pl.Int64, strict=False)
        if whole.null_count() == times.null_count():
            return whole
        times = text.cast(pl.Float64, strict=False)
    if not times.dtype.is_numeric():
        return pl.Series(times.name, [None] * len(times), dtype=pl.Int64)
    return whole_if_exact(times.cast(pl.Float64).to_frame().select(_finite(times.name)).to_series())


def whole_if_exact(times: pl.Series) -> pl.Series:
    """Float64 as Int64 if that loses nothing."""
    largest = times.abs().max()
    if largest is not None and math.isfinite(largest) and largest < 2**53 and (times % 1 == 0).fill_null(True).all():
        return times.cast(pl.Int64)
    return times


def _finite(name: str) -> pl.Expr:
    return pl.when(pl.col(name).is_finite()).then(pl.col(name)).otherwise(None).alias(name)


def _in_utc(times: pl.Series) -> pl.Series:
    if isinstance(times.dtype, pl.Datetime) and times.dtype.time_zone:
        times = times.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return times.cast(pl.Datetime("us"), strict=False)


def _parse_dates(text: pl.Series) -> pl.Series:
    parts = text.str.extract_groups(_DATE).struct.unnest()
    zone = pl.when(pl.col("zone").is_in(["Z"])).then(pl.lit("+00:00")).otherwise(pl.col("zone")).fill_null("+00:00")
    clock = pl.col("clock").fill_null("00:00") + pl.col("seconds").fill_null(":00")
    whole = parts.select((pl.col("day") + "T" + clock + zone).alias(text.name)).to_series()
    return _in_utc(whole.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", time_unit="us", time_zone="UTC", strict=False))


def _seconds(times: pl.Series) -> pl.Series:
    micro = times.dt.timestamp("us")
    if (micro % 1_000_000 == 0).fill_null(True).all():
        return micro // 1_000_000
    return (micro / 1_000_000).cast(pl.Float64)
