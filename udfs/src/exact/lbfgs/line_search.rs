//! The line search of L-BFGS: an interval of steps, one pass over the rows for each step that is
//! tried.

/// An end of the interval of a line search.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct End {
    pub(super) at: f64,
    pub(super) value: f64,
    pub(super) slope: f64,
}

/// A search along a direction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct LineSearch {
    /// The current step, as a factor of the direction.
    pub(super) step: f64,
    /// Slope of the objective where the search began; below 0.
    pub(super) slope: f64,
    /// A step that is too short.
    pub(super) low: End,
    /// A step that is too long, once one has been found.
    pub(super) high: Option<End>,
    /// Passes so far.
    pub(super) trials: u64,
}

impl LineSearch {
    /// Fraction of the interval by which a step stays away from its ends.
    const GUARD: f64 = 0.1;
    /// Bounds of the factor by which a step grows while none was too long.
    const LONGER: (f64, f64) = (1.1, 5.0);

    /// The next step: the minimum of the cubic through both ends, kept away from them, or, without
    /// an upper end, an extrapolation by the slopes (Nocedal and Wright, equation 3.59).
    pub(super) fn next(&self) -> f64 {
        let Self { low, high, step, .. } = *self;
        let Some(high) = high else {
            // The secant of the slopes at the beginning and here.
            let ratio = self.slope / (self.slope - low.slope);
            let (least, most) = Self::LONGER;
            let longer = if ratio.is_finite() && ratio > 0.0 { ratio } else { most };
            return step * longer.clamp(least, most);
        };
        let width = high.at - low.at;
        let (least, most) = (low.at + Self::GUARD * width, high.at - Self::GUARD * width);
        if !high.value.is_finite() {
            return least;
        }
        let d1 = low.slope + high.slope - 3.0 * (low.value - high.value) / (low.at - high.at);
        let root = (d1 * d1 - low.slope * high.slope).sqrt();
        let at = high.at - width * (high.slope + root - d1) / (high.slope - low.slope + 2.0 * root);
        if at.is_finite() { at.clamp(least, most) } else { low.at + width / 2.0 }
    }
}
