//! Operations on whole wires, whose values stay on the GPU from node to node. The host does what has no kernel here, see
//! [`crate::hosted`]; both agree bit for bit.

mod comparison;
mod dealer;
mod dealt_rows;
mod lane;
mod local;
mod masks;
mod party;
mod private;
mod round;
mod rows;
mod tasks;
mod value;
mod weights;

use std::collections::HashMap;

pub(crate) use dealer::deal;
pub(crate) use lane::start;
pub(crate) use party::stage;
use suf_gate::{
    BackendError,
    ops::row_exponent::powers::EXTRA_BITS,
    rotation::{self, mantissa::SERIES},
};
pub(crate) use tasks::{Entering, How, Unpacking};
pub(crate) use value::DeviceValue;
pub(crate) use weights::DeviceWeights;

use crate::{
    backend::Shared,
    driver::{CudaKernel, Module},
    header,
};

/// The loaded kernels.
pub(crate) struct Operations {
    /// Keeps their code.
    _module: Module,
    kernels: HashMap<&'static str, CudaKernel>,
}

impl Operations {
    /// Compiles and loads them.
    pub(crate) fn load(shared: &Shared) -> Result<Self, BackendError> {
        let module = shared.load(source().text())?;
        let kernels = tasks::KERNELS.iter().map(|name| Ok((*name, module.kernel(name)?)));
        let kernels = kernels.collect::<Result<_, BackendError>>()?;
        Ok(Self { _module: module, kernels })
    }

    /// The kernel `name`, one of [`tasks::KERNELS`].
    fn kernel(&self, name: &str) -> CudaKernel {
        self.kernels[name]
    }
}

/// The kernels' source.
pub(crate) fn source() -> header::Source {
    let mut source = header::Source::new();
    let numbers = [
        ("UNPACK_ADD", tasks::How::Add as u32),
        ("UNPACK_SUBTRACT", tasks::How::Subtract as u32),
        ("LOCAL_ADD", tasks::What::Add as u32),
        ("LOCAL_SHIFT", tasks::What::Shift as u32),
        ("LOCAL_DROP", tasks::What::Drop as u32),
        ("LOCAL_GAIN", tasks::What::Gain as u32),
        ("LOCAL_SUBTRACT_ROW", tasks::What::SubtractRow as u32),
        ("PAD_QUOTIENT", tasks::PadOf::Quotient as u32),
        ("PAD_TOP", tasks::PadOf::Top as u32),
        ("PRODUCT_SCORES", tasks::Kind::Scores as u32),
        ("PRODUCT_MIX", tasks::Kind::Mix as u32),
        ("SCALE_MU_NU", 0),
        ("SCALE_C_NU", 1),
        ("SCALE_C_MU", 2),
    ];
    numbers.into_iter().for_each(|(name, number)| source.define(name, number));
    source.define("FRACTION", rotation::FRACTION);
    source.define("EXTRA_BITS", EXTRA_BITS);
    source.define("MANTISSA_TERMS", SERIES.len());
    source.words("MANTISSA_SERIES", "u64", SERIES.iter().map(|term| format!("{term}ULL")));
    let codes = [
        include_str!("../../cu/operations.cu"),
        include_str!("../../cu/exponent.cu"),
        include_str!("../../cu/comparison.cu"),
    ];
    codes.into_iter().for_each(|code| source.code(code));
    source
}
