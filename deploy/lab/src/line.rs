//! A straight line through points.

use serde::{Deserialize, Serialize};

/// The line of least squares.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Change of y for a change of x by 1.
    pub slope: f64,
    /// y at x = 0.
    pub intercept: f64,
    /// The largest distance of a point from the line, in y.
    pub residual: f64,
}

impl Line {
    /// Through `points`, each an x and a y; none for fewer than two different x.
    #[must_use]
    pub fn fit(points: &[(f64, f64)]) -> Option<Self> {
        let count = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
        if points.len() < 2 || spread == 0.0 {
            return None;
        }
        let slope = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>() / spread;
        let intercept = y - slope * x;
        let distances = points.iter().map(|point| (point.1 - slope * point.0 - intercept).abs());
        Some(Self { slope, intercept, residual: distances.fold(0.0, f64::max) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_on_a_line_give_it_back() {
        let line = Line::fit(&[(1.0, 5.0), (2.0, 8.0), (4.0, 14.0)]).unwrap();
        assert!((line.slope - 3.0).abs() < 1e-12 && (line.intercept - 2.0).abs() < 1e-12);
        assert!(line.residual < 1e-12);
    }

    #[test]
    fn a_point_beside_the_line_is_its_residual() {
        let line = Line::fit(&[(0.0, 0.0), (1.0, 2.0), (2.0, 1.0), (3.0, 3.0)]).unwrap();
        assert!((line.slope - 0.8).abs() < 1e-12);
        assert!((line.residual - 0.9).abs() < 1e-12);
    }

    #[test]
    fn one_place_makes_no_line() {
        assert_eq!(Line::fit(&[(1.0, 1.0)]), None);
        assert_eq!(Line::fit(&[(1.0, 1.0), (1.0, 2.0)]), None);
    }
}
