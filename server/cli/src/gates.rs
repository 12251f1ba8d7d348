//! Gates as users name them: a gate (built in, or the path of a gate file), a protocol, a shape.

use std::{fs, path::Path};

use suf_gate::{Gate, Protocol, catalog, gatefile::GateFile};

use crate::error::{Error, did_you_mean};

/// The gate file called `name`: built in, or read from a path (which has a `/` or ends in `.toml`).
///
/// # Errors
/// When there is none, or the file is not right; the message has the line and column.
pub fn file(name: &str) -> Result<GateFile, Error> {
    if name.contains('/') || Path::new(name).extension().is_some_and(|extension| extension == "toml") {
        let text = fs::read_to_string(name)
            .map_err(|error| Error::usage(format!("cannot read the gate file {name}: {error}")))?;
        return GateFile::parse(name, &text).map_err(Error::usage);
    }
    if !GateFile::builtin_names().any(|known| known == name) {
        let known: Vec<_> = GateFile::builtin_names().collect();
        return Err(Error::usage(format!(
            "no gate is called `{name}`{}; there are: {}, or give the path of a gate file",
            did_you_mean(name, known.iter().copied()),
            known.join(", ")
        )));
    }
    GateFile::builtin(name).map_err(Error::usage)
}

/// The gate of `file` under `protocol` in `shape`.
///
/// # Errors
/// When the file has no such shape, or the protocol cannot evaluate the function.
pub fn gate(file: &GateFile, protocol: Protocol, shape: Option<&str>) -> Result<Gate, Error> {
    let shape = shape.filter(|_| protocol == Protocol::Onehot);
    if let Some(name) = shape
        && !file.onehot.contains_key(name)
    {
        let known: Vec<_> = file.onehot.keys().map(String::as_str).collect();
        return Err(Error::usage(format!(
            "gate {} has no shape `{name}`{}; there are: {}",
            file.name(),
            did_you_mean(name, known.iter().copied()),
            known.join(", ")
        )));
    }
    catalog::gate(file, protocol, shape).map_err(Error::usage)
}

/// Every protocol that can evaluate the function of `file`, with its gate.
#[must_use]
pub fn available(file: &GateFile, shape: Option<&str>) -> Vec<Gate> {
    Protocol::ALL.into_iter().filter_map(|protocol| gate(file, protocol, shape).ok()).collect()
}

/// What a reader must know of a protocol's figures, wherever they are printed.
#[must_use]
pub fn caveat(gate: &Gate) -> Option<String> {
    let suf_gate::Shape::SufLut(table) = gate.shape() else { return None };
    // Half the table's entries, at scale 2^-12, on each side of 0.
    let bound = 1_u32 << (12 - (table.bits() - 1));
    Some(format!(
        "suf-lut is the published SUF row: a table on the low {} bits of x, right only for |x| < 1/{bound}",
        table.bits()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_met_with_the_known_ones() {
        let message = file("gelo").unwrap_err().to_string();
        assert!(message.contains("`gelu`") && message.contains("silu"), "{message}");
        let gelu = file("gelu").unwrap();
        let message = gate(&gelu, Protocol::Onehot, Some("ful")).unwrap_err().to_string();
        assert!(message.contains("`full`"), "{message}");
        assert!(file("./no-such.toml").is_err());
    }

    #[test]
    fn the_published_row_carries_its_range() {
        for (name, bound) in [("gelu", "1/32"), ("silu", "1/8")] {
            let gate = gate(&file(name).unwrap(), Protocol::SufLut, None).unwrap();
            assert!(caveat(&gate).unwrap().ends_with(bound));
        }
    }
}
