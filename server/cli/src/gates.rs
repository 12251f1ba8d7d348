//! Gates as users name them: a definition (built in, or the path of a file), a protocol, a shape.

use std::{fs, path::Path};

use suf_gate::{
    Gate, Protocol, Shape,
    activation::Activation,
    catalog,
    gatefile::GateFile,
    ring::{FRAC, WIRE},
    spec::{SpecFile, is_spec_file},
};

use crate::error::{Error, did_you_mean, named_once};

/// What a user's file or a built-in name stands for.
#[derive(Debug, Clone)]
pub enum Definition {
    /// A function with its window and lines, for every protocol.
    Gate(GateFile),
    /// An operator specification, for protocol `suf` alone.
    Spec(SpecFile),
}

impl Definition {
    /// The gate's name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Gate(file) => file.name(),
            Self::Spec(file) => &file.name,
        }
    }

    /// The shapes in which `protocol` evaluates it, by name; one without a name where there is no choice.
    #[must_use]
    pub fn shapes(&self, protocol: Protocol) -> Vec<Option<&str>> {
        match (self, protocol) {
            (Self::Gate(file), Protocol::Onehot) => {
                file.onehot.keys().map(|name| Some(name.as_str())).collect()
            }
            _ => vec![None],
        }
    }

    /// The real function; none for a specification that does not say what it approximates.
    #[must_use]
    pub fn function(&self) -> Option<&Activation> {
        match self {
            Self::Gate(file) => Some(&file.activation),
            Self::Spec(file) => file.activation.as_ref(),
        }
    }

    /// What the output for `x` should be, as a real number: the function's value (see [`Curve::exact`] for large `x`). A
    /// specification that approximates nothing has its own value, rounded down to its grid. None where the function has no
    /// value, or one that no output can have. `x` is in units of 2^-12.
    ///
    /// [`Curve::exact`]: suf_gate::Curve::exact
    #[must_use]
    pub fn exact(&self, x: i64) -> Option<f64> {
        let real = |units: i64| units as f64 / f64::from(1_u32 << FRAC);
        let y = match self {
            Self::Gate(file) => file.curve.exact(&file.activation, x),
            Self::Spec(file) => match &file.activation {
                Some(function) => function.eval(real(x)),
                None => real(file.spec.finish(file.spec.reference(x)[0])),
            },
        };
        // NaN is not in the range.
        (-LARGEST..=LARGEST).contains(&y).then_some(y)
    }
}

/// Outputs are signed 48-bit numbers in units of 2^-12.
const LARGEST: f64 = (1_u64 << (WIRE.bits() - 1 - FRAC)) as f64;

/// The definition called `name`: a built-in gate, or read from a path (which has a `/` or ends in `.toml`). What kind of file
/// it is shows in its contents.
///
/// # Errors
/// When there is none, or the file is not right; the message has the line and column.
pub fn file(name: &str) -> Result<Definition, Error> {
    if name.contains('/') || Path::new(name).extension().is_some_and(|extension| extension == "toml") {
        let bytes = own_file("the gate file", Path::new(name))?;
        let text = own_text(name, &bytes)?;
        return if is_spec_file(text) {
            SpecFile::parse(name, text).map(Definition::Spec).map_err(Error::usage)
        } else {
            GateFile::parse(name, text).map(Definition::Gate).map_err(Error::usage)
        };
    }
    if !GateFile::builtin_names().any(|known| known == name) {
        let known: Vec<_> = GateFile::builtin_names().collect();
        return Err(Error::usage(format!(
            "no gate is called `{name}`{}; there are: {}, or give the path of a gate file",
            did_you_mean(name, known.iter().copied()),
            known.join(", ")
        )));
    }
    GateFile::builtin(name).map(Definition::Gate).map_err(Error::usage)
}

/// The operator specification at `path`.
///
/// # Errors
/// When it is none, or not right; the message has the line and column.
pub fn spec(path: &Path) -> Result<Definition, Error> {
    let name = path.display().to_string();
    let bytes = own_file("the specification", path)?;
    SpecFile::parse(&name, own_text(&name, &bytes)?).map(Definition::Spec).map_err(Error::usage)
}

/// The bytes of a file of the user's; `what` says what it is.
///
/// # Errors
/// When it cannot be read, with what to look at.
pub(crate) fn own_file(what: &str, path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| {
        let name = path.display();
        Error::usage(format!("cannot read {what} {name}: {error}; see its path and its permissions"))
    })
}

/// The text of the file `name`.
fn own_text<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str, Error> {
    suf_toml::text(bytes).map_err(|mistake| Error::usage(format!("{name}: {mistake}")))
}

/// The gate of `definition` under `protocol` in `shape`.
///
/// # Errors
/// When the file has no such shape, a shape is named for a protocol that has none, or the protocol cannot evaluate the function.
pub fn gate(definition: &Definition, protocol: Protocol, shape: Option<&str>) -> Result<Gate, Error> {
    if let Some(shape) = shape.filter(|_| protocol != Protocol::Onehot) {
        return Err(Error::usage(format!(
            "protocol {protocol} has no shapes, so --shape {shape} means nothing: leave it out, or take onehot"
        )));
    }
    let file = match definition {
        Definition::Gate(file) => file,
        Definition::Spec(file) if protocol == Protocol::Suf => {
            return catalog::from_spec_file(file).map_err(Error::usage);
        }
        Definition::Spec(file) => {
            return Err(Error::usage(format!(
                "{} is an operator specification: protocol suf evaluates it, {protocol} cannot",
                file.name
            )));
        }
    };
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

/// Every protocol that can evaluate `definition`, with its gate; `shape` is that of `onehot`.
///
/// # Errors
/// When `onehot` cannot evaluate it in the shape that is named.
pub fn available(definition: &Definition, shape: Option<&str>) -> Result<Vec<Gate>, Error> {
    let of = |protocol| gate(definition, protocol, shape.filter(|_| protocol == Protocol::Onehot));
    if shape.is_some() {
        of(Protocol::Onehot)?;
    }
    Ok(Protocol::ALL.into_iter().filter_map(|protocol| of(protocol).ok()).collect())
}

/// The gates of the protocols that are named, or of all that can evaluate `definition`; `shape` is that of `onehot`.
///
/// # Errors
/// When one of them cannot evaluate it, or a shape is named and no protocol has one.
pub fn selected(
    definition: &Definition,
    protocols: &[Protocol],
    shape: Option<&str>,
) -> Result<Vec<Gate>, Error> {
    named_once("--protocols", protocols)?;
    if protocols.is_empty() {
        return available(definition, shape);
    }
    let with_shapes = protocols.contains(&Protocol::Onehot);
    let of = |protocol: &Protocol| {
        gate(definition, *protocol, shape.filter(|_| *protocol == Protocol::Onehot || !with_shapes))
    };
    protocols.iter().map(of).collect()
}

/// What a reader must know of a protocol's figures, wherever they are printed.
#[must_use]
pub fn caveat(gate: &Gate) -> Option<String> {
    let Shape::SufLut(table) = gate.shape() else { return None };
    // Half the table's entries, at scale 2^-12, on each side of 0.
    let bound = 1_u32 << (12 - (table.bits() - 1));
    Some(format!(
        "suf-lut is the published SUF row: a table on the low {} bits of x, right only for |x| < 1/{bound}",
        table.bits()
    ))
}

/// What to know of rounding where one of `gates` rounds its input by public bits. `SECURITY.md` says it in full.
#[must_use]
pub fn rounding(gates: &[Gate]) -> Option<String> {
    let rounds = |gate: &&Gate| match gate.shape() {
        Shape::Sigma(_) | Shape::SufLut(_) => false,
        Shape::Suf(gate) => gate.spec().parts().grid > 0,
        Shape::Onehot(gate) => gate.curve().shift > 0,
        Shape::Dpf(gate) => gate.curve().shift > 0,
    };
    let mut names: Vec<_> = gates.iter().filter(rounds).map(|gate| gate.protocol().name()).collect();
    names.dedup();
    (!names.is_empty()).then(|| {
        format!(
            "{}: x is rounded to the grid by bits that the parties know; where a party learns outputs, use sigma or a grid of 1",
            names.join(", ")
        )
    })
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
    fn a_file_is_known_by_its_contents() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let text = include_str!("../../../config/specs/hard-swish-quadratic.toml");
        let spec = file(&write("spec.toml", text)).unwrap();
        assert!(matches!(spec, Definition::Spec(_)), "{spec:?}");
        assert_eq!(available(&spec, None).unwrap().len(), 1);
        let message = gate(&spec, Protocol::Onehot, None).unwrap_err().to_string();
        assert!(message.contains("protocol suf"), "{message}");
        assert!((spec.exact(1 << 12).unwrap() - 4.0 / 6.0).abs() < 1e-12);
        // Without a function the specification is compared with itself.
        let alone = file(&write("alone.toml", &text.replace("function = ", "# "))).unwrap();
        assert!(alone.function().is_none() && (alone.exact(1 << 12).unwrap() - 4.0 / 6.0).abs() < 1e-3);

        let text = include_str!("../../../config/gates/mish.toml");
        assert!(matches!(file(&write("gate.toml", text)).unwrap(), Definition::Gate(_)));
        let message = file(&write("bad.toml", "name = \"x\"\nterm = 3\n")).unwrap_err().to_string();
        assert!(message.contains("bad.toml:"), "{message}");
    }

    #[test]
    fn a_shape_that_would_say_nothing_is_refused() {
        let gelu = file("gelu").unwrap();
        let message = gate(&gelu, Protocol::Dpf, Some("full")).unwrap_err().to_string();
        assert!(message.contains("dpf has no shapes") && message.contains("--shape full"), "{message}");
        assert!(selected(&gelu, &[Protocol::Suf, Protocol::Dpf], Some("full")).is_err());
        assert_eq!(selected(&gelu, &[Protocol::Suf, Protocol::Onehot], Some("full")).unwrap().len(), 2);
        // Of all protocols one has shapes; its mistakes are not passed over.
        assert_eq!(selected(&gelu, &[], Some("full")).unwrap().len(), 5);
        assert!(selected(&gelu, &[], Some("ful")).unwrap_err().to_string().contains("`full`"));
    }

    #[test]
    fn beyond_the_checked_range_a_formula_is_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("overflows.toml");
        // e^x overflows at 710, and the quotient is then no number.
        fs::write(
            &path,
            "name = \"overflows\"\nexpression = \"x * exp(x) / (1 + exp(x))\"\nfrac = 12\nshift = 6\n\
             [onehot]\ndefault = [5, 6]\n",
        )
        .unwrap();
        let gate = file(&path.display().to_string()).unwrap();
        let units = |x: f64| (x * 4096.0) as i64;
        assert!(gate.function().unwrap().eval(1000.0).is_nan());
        assert_eq!(gate.exact(units(1000.0)), Some(1000.0));
        assert_eq!(gate.exact(units(-1000.0)), Some(0.0));
        let near = gate.exact(units(2.0)).unwrap();
        assert!((near - 2.0 * 2.0_f64.exp() / (1.0 + 2.0_f64.exp())).abs() < 1e-12);

        // A specification has no lines: where its function has no value, there is nothing to compare with.
        let text = include_str!("../../../config/specs/hard-swish-quadratic.toml");
        let wild = text.replace("function = \"hard-swish\"", "expression = \"x * exp(x) / exp(x)\"");
        let path = folder.path().join("wild.toml");
        fs::write(&path, wild).unwrap();
        let spec = file(&path.display().to_string()).unwrap();
        assert_eq!(spec.exact(units(1000.0)), None);
        assert_eq!(spec.exact(units(1.5)), Some(1.5));
    }

    #[test]
    fn the_published_row_carries_its_range() {
        for (name, bound) in [("gelu", "1/32"), ("silu", "1/8")] {
            let gate = gate(&file(name).unwrap(), Protocol::SufLut, None).unwrap();
            assert!(caveat(&gate).unwrap().ends_with(bound));
        }
    }
}
