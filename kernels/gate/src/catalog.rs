//! Gates by name: from a gate file, a protocol and the name of a shape to a [`Gate`].

use std::collections::HashSet;

use crate::{
    Gate, GateError, Protocol, Shape, dpf::Dpf, gatefile::GateFile, onehot::Onehot, ring::FRAC, sigma,
    sigma::Sigma, spec::SpecFile, suf::Suf, suf_lut::SufLut,
};

/// The gate of `file` under `protocol`. `shape` is the name of one of the file's shapes for that protocol; none means the
/// default.
///
/// # Errors
/// When the file has no such shape or the protocol cannot evaluate the function.
pub fn gate(file: &GateFile, protocol: Protocol, shape: Option<&str>) -> Result<Gate, GateError> {
    if let (Some(shape), true) = (shape, protocol != Protocol::Onehot) {
        return Err(GateError::Unknown {
            what: "shape",
            name: shape.into(),
            known: format!("none for {protocol}, which has one shape"),
        });
    }
    let missing = || GateError::Shape(format!("gate {} has no {protocol} shape in its file", file.name()));
    let made = match protocol {
        Protocol::Sigma => {
            let clip = file.sigma_clip_bits.ok_or_else(missing)?;
            if (file.curve.frac, file.curve.shift) != (FRAC, sigma::SHIFT) {
                return Err(GateError::Shape("sigma: frac is 12 and shift 6, as published".into()));
            }
            Shape::Sigma(Sigma::of(&file.activation, clip)?)
        }
        Protocol::SufLut => {
            Shape::SufLut(SufLut::of(&file.activation, file.suf_lut_bits.ok_or_else(missing)?)?)
        }
        Protocol::Onehot => {
            let name = shape.unwrap_or(crate::gatefile::DEFAULT_SHAPE);
            let digits = file.onehot.get(name).ok_or_else(|| GateError::Unknown {
                what: "shape",
                name: name.into(),
                known: file.onehot.keys().cloned().collect::<Vec<_>>().join(", "),
            })?;
            Shape::Onehot(Onehot::new(file.curve.clone(), digits.clone())?)
        }
        Protocol::Dpf => Shape::Dpf(Dpf::new(file.curve.clone(), file.dpf_domain_bits)?),
        Protocol::Suf => Shape::Suf(Suf::of(&file.curve, file.suf_domain_bits)?),
    };
    Gate::new(file.name(), made)
}

/// The gate of an operator specification, which protocol `suf` evaluates.
///
/// # Errors
/// When the specification does not compile, or is not in the fixed point of the wire.
pub fn from_spec_file(file: &SpecFile) -> Result<Gate, GateError> {
    if file.frac != FRAC {
        return Err(GateError::Shape(format!(
            "{}: frac is {}, but inputs and outputs have {FRAC} fractional bits",
            file.name, file.frac
        )));
    }
    Gate::new(&file.name, Shape::Suf(Suf::new(file.spec.clone())?))
}

/// Every gate that the built-in files describe, for listings and tests.
pub fn builtin() -> impl Iterator<Item = Gate> {
    GateFile::builtin_names().flat_map(of_file)
}

/// The gates of the built-in file `name`, under every protocol that can evaluate it and in each of its shapes.
fn of_file(name: &str) -> impl Iterator<Item = Gate> + use<> {
    let file = GateFile::builtin(name).expect("the built-in files parse");
    let shapes: Vec<_> = Protocol::ALL
        .into_iter()
        .flat_map(|protocol| match protocol {
            Protocol::Onehot => file.onehot.keys().map(|shape| (protocol, Some(shape.clone()))).collect(),
            _ => vec![(protocol, None)],
        })
        .collect();
    shapes.into_iter().filter_map(move |(protocol, shape)| gate(&file, protocol, shape.as_deref()).ok())
}

/// Gates that an operator allows, by their digests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedGates {
    digests: HashSet<[u8; 32]>,
}

impl AllowedGates {
    /// The gates that `entries` name. An entry is a digest of 64 hexadecimal digits, as `suf describe` prints it, or
    /// the name of a built-in gate. A name allows the gate under every protocol and in every shape of its file.
    ///
    /// # Errors
    /// The first entry that is neither.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, GateError> {
        let mut digests = HashSet::new();
        for entry in entries {
            if GateFile::builtin_names().any(|name| name == entry) {
                digests.extend(of_file(entry).map(|gate| *gate.digest()));
                continue;
            }
            let digest = blake3::Hash::from_hex(entry).map_err(|_| GateError::Unknown {
                what: "gate",
                name: entry.into(),
                known: format!(
                    "{}, or the 64 hexadecimal digits of a digest, as `suf describe` prints it",
                    GateFile::builtin_names().collect::<Vec<_>>().join(", ")
                ),
            })?;
            digests.insert(*digest.as_bytes());
        }
        Ok(Self { digests })
    }

    /// Whether the gate with this digest is allowed.
    #[must_use]
    pub fn allows(&self, digest: &[u8; 32]) -> bool {
        self.digests.contains(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::WIRE;

    #[test]
    fn allowed_gates_are_named_or_given_by_digest() {
        let gates: Vec<_> = builtin().collect();
        let mish = gates.iter().find(|gate| gate.name() == "mish").expect("a built-in gate");
        let hex = blake3::Hash::from_bytes(*mish.digest()).to_hex();
        let allowed = AllowedGates::parse(["gelu", hex.as_str()]).expect("both are known");
        for gate in &gates {
            let expected = gate.name() == "gelu" || gate == mish;
            assert_eq!(allowed.allows(gate.digest()), expected, "{} {}", gate.protocol(), gate.name());
        }
        assert!(!AllowedGates::default().allows(mish.digest()), "an empty list allows nothing");
        for wrong in ["gelo", "", &hex[1..]] {
            let error = AllowedGates::parse([wrong]).expect_err("neither a name nor a digest").to_string();
            assert!(error.contains(&format!("'{wrong}'")) && error.contains("suf describe"), "{error}");
        }
    }

    fn quadratic() -> SpecFile {
        let text = include_str!("../../../config/specs/hard-swish-quadratic.toml");
        SpecFile::parse("hard-swish-quadratic.toml", text).expect("a specification")
    }

    #[test]
    fn a_specification_file_is_a_gate_whose_client_drops_the_low_bits() {
        let gate = from_spec_file(&quadratic()).expect("a gate");
        assert_eq!((gate.name(), gate.protocol()), ("hard-swish-quadratic", Protocol::Suf));
        assert_eq!(Gate::decode(&gate.encode()).expect("its own encoding"), gate);
        let x = 1 << 12;
        let Shape::Suf(suf) = gate.shape() else { panic!("not a suf gate") };
        let [y, _] = suf.spec().reference(x);
        let share = 0x1234_5678_9ABC;
        let output = gate.output(share, WIRE.sub(WIRE.encode(y), share));
        assert_eq!(gate.reference(x), [output; 2]);
        // 1 * 4 / 6, up to the coefficients' rounding.
        assert!((output as f64 / 4096.0 - 2.0 / 3.0).abs() < 1e-3, "{output}");
    }

    #[test]
    fn another_fixed_point_is_refused() {
        let error = from_spec_file(&SpecFile { frac: 10, ..quadratic() }).expect_err("10 fractional bits");
        assert!(error.to_string().contains("frac is 10"), "{error}");
    }
}
