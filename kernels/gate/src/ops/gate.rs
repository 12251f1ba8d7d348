//! A gate on each element of a wire.

use super::{OpDef, only};
use crate::{
    Cost, Form, Gate, KeyShape, Segment, Wire,
    ring::{FRAC, WIRE},
};

impl OpDef for Gate {
    fn name(&self) -> String {
        format!("{} {}", self.name(), self.protocol())
    }

    fn wire(&self, inputs: &[Wire]) -> Result<Option<Wire>, String> {
        let Wire { shape, ring, frac, form } = only(inputs)?;
        if (ring, frac) != (WIRE, FRAC) {
            return Err(format!(
                "it takes elements of {} bits, {FRAC} of them fractional, not of {} and {frac}",
                WIRE.bits(),
                ring.bits()
            ));
        }
        match (form, self.takes_shares()) {
            (Form::Masked, false) | (Form::Shared, true) => {
                Ok(Some(Wire { shape, ring, frac, form: Form::Masked }))
            }
            (Form::Masked, true) => Err("it takes a shared wire".into()),
            (Form::Shared, false) => Err("it takes a masked wire".into()),
        }
    }

    fn key_shape(&self) -> &KeyShape {
        Gate::key_shape(self)
    }

    fn exchanges(&self) -> &[Vec<Segment>] {
        Gate::exchanges(self)
    }

    fn declared(&self) -> Cost {
        Gate::declared(self)
    }
}
