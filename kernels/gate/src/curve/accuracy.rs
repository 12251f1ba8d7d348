//! What error a curve makes against its real function, before anything runs.

use super::{Curve, CurveError, FAR, finite, unit};
use crate::activation::Activation;

/// Predicted error of a curve against the real function, all as real numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Accuracy {
    /// Largest error inside the window, over every input and both roundings.
    pub max_inside: f64,
    /// Largest error outside the window.
    pub max_outside: f64,
    /// Largest error at the two edges of the window.
    pub at_edge: f64,
    /// Root mean square for inputs uniform over the window.
    pub rms_uniform: f64,
    /// Root mean square for inputs from N(0, 2^2).
    pub rms_normal: f64,
    /// Mean for inputs from N(0, 2^2): the bias.
    pub mean_normal: f64,
}

impl Curve {
    /// Predicted error against the real function.
    ///
    /// # Errors
    /// [`CurveError::NotFinite`] where the function has no value.
    pub fn accuracy(&self, activation: &Activation) -> Result<Accuracy, CurveError> {
        let edge = 1_i64 << (self.window_bits - 1 + self.shift);
        finite(activation, 0.0)?;
        let outside = self.max_error_outside(activation)?;
        let uniform = self.moments(activation, edge, |_| 1.0)?;
        // Twelve standard deviations of N(0, 2^2) are beyond f64's sum of weights already at nine.
        let reach = (24.0 * unit(self.frac)).min((1_u64 << 22) as f64) as i64;
        let normal = self.moments(activation, reach, |x| libm::exp(-x * x / 8.0))?;
        Ok(Accuracy {
            max_inside: self.max_error_inside(activation)?,
            max_outside: outside,
            at_edge: self.worst_error(activation, -edge)?.max(self.worst_error(activation, edge)?),
            rms_uniform: uniform.0,
            rms_normal: normal.0,
            mean_normal: normal.1,
        })
    }

    /// What the output for input `x`, in units of 2^-frac, should be, as a real number. It is `activation`'s value
    /// within the range in which that was compared with the lines. Beyond that range it is the line's value: a formula
    /// may overflow there, and the line is what is meant.
    #[must_use]
    pub fn exact(&self, activation: &Activation, x: i64) -> f64 {
        let edge = 1_i64 << (self.window_bits - 1 + self.shift);
        let real = x as f64 / unit(self.frac);
        if real.abs() <= FAR.max(edge as f64 / unit(self.frac)) {
            return activation.eval(real);
        }
        self.line(x >> self.shift).real(real, self.frac)
    }

    /// Largest error over every input of the window, either rounding.
    pub(super) fn max_error_inside(&self, activation: &Activation) -> Result<f64, CurveError> {
        let edge = 1_i64 << (self.window_bits - 1 + self.shift);
        // Inputs less than a grid step from the edge may round out of the window: they count as outside.
        let last = edge - (1 << self.shift);
        (-edge..=last).try_fold(0.0, |worst: f64, x| Ok(worst.max(self.worst_error(activation, x)?)))
    }

    /// Largest distance of the function from its lines outside the window, on a grid that coarsens outwards to [`FAR`].
    pub(super) fn max_error_outside(&self, activation: &Activation) -> Result<f64, CurveError> {
        let edge = (1_i64 << (self.window_bits - 1)) as f64 / unit(self.frac - self.shift);
        let mut worst = 0.0_f64;
        let mut x = edge;
        while x <= FAR.max(2.0 * edge) {
            for (x, line) in [(x, self.right), (-x, self.left)] {
                worst = worst.max((finite(activation, x)? - line.real(x, self.frac)).abs());
            }
            // 1/256 of the edge's distance per step: fine where an activation still bends, few steps in all.
            x += x / 256.0;
        }
        Ok(worst)
    }

    /// The larger error of the two allowed outputs at `x`, in units of 2^-frac, as a real number.
    fn worst_error(&self, activation: &Activation, x: i64) -> Result<f64, CurveError> {
        let exact = finite(activation, x as f64 / unit(self.frac))?;
        let errors = self.reference(x).map(|y| (y as f64 / unit(self.frac) - exact).abs());
        Ok(errors.into_iter().fold(0.0, f64::max))
    }

    /// Root mean square and mean error over |x| < `reach` (units of 2^-frac) weighted by a density, in expectation over
    /// the rounding.
    fn moments(
        &self,
        activation: &Activation,
        reach: i64,
        density: impl Fn(f64) -> f64,
    ) -> Result<(f64, f64), CurveError> {
        let (mut weight, mut sum, mut squares) = (0.0, 0.0, 0.0);
        for x in -reach..reach {
            let real = x as f64 / unit(self.frac);
            let up = (x & ((1 << self.shift) - 1)) as f64 / unit(self.shift);
            let w = density(real);
            let exact = finite(activation, real)?;
            for (y, p) in self.reference(x).into_iter().zip([1.0 - up, up]) {
                let error = y as f64 / unit(self.frac) - exact;
                sum += w * p * error;
                squares += w * p * error * error;
            }
            weight += w;
        }
        Ok(((squares / weight).sqrt(), sum / weight))
    }
}
