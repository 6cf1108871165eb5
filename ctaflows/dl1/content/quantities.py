"""The numbers that tell how good a DL1 file is: frozen records, JSON both ways.

What a file does not hold, or what too few events do not tell, is None, never a guess. Types of
events have the names in `ctaflows.dl1.content.layout.EVENT_TYPES`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ctaflows.model import Record

#: Parts of the values that lie below each of `Spread.quantiles`.
FRACTIONS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)

#: Longer steps in time are gaps (lstchain.reco.utils.get_effective_time).
GAP_S = 0.01


@dataclass(frozen=True, slots=True)
class Spread(Record):
    """How values are distributed.

    Attributes
    ----------
    n : int
        Finite values.
    n_nan : int
        Values that are NaN or infinite.
    mean, std, minimum, maximum : float or None
        Of the finite values; ``std`` of the population.
    quantiles : tuple of 7 floats, or None
        Values below which 1, 5, 25, 50, 75, 95 and 99 % lie (`FRACTIONS`).
    is_exact : bool
        False where the quantiles have a relative error of up to 0.1 % (more than 262,144 values).
    """

    n: int
    n_nan: int = 0
    mean: float | None = None
    std: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    quantiles: tuple[float, ...] | None = None
    is_exact: bool = True

    @property
    def median(self) -> float | None:
        """The value in the middle."""
        return self.quantiles[FRACTIONS.index(0.5)] if self.quantiles else None


@dataclass(frozen=True, slots=True)
class Identities(Record):
    """The events' numbers and tags.

    Attributes
    ----------
    n_duplicate : int or None
        Events with a number that another one has too.
    n_missing : int or None
        Numbers between the lowest and the highest that no event has. Both are None where several
        runs or telescopes are in the table.
    n_trigger_mismatches : int or None
        Events for which ``ucts_trigger_type`` is not ``trigger_type`` (lstchain).
    n_ucts_jumps : int or None
        Events for which ``ucts_jump`` is set (lstchain).
    """

    n_duplicate: int | None = None
    n_missing: int | None = None
    n_trigger_mismatches: int | None = None
    n_ucts_jumps: int | None = None


@dataclass(frozen=True, slots=True)
class Times(Record):
    """How time goes on from event to event.

    Attributes
    ----------
    n : int
        Events that have a time.
    n_unset : int
        Events without one, or with one outside of 1972 to 2100.
    n_backward : int
        Steps backwards.
    n_gaps : int
        Steps of more than ``gap_s``.
    max_step_s, min_step_s, mean_step_s : float or None
        The longest step; the shortest and the mean of those between 0 and ``gap_s``.
    live_fraction : float or None
        1 / (1 + r d) with the rate r = 1 / (mean_step_s - d) and the dead time d = min_step_s.
    live_time_s : float or None
        The time in steps of up to ``gap_s`` times ``live_fraction``.
    gap_s : float
        Steps of more seconds are gaps.
    """

    n: int
    n_unset: int = 0
    n_backward: int = 0
    n_gaps: int = 0
    max_step_s: float | None = None
    min_step_s: float | None = None
    mean_step_s: float | None = None
    live_fraction: float | None = None
    live_time_s: float | None = None
    gap_s: float = GAP_S


@dataclass(frozen=True, slots=True)
class Rate(Record):
    """How the rate of events of one type goes on.

    Attributes
    ----------
    mean_hz, std_hz, minimum_hz, maximum_hz : float
        Over whole bins of ``Rates.bin_s``; ``std_hz`` of the population.
    excess : float or None
        Relative spread beyond that of chance: sqrt(var(n) - mean(n)) / mean(n) of the counts n in
        the bins, 0 where it is less than that of chance.
    counts : tuple of int
        Events in each bin.
    """

    mean_hz: float
    std_hz: float
    minimum_hz: float
    maximum_hz: float
    excess: float | None = None
    counts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Rates(Record):
    """Rates in the course of time.

    Attributes
    ----------
    bin_s : float
        Width of a bin in seconds, from the first event on.
    n_bins : int
        Bins that are over before the last event; the rest does not count.
    by_type : dict of str to Rate
        The types that there are, and ``all``.
    """

    bin_s: float
    n_bins: int
    by_type: dict[str, Rate] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pointing(Record):
    """Where the telescope pointed.

    Attributes
    ----------
    n : int
        Directions that are stored: one an event (lstchain), or the monitoring's (ctapipe).
    n_nan : int
        Those that are NaN.
    altitude_deg, azimuth_deg : float or None
        Mean direction; the azimuth from 0 to 360.
    zenith_deg : float or None
        90 - ``altitude_deg``.
    span_deg : float or None
        Greatest angle between the first direction and another one.
    max_step_deg : float or None
        Greatest angle between one direction and the next.
    """

    n: int
    n_nan: int = 0
    altitude_deg: float | None = None
    azimuth_deg: float | None = None
    zenith_deg: float | None = None
    span_deg: float | None = None
    max_step_deg: float | None = None


@dataclass(frozen=True, slots=True)
class Spectrum(Record):
    """The differential intensity spectrum dR/dI of cosmics.

    Attributes
    ----------
    counts : tuple of int
        Events in lstchain's bins, ``numpy.logspace(1, 6, 101)`` p.e.
    rate_at_422 : float or None
        p of dR/dI = p (I / 422 p.e.) ** q between 316 and 562 p.e., in Hz / p.e.
    index : float or None
        q of it.
    rate_at_422_zenith, index_zenith : float or None
        Both as they would be at the zenith.
    index_error : float or None
        Standard error of ``index``.
    """

    counts: tuple[int, ...]
    rate_at_422: float | None = None
    index: float | None = None
    rate_at_422_zenith: float | None = None
    index_zenith: float | None = None
    index_error: float | None = None


@dataclass(frozen=True, slots=True)
class Charges(Record):
    """The images of one type of events.

    Attributes
    ----------
    n : int
        Images that were read.
    charge_mean : float or None
        Mean over the pixels of each one's mean charge, in p.e.
    charge_std : float or None
        Mean over the pixels of each one's standard deviation of the charge, in p.e.
    charge_mean_pixels, charge_std_pixels : Spread or None
        How mean and deviation are distributed over the pixels.
    n_noisy : int or None
        Pixels with a deviation of more than 2.5 p.e. (pedestals only).
    time_mean_ns, relative_time_std_ns : float or None
        Means over the pixels of each one's mean peak time, and of the deviation of its time from
        that of the rest of the camera (charges of more than 1 p.e.; flat-field events only).
    """

    n: int
    charge_mean: float | None = None
    charge_std: float | None = None
    charge_mean_pixels: Spread | None = None
    charge_std_pixels: Spread | None = None
    n_noisy: int | None = None
    time_mean_ns: float | None = None
    relative_time_std_ns: float | None = None


@dataclass(frozen=True, slots=True)
class Images(Record):
    """The table of images.

    Attributes
    ----------
    n : int
        Images there are.
    n_read : int
        Images that were read: all, or a choice of them (see `inspect_file`).
    n_pixels : int
        Pixels of each.
    n_dead_pixels : int or None
        Pixels without any charge in all images of calibration events that were read, or in all
        images where there are none of these.
    by_type : dict of str to Charges
        The types of events that were read.
    n_nan : int or None
        Charges that are NaN or infinite, in the images that were read.
    """

    n: int
    n_read: int
    n_pixels: int
    n_dead_pixels: int | None = None
    by_type: dict[str, Charges] = field(default_factory=dict)
    n_nan: int | None = None


@dataclass(frozen=True, slots=True)
class Gain(Record):
    """Calibration events in one gain channel: medians over the pixels.

    Attributes
    ----------
    charge_mean, charge_std : float or None
        In ADC counts, of the last row.
    time_mean_ns : float or None
        Of flat-field events.
    """

    charge_mean: float | None = None
    charge_std: float | None = None
    time_mean_ns: float | None = None


@dataclass(frozen=True, slots=True)
class Calibration(Record):
    """What the file's monitoring tables say of the calibration (lstchain).

    Attributes
    ----------
    n_pedestal_events, n_flatfield_events : int or None
        Calibration events that the last row of each table is made of.
    pedestal, flatfield : dict of str to Gain
        By gain channel: ``high``, ``low``.
    n_unusable_pixels : int or None
        Pixels that are flagged unusable in a gain channel, in any row.
    n_pixels : int or None
        Pixels of the camera.
    """

    n_pedestal_events: int | None = None
    n_flatfield_events: int | None = None
    pedestal: dict[str, Gain] = field(default_factory=dict)
    flatfield: dict[str, Gain] = field(default_factory=dict)
    n_unusable_pixels: int | None = None
    n_pixels: int | None = None


@dataclass(frozen=True, slots=True)
class Quantities(Record):
    """All of them. A part is None where the file does not have what it is made of.

    Attributes
    ----------
    identities : Identities or None
        Numbers and tags of the events.
    times : Times or None
        Order, gaps, dead time.
    rates : Rates or None
        Rates in the course of time; None where no whole second is there.
    pointing : Pointing or None
        Directions.
    intensity : dict of str to Spread
        Intensities in p.e. by type of events; images that do not survive the cleaning are NaN.
    n_incomplete : int or None
        Events with an intensity, but NaN in another of the Hillas parameters.
    spectrum : Spectrum or None
        Of the cosmics' intensities; not of simulated ones.
    images : Images or None
        Charges and times.
    calibration : Calibration or None
        What the monitoring tables say.
    """

    identities: Identities | None = None
    times: Times | None = None
    rates: Rates | None = None
    pointing: Pointing | None = None
    intensity: dict[str, Spread] = field(default_factory=dict)
    n_incomplete: int | None = None
    spectrum: Spectrum | None = None
    images: Images | None = None
    calibration: Calibration | None = None
