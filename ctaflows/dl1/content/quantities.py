"""Quantities from which the quality of a DL1 file is judged: frozen records, JSON both ways.

What a file does not hold, or can't be determined from so few events, is None, never a guess. Types
of events have the names in `ctaflows.dl1.content.layout.EVENT_TYPES`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ctaflows.model import Record

#: Fractions of the values that lie below each of `Spread.quantiles`.
FRACTIONS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)

#: A longer time between two events is a gap (lstchain.reco.utils.get_effective_time), seconds.
GAP_S = 0.01


@dataclass(frozen=True, slots=True)
class Spread(Record):
    """The distribution of values.

    Attributes
    ----------
    n : int
        Number of finite values.
    n_nan : int
        Number of values that are NaN or infinite.
    mean, std, minimum, maximum : float or None
        Of the finite values; ``std`` is the population standard deviation. None without any.
    quantiles : tuple of 7 floats, or None
        Values below which 1, 5, 25, 50, 75, 95 and 99 % of the finite values lie (`FRACTIONS`).
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
        """The median of the finite values; None without any."""
        return self.quantiles[FRACTIONS.index(0.5)] if self.quantiles else None


@dataclass(frozen=True, slots=True)
class Identities(Record):
    """Statistics of the event numbers (`event_id`) and trigger tags.

    Attributes
    ----------
    n_duplicate : int or None
        Number of events whose event number an earlier one has.
    n_missing : int or None
        Count of the event numbers between the lowest and the highest that no event has. Both are
        None where the table holds several runs, or several telescopes in lstchain's layout.
    n_trigger_mismatches : int or None
        Number of events with ``ucts_trigger_type`` different from ``trigger_type`` (lstchain).
    n_ucts_jumps : int or None
        Number of events with ``ucts_jump`` set (lstchain).
    """

    n_duplicate: int | None = None
    n_missing: int | None = None
    n_trigger_mismatches: int | None = None
    n_ucts_jumps: int | None = None


@dataclass(frozen=True, slots=True)
class Times(Record):
    """Statistics of the time differences between consecutive events.

    Attributes
    ----------
    n : int
        Number of events with a time.
    n_unset : int
        Number of events without a time, or with one outside of 1972 to 2100.
    n_backward : int
        Number of negative differences.
    n_gaps : int
        Number of differences of more than ``gap_s``.
    max_step_s : float or None
        Largest difference, in seconds.
    min_step_s, mean_step_s : float or None
        Smallest and mean of the differences between 0 and ``gap_s``, in seconds.
    live_fraction : float or None
        1 / (1 + r d), with the dead time d = ``min_step_s`` and the rate r = 1 /
        (``mean_step_s`` - d), as in lstchain.reco.utils.get_effective_time.
    live_time_s : float or None
        Sum of the differences between 0 and ``gap_s``, times ``live_fraction``, in seconds.
    gap_s : float
        Longer differences are gaps, in seconds (default: 0.01).
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
    """The rate of events of one type over time.

    Attributes
    ----------
    mean_hz, std_hz, minimum_hz, maximum_hz : float
        Over whole bins of ``Rates.bin_s``, in Hz; ``std_hz`` is the population standard deviation.
    excess : float or None
        Relative spread in excess of Poisson fluctuations: sqrt(var(n) - mean(n)) / mean(n) of the
        counts n in the bins, 0 where it is smaller than that of a Poisson process. None for a
        single bin.
    counts : tuple of int
        Number of events in each bin.
    """

    mean_hz: float
    std_hz: float
    minimum_hz: float
    maximum_hz: float
    excess: float | None = None
    counts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Rates(Record):
    """Rates of events over time.

    Attributes
    ----------
    bin_s : float
        Width of a bin in seconds; the first bin begins with the first event.
    n_bins : int
        Number of whole bins before the last event; later events are left out.
    by_type : dict of str to Rate
        Rate of each type of events in the file, and of ``all``.
    """

    bin_s: float
    n_bins: int
    by_type: dict[str, Rate] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pointing(Record):
    """The pointing of the telescope.

    Attributes
    ----------
    n : int
        Number of directions stored: one per event (lstchain), or monitoring data (ctapipe).
    n_nan : int
        Number of those that are NaN.
    altitude_deg, azimuth_deg : float or None
        Mean direction in degrees; the azimuth between 0 and 360.
    zenith_deg : float or None
        Zenith angle of the mean direction in degrees, 90 - ``altitude_deg``.
    span_deg : float or None
        Greatest angle between the first direction and any other, in degrees.
    max_step_deg : float or None
        Greatest angle between two consecutive directions, in degrees.
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
    """The differential intensity spectrum dR/dI of cosmics, see `ctaflows.dl1.content.spectrum`.

    Attributes
    ----------
    counts : tuple of 100 ints
        Number of events in lstchain's bins, ``numpy.logspace(1, 6, 101)`` p.e.
    rate_at_422 : float or None
        p in the power law dR/dI = p (I / 422 p.e.) ** q, fitted between 316 and 562 p.e., in
        Hz / p.e.
    index : float or None
        q in the power law.
    rate_at_422_zenith, index_zenith : float or None
        Both corrected to a pointing at the zenith.
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
    """Statistics of the images of one type of events.

    Attributes
    ----------
    n : int
        Number of images read. Datacheck: of events that the tables describe.
    charge_mean : float or None
        Mean over the pixels of the pixels' mean charges, in p.e.
    charge_std : float or None
        Mean over the pixels of the pixels' standard deviations of the charge, in p.e.
    charge_mean_pixels, charge_std_pixels : Spread or None
        Distribution over the pixels of mean and standard deviation of the charge, in p.e.
    n_noisy : int or None
        Number of pixels with a standard deviation of more than 2.5 p.e. (pedestals only).
    time_mean_ns : float or None
        Mean over the pixels of the pixels' mean peak times, in ns (charges of more than 1 p.e.;
        flat-field events only).
    relative_time_std_ns : float or None
        Mean over the pixels of the standard deviation of a pixel's peak time relative to the mean
        of the rest of the camera, in ns (likewise).
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
    """Statistics of the images.

    Attributes
    ----------
    n : int
        Number of images in the file.
    n_read : int
        Number of images read: all, or a selection (see `inspect_file`).
    n_pixels : int
        Number of pixels in an image.
    n_dead_pixels : int or None
        Number of pixels without charge in every image of a calibration event that was read, or in
        every image where no calibration events were read.
    by_type : dict of str to Charges
        Statistics for each type of events read.
    n_nan : int or None
        Number of charges that are NaN or infinite, in the images read.
    """

    n: int
    n_read: int
    n_pixels: int
    n_dead_pixels: int | None = None
    by_type: dict[str, Charges] = field(default_factory=dict)
    n_nan: int | None = None


@dataclass(frozen=True, slots=True)
class Gain(Record):
    """Calibration events in one gain channel: medians over the pixels, of the table's last row.

    Attributes
    ----------
    charge_mean, charge_std : float or None
        Mean and standard deviation of the charge, in ADC counts.
    time_mean_ns : float or None
        Mean peak time in ns (flat-field events only).
    """

    charge_mean: float | None = None
    charge_std: float | None = None
    time_mean_ns: float | None = None


@dataclass(frozen=True, slots=True)
class Calibration(Record):
    """The calibration that the file was made with, from its monitoring tables (lstchain).

    Attributes
    ----------
    n_pedestal_events, n_flatfield_events : int or None
        Number of calibration events that went into the last row of each table.
    pedestal, flatfield : dict of str to Gain
        By gain channel: ``high``, ``low``.
    n_unusable_pixels : int or None
        Number of pixels flagged unusable in any row and gain channel.
    n_pixels : int or None
        Number of pixels of the camera.
    """

    n_pedestal_events: int | None = None
    n_flatfield_events: int | None = None
    pedestal: dict[str, Gain] = field(default_factory=dict)
    flatfield: dict[str, Gain] = field(default_factory=dict)
    n_unusable_pixels: int | None = None
    n_pixels: int | None = None


@dataclass(frozen=True, slots=True)
class Quantities(Record):
    """All quantities of a file. A part is None where the file lacks the data for it.

    Attributes
    ----------
    identities : Identities or None
        Event numbers and trigger tags.
    times : Times or None
        Time differences between events: order, gaps, dead time.
    rates : Rates or None
        Rates over time; None where the events span less than a second.
    pointing : Pointing or None
        Directions of the telescope.
    intensity : dict of str to Spread
        Distribution of the intensity in p.e., by type of events; it is NaN for images of which
        nothing is left after the cleaning.
    n_incomplete : int or None
        Number of events with an intensity, but NaN in another Hillas parameter.
    spectrum : Spectrum or None
        Intensity spectrum of observed cosmics.
    images : Images or None
        Charges and peak times.
    calibration : Calibration or None
        The calibration that the file was made with.
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
