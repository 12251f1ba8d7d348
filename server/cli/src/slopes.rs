//! Lines of time over delay: what `suf lab slope` measures, and reports draw.

use std::{fs, io::ErrorKind, path::Path};

use serde::{Deserialize, Serialize};
use suf_lab::Line;

use crate::{error::Error, exports::write_json, out};

/// File of the slopes in a folder of results.
pub const FILE: &str = "slopes.json";

/// The slope may be off by this share.
const TOLERANCE: f64 = 0.02;

/// One protocol's line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slope {
    /// Protocol, or a model's folder.
    pub protocol: String,
    /// Name of the function, or of how many tokens the text is.
    pub gate: String,
    /// Elements of the tensor.
    pub elements: u64,
    /// Rounds as declared, those that open the inputs aside.
    pub declared_rounds: u32,
    /// Causal depth, as measured at the link.
    pub measured_rounds: u32,
    /// Milliseconds of evaluation for each millisecond of delay.
    #[serde(flatten)]
    pub line: Line,
    /// Delay of one direction and evaluation (mean of both parties, least of the repeats), in milliseconds.
    pub points: Vec<(f64, f64)>,
}

impl Slope {
    /// Whether declaration, causal depth and slope are one number.
    #[must_use]
    pub fn agrees(&self) -> bool {
        let declared = f64::from(self.declared_rounds);
        self.measured_rounds == self.declared_rounds
            && (self.line.slope - declared).abs() <= TOLERANCE * declared
    }
}

/// Writes the slopes into `folder`.
///
/// # Errors
/// When it cannot be written; what stood there is then as it was.
pub fn write(folder: &Path, slopes: &[Slope]) -> Result<(), Error> {
    write_json(&folder.join(FILE), &slopes)
}

/// The slopes in `folder`; none where none were measured. A damaged file is warned about, left out and left as it is.
#[must_use]
pub fn beside(folder: &Path) -> Vec<Slope> {
    let path = folder.join(FILE);
    let read = fs::read(&path).and_then(|text| Ok(serde_json::from_slice(&text)?));
    match read {
        Ok(slopes) => slopes,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            out::note(format_args!(
                "warning: {} holds no slopes of this version: {error}; the report is made without it",
                path.display()
            ));
            Vec::new()
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Rounds of 10 ms and more, and 2 ms besides.
    pub(crate) fn example(protocol: &str, rounds: u32) -> Slope {
        let points: Vec<_> = [10.0, 30.0, 50.0].map(|delay| (delay, f64::from(rounds) * delay + 2.0)).into();
        Slope {
            protocol: protocol.into(),
            gate: "gelu".into(),
            elements: 256,
            declared_rounds: rounds,
            measured_rounds: rounds,
            line: Line::fit(&points).expect("three delays"),
            points,
        }
    }

    #[test]
    fn slopes_come_back_from_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(beside(folder.path()), []);
        let slopes = [example("onehot", 3), example("sigma", 7)];
        write(folder.path(), &slopes).unwrap();
        assert_eq!(beside(folder.path()), slopes);
        fs::write(folder.path().join(FILE), "{").unwrap();
        assert_eq!(beside(folder.path()), []);
    }

    #[test]
    fn a_slope_that_is_off_does_not_agree() {
        let slope = example("onehot", 3);
        assert!(slope.agrees());
        let line = Line { slope: 3.07, ..slope.line };
        assert!(!Slope { line, ..slope.clone() }.agrees());
        assert!(!Slope { measured_rounds: 4, ..slope }.agrees());
    }
}
